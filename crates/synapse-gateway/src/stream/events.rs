//! Streams of events: the preamble is held until content comes, then whole events pass, untouched
//! but for the usage chunk that only the gateway asked for. A stream that breaks ends with an error
//! event, never as if it were complete.

use std::{
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use prometheus_client::metrics::histogram::Histogram;
use synapse_core::error::{Fault, FaultKind};
use synapse_dialect::{
    openai::{
        error,
        event::{EventKind, classify},
        stream::{Observer, Progress},
    },
    sse::{self, Framer},
};
use tokio::time::Instant;

use super::{
    Context,
    limits::{Limits, TOO_LONG},
    max_event, truncated,
};
use crate::{
    audit::End,
    backend::{BackendError, ReplyStream},
    drain::Drain,
    inspect::{Words, reply::Guard},
    route::endpoint::Lease,
};

/// After the last event, the engine has this long to end its reply properly, so that its connection
/// can be used again.
const LINGER: Duration = Duration::from_millis(50);
/// Pieces without a whole event that are taken in one turn.
const MAX_PIECES: usize = 64;
const NO_EVENT: &str = "The engine sent something that is no event of this stream.";
/// What is ready is sent together, up to this size: one write instead of many.
const MAX_WRITE: usize = 32 * 1024;

/// A stream of events that has begun.
pub(crate) struct EventFlow {
    upstream: ReplyStream,
    framer: Framer,
    observer: Observer,
    guard: Option<Box<Guard>>,
    words: Words,
    held: Bytes,
    lease: Option<Lease>,
    limits: Limits,
    gaps: Histogram,
    last_sent: Option<Instant>,
    fault: Option<FaultKind>,
    ended: bool,
}

/// How the upstream's stream ended.
enum Step {
    End,
    Broken(FaultKind, &'static str),
}

impl EventFlow {
    /// Holds what comes until there is content.
    pub(super) async fn begin(
        context: &Context,
        mut upstream: ReplyStream,
        drain: &Arc<Drain>,
        gaps: impl FnOnce() -> Histogram,
    ) -> Result<Self, Fault> {
        let limit = max_event(context.operation);
        let mut framer = Framer::new(limit);
        let mut held = BytesMut::new();
        let mut observer = Observer::new(context.operation, context.hide_usage, context.choices);
        loop {
            let Some(frame) = upstream.frame().await else {
                return Err(Fault::new(
                    FaultKind::UpstreamTruncated,
                    "The engine's stream ended before any content.",
                ));
            };
            let Ok(data) = frame.map_err(truncated)?.into_data() else { continue };
            let run =
                framer.push(data).map_err(|e| invalid("The engine sent an endless event.").source(e))?;
            // Of a run with a failure in it, only what comes before is kept.
            let kept = context.words.events_without_instructions(observer.observe(run));
            let content = has_content(context, &kept)?;
            held.extend_from_slice(&kept);
            if content {
                break;
            }
            match observer.progress() {
                Progress::Failed(message) => return Err(Fault::new(FaultKind::Upstream, message.clone())),
                Progress::Broken => return Err(invalid(NO_EVENT)),
                Progress::Open | Progress::Finished | Progress::Done => {}
            }
            if held.len() > limit {
                return Err(invalid("The engine sent no content in a long stream."));
            }
        }
        let mut guard = context.words.inspection.as_ref().and_then(|i| Guard::new(i, context.operation));
        let mut held = held.freeze();
        if let (Some(guard), Some(inspection)) = (&mut guard, &context.words.inspection) {
            inspection.state().usage = observer.usage();
            held = guard.pass(held)?;
        }
        Ok(Self {
            upstream,
            framer,
            observer,
            guard,
            words: context.words.clone(),
            held,
            lease: None,
            limits: Limits::new(context, drain),
            gaps: gaps(),
            last_sent: None,
            fault: None,
            ended: false,
        })
    }

    pub(super) fn hold(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// What is known at the end.
    pub(crate) fn end(&self, end: &mut End) {
        end.fault = self.fault;
        end.usage = self.observer.usage();
        end.events = self.observer.events();
        end.finish_reason = self.observer.finish_reason().map(str::to_owned);
    }

    /// The next bytes for the caller. Whatever the engine has ready is looked at and sent as one.
    pub(crate) fn poll_bytes(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Bytes>> {
        if self.ended {
            return self.poll_linger(cx).map(|()| None);
        }
        let now = Instant::now();
        if self.limits.is_late(now) {
            return Poll::Ready(Some(self.break_off(FaultKind::UpstreamTimeout, TOO_LONG)));
        }
        let mut out = Coalesced::from(std::mem::take(&mut self.held));
        if !out.is_empty()
            && let Some(last) = self.conclude_run()
        {
            out.push(last);
            return Poll::Ready(Some(out.take()));
        }
        let (ready, end) = self.gather(cx);
        if !ready.is_empty() {
            self.limits.progressed(now);
        }
        if let Some(last) = self.advance(ready, end, &mut out) {
            out.push(last);
        } else if out.is_empty() {
            let (kind, message) = ready!(self.limits.poll(cx, now));
            out.push(self.break_off(kind, message));
        }
        if out.is_empty() {
            return self.poll_linger(cx).map(|()| None);
        }
        self.note_gap(now);
        Poll::Ready(Some(out.take()))
    }

    /// Puts what came into `out`; gives the bytes that close the stream, if it is over.
    fn advance(&mut self, ready: Bytes, end: Option<Step>, out: &mut Coalesced) -> Option<Bytes> {
        if !ready.is_empty() {
            match self.framer.push(ready) {
                Ok(run) if run.is_empty() => {}
                Ok(run) => {
                    let run = self.words.events_without_instructions(self.observer.observe(run));
                    match self.guarded(run) {
                        Ok(run) => out.push(run),
                        Err(fault) => return Some(self.refuse(&fault)),
                    }
                    if let Some(last) = self.conclude_run() {
                        return Some(last);
                    }
                }
                Err(_) => {
                    let message = "The engine sent an endless event.";
                    return Some(self.break_off(FaultKind::UpstreamInvalidResponse, message));
                }
            }
        }
        Some(match end? {
            Step::End => self.conclude_end(),
            Step::Broken(kind, message) => self.break_off(kind, message),
        })
    }

    /// What of a run may go out.
    fn guarded(&mut self, run: Bytes) -> Result<Bytes, Fault> {
        match &mut self.guard {
            Some(guard) => guard.pass(run),
            None => Ok(run),
        }
    }

    /// What the engine has ready, and whether its stream has ended with that.
    fn gather(&mut self, cx: &mut TaskContext<'_>) -> (Bytes, Option<Step>) {
        let mut ready = Coalesced::from(Bytes::new());
        for _ in 0..MAX_PIECES {
            match self.upstream.as_mut().poll_frame(cx) {
                Poll::Pending => return (ready.take(), None),
                Poll::Ready(None) => return (ready.take(), Some(Step::End)),
                Poll::Ready(Some(Err(error))) => return (ready.take(), Some(self.ended_by(&error))),
                Poll::Ready(Some(Ok(frame))) => ready.push(frame.into_data().unwrap_or_default()),
            }
            if ready.len() >= MAX_WRITE {
                break;
            }
        }
        // An engine that never pauses gets no more than its turn.
        cx.waker().wake_by_ref();
        (ready.take(), None)
    }

    fn ended_by(&self, error: &BackendError) -> Step {
        // Nothing is missing but the end marker.
        if self.observer.is_whole() {
            return Step::End;
        }
        tracing::debug!(%error, "a stream broke");
        Step::Broken(FaultKind::UpstreamTruncated, "The engine's stream broke before it was complete.")
    }

    /// Whether the reply is over, well or not; at most the engine's own end is still to come.
    pub(crate) const fn is_over(&self) -> bool {
        self.ended
    }

    /// Waits a moment for the engine's end. What it may still send is of no interest.
    fn poll_linger(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        if self.fault.is_some() {
            return Poll::Ready(());
        }
        for _ in 0..MAX_PIECES {
            match self.upstream.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.limits.poll_timer(cx),
            }
        }
        Poll::Ready(())
    }

    fn note_gap(&mut self, now: Instant) {
        if let Some(last) = self.last_sent.replace(now) {
            self.gaps.observe(now.duration_since(last).as_secs_f64());
        }
    }

    /// After a run: the bytes that close the stream, if it is over.
    fn conclude_run(&mut self) -> Option<Bytes> {
        match self.observer.progress() {
            Progress::Failed(message) => {
                let message = self.words.seen(message).unwrap_or_else(|| message.clone());
                Some(self.break_off(FaultKind::Upstream, &message))
            }
            Progress::Done => {
                self.finish();
                Some(Bytes::new())
            }
            Progress::Broken => Some(self.break_off(FaultKind::UpstreamInvalidResponse, NO_EVENT)),
            Progress::Open | Progress::Finished => None,
        }
    }

    /// After the upstream's end: whether that was the reply's end, too.
    fn conclude_end(&mut self) -> Bytes {
        let rest = self.framer.finish();
        // A last event may lack its blank line.
        let mut last =
            if rest.is_empty() { rest } else { self.observer.observe([&rest[..], b"\n\n"].concat().into()) };
        match self.guarded(last) {
            Ok(passed) => last = passed,
            Err(fault) => return self.refuse(&fault),
        }
        if matches!(self.observer.progress(), Progress::Failed(_) | Progress::Broken) {
            let kept = last;
            let error = self.conclude_run().unwrap_or_default();
            return [&kept[..], &error[..]].concat().into();
        }
        if !self.observer.may_end() {
            return self.break_off(
                FaultKind::UpstreamTruncated,
                "The engine's stream ended before it was complete.",
            );
        }
        if let Some(guard) = &mut self.guard {
            match guard.finish() {
                Ok(rest) => last = [&last[..], &rest[..]].concat().into(),
                Err(fault) => return self.refuse(&fault),
            }
        }
        if self.observer.progress() != &Progress::Done {
            last = [&last[..], self.observer.end_marker()].concat().into();
        }
        self.finish();
        last
    }

    fn finish(&mut self) {
        self.ended = true;
        self.limits.shorten(LINGER);
        if let Some(mut lease) = self.lease.take() {
            lease.success(std::time::Instant::now());
        }
    }

    fn break_off(&mut self, kind: FaultKind, message: &str) -> Bytes {
        let fault = Fault::new(kind, message.to_owned());
        let event = self.refuse(&fault);
        // A text that breaks off has ended: what waited is no beginning any more.
        match self.guard.take().map(|mut guard| guard.finish()) {
            Some(Ok(rest)) if !rest.is_empty() => [&rest[..], &event[..]].concat().into(),
            _ => event,
        }
    }

    /// Ends the stream with an error; what waits stays where it is.
    fn refuse(&mut self, fault: &Fault) -> Bytes {
        self.ended = true;
        self.fault = Some(fault.kind);
        if let Some(mut lease) = self.lease.take().filter(|_| self.limits.blames_backend(fault.kind)) {
            match fault.kind {
                FaultKind::DlpResponseBlocked | FaultKind::DlpFailed => lease.proper_refusal(),
                _ => lease.failure(),
            }
        }
        self.observer.error_event(fault)
    }
}

fn invalid(message: &'static str) -> Fault {
    Fault::new(FaultKind::UpstreamInvalidResponse, message)
}

/// Whether there is content in a run.
fn has_content(context: &Context, run: &[u8]) -> Result<bool, Fault> {
    for event in sse::events(run) {
        match classify(context.operation, event) {
            EventKind::Preamble => {}
            EventKind::Content => return Ok(true),
            EventKind::End => {
                return Err(Fault::new(
                    FaultKind::UpstreamTruncated,
                    "The engine's stream ended before any content.",
                ));
            }
            EventKind::Malformed => return Err(invalid("The engine sent an event that is not JSON.")),
            EventKind::Error => {
                let data = sse::Event::parse(event).data.unwrap_or_default();
                return Err(Fault::new(FaultKind::Upstream, error::read(&data).message));
            }
        }
    }
    Ok(false)
}

/// Pieces put together; a single one is not copied.
struct Coalesced {
    first: Bytes,
    more: BytesMut,
}

impl From<Bytes> for Coalesced {
    fn from(first: Bytes) -> Self {
        Self { first, more: BytesMut::new() }
    }
}

impl Coalesced {
    fn len(&self) -> usize {
        self.first.len() + self.more.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn push(&mut self, piece: Bytes) {
        if self.is_empty() {
            self.first = piece;
        } else if !piece.is_empty() {
            if self.more.is_empty() {
                self.more.reserve(MAX_WRITE.min(8 * (self.first.len() + piece.len())));
                self.more.extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.more.extend_from_slice(&piece);
        }
    }

    fn take(self) -> Bytes {
        if self.more.is_empty() { self.first } else { self.more.freeze() }
    }
}
