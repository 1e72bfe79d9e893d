//! Streams of events: the preamble is held until content comes, then whole events pass, untouched
//! but for the usage chunk that only the gateway asked for. A stream that breaks ends with an error
//! event, never as if it were complete.

use std::{
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use prometheus_client::metrics::histogram::Histogram;
use synapse_core::error::{Fault, FaultKind};
use synapse_dialect::{
    openai::{
        error,
        stream::{EventKind, Observer, Progress, classify},
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
    held: Bytes,
    lease: Option<Lease>,
    limits: Limits,
    gaps: Histogram,
    last_sent: Option<Instant>,
    fault: Option<FaultKind>,
    ended: bool,
}

/// What the upstream has ready.
enum Step {
    Run(Bytes),
    End,
    Broken(FaultKind, &'static str),
}

impl EventFlow {
    /// Holds what comes until there is content.
    pub(super) async fn begin(
        context: &Context,
        mut upstream: ReplyStream,
        drain: &Drain,
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
            let kept = observer.observe(run);
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
        Ok(Self {
            upstream,
            framer,
            observer,
            held: held.freeze(),
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
        end.finish_reason = self.observer.finish_reason().map(str::to_owned);
    }

    /// The next bytes for the caller.
    pub(crate) fn poll_bytes(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Bytes>> {
        if self.ended {
            return self.poll_linger(cx).map(|()| None);
        }
        if self.limits.is_late() {
            return Poll::Ready(Some(self.break_off(FaultKind::UpstreamTimeout, TOO_LONG)));
        }
        let mut out = Coalesced::from(std::mem::take(&mut self.held));
        if !out.is_empty()
            && let Some(last) = self.conclude_run()
        {
            out.push(last);
            return Poll::Ready(Some(out.take()));
        }
        while out.len() < MAX_WRITE {
            match self.poll_step(cx) {
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(Step::Run(run)) => {
                    out.push(self.observer.observe(run));
                    if let Some(last) = self.conclude_run() {
                        out.push(last);
                        break;
                    }
                }
                Poll::Ready(Step::End) => {
                    out.push(self.conclude_end());
                    break;
                }
                Poll::Ready(Step::Broken(kind, message)) => {
                    out.push(self.break_off(kind, message));
                    break;
                }
            }
        }
        if out.is_empty() {
            return self.poll_linger(cx).map(|()| None);
        }
        self.note_gap();
        Poll::Ready(Some(out.take()))
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

    fn note_gap(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last_sent.replace(now) {
            self.gaps.observe(now.duration_since(last).as_secs_f64());
        }
    }

    /// After a run: the bytes that close the stream, if it is over.
    fn conclude_run(&mut self) -> Option<Bytes> {
        match self.observer.progress() {
            Progress::Failed(message) => {
                let message = message.clone();
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
            lease.success();
        }
    }

    fn break_off(&mut self, kind: FaultKind, message: &str) -> Bytes {
        self.ended = true;
        self.fault = Some(kind);
        if let Some(mut lease) = self.lease.take().filter(|_| kind != FaultKind::ShuttingDown) {
            lease.failure();
        }
        self.observer.error_event(kind, message)
    }

    fn poll_step(&mut self, cx: &mut TaskContext<'_>) -> Poll<Step> {
        for _ in 0..MAX_PIECES {
            return match self.upstream.as_mut().poll_frame(cx) {
                Poll::Ready(None) => Poll::Ready(Step::End),
                // Nothing is missing but the end marker.
                Poll::Ready(Some(Err(_))) if self.observer.is_whole() => Poll::Ready(Step::End),
                Poll::Ready(Some(Err(error))) => Poll::Ready(broken(&error)),
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if self.limits.is_late() {
                        return Poll::Ready(Step::Broken(FaultKind::UpstreamTimeout, TOO_LONG));
                    }
                    self.limits.progressed();
                    match self.framer.push(data) {
                        Ok(run) if run.is_empty() => continue,
                        Ok(run) => Poll::Ready(Step::Run(run)),
                        Err(_) => Poll::Ready(Step::Broken(
                            FaultKind::UpstreamInvalidResponse,
                            "The engine sent an endless event.",
                        )),
                    }
                }
                Poll::Pending => self.limits.poll(cx).map(|(kind, message)| Step::Broken(kind, message)),
            };
        }
        // An engine that sends crumbs without end gets no more than its turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn broken(error: &BackendError) -> Step {
    tracing::debug!(%error, "a stream broke");
    Step::Broken(FaultKind::UpstreamTruncated, "The engine's stream broke before it was complete.")
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
