//! Replies on their way to the caller: polled, not spawned, with back-pressure by construction. A
//! reply counts as begun once it has content; until then a failure is a reason to try elsewhere.

pub mod body;
mod events;
mod limits;
mod pending;
mod raw;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{HeaderMap, header::CONTENT_TYPE};
use prometheus_client::metrics::histogram::Histogram;
use synapse_core::{
    config::snapshot::Timeouts,
    error::{Fault, FaultKind},
    operation::Operation,
    usage::Usage,
};
use synapse_dialect::{json, openai, peek};
use tokio::time::Instant;

use crate::{
    backend::{BackendError, ReplyStream},
    drain::Drain,
    inspect::{Inspection, Words, reply::has_text},
    route::endpoint::Lease,
};
pub(crate) use events::EventFlow;
pub(crate) use limits::expiry;
pub(crate) use pending::{PendingFlow, PendingReply};
pub(crate) use raw::RawFlow;

/// Replies up to this size are read whole before the first byte goes out, so that one that breaks
/// can be replaced.
const MAX_BUFFERED: usize = 4 * 1024 * 1024;

/// Replies that are searched for sensitive data are read whole up to this size; longer ones are failures.
const MAX_SEARCHED: usize = 32 * 1024 * 1024;

/// The longest single event of a stream, in bytes. Pictures and whole responses come in one event.
const fn max_event(operation: Operation) -> usize {
    match operation {
        Operation::Responses | Operation::Image | Operation::Speech => 16 * 1024 * 1024,
        _ => 1024 * 1024,
    }
}

/// What a reply's handling depends on.
pub(crate) struct Context {
    pub(crate) operation: Operation,
    /// Whether the usage chunk was asked for by the gateway, not by the caller.
    pub(crate) hide_usage: bool,
    /// How many choices a complete reply has.
    pub(crate) choices: u32,
    /// What the caller may see of it.
    pub(crate) words: Words,
    pub(crate) timeouts: Timeouts,
    pub(crate) deadline: Instant,
    /// Whether the deadline comes before the backend has had all of its time.
    pub(crate) is_cut_short: bool,
}

/// A reply that has begun.
pub(crate) enum Source {
    /// All of it.
    Whole(Whole),
    /// Server-sent events.
    Events(Box<EventFlow>),
    /// Anything else, as it comes.
    Raw(Box<RawFlow>),
}

/// A reply in memory.
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    pub(crate) usage: Option<Usage>,
    pub(crate) finish_reason: Option<String>,
}

impl Source {
    /// Ties the reply to its attempt: while it flows, it counts as in flight, and its end is what
    /// the breaker learns.
    pub(crate) fn with_lease(mut self, mut lease: Lease, now: std::time::Instant) -> Self {
        match &mut self {
            Self::Whole(_) => lease.success(now),
            Self::Events(flow) => flow.hold(lease),
            Self::Raw(flow) => flow.hold(lease),
        }
        self
    }
}

/// Waits until the reply has begun.
///
/// # Errors
/// When it breaks, reports an error or ends before that.
pub(crate) async fn begin(
    context: &Context,
    headers: &HeaderMap,
    body: ReplyStream,
    drain: &Arc<Drain>,
    gaps: impl FnOnce() -> Histogram,
) -> Result<Source, Fault> {
    let kind =
        headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    if kind.starts_with("text/event-stream") {
        let flow = EventFlow::begin(context, body, drain, gaps).await?;
        return Ok(Source::Events(Box::new(flow)));
    }
    let is_json = kind.starts_with("application/json") || kind.ends_with("+json");
    if kind.starts_with("text/html") || (!is_json && expects_json(context.operation)) {
        return Err(Fault::new(FaultKind::UpstreamInvalidResponse, "The engine's answer is not JSON.")
            .source(format!("content type `{kind}`")));
    }
    if is_json {
        begin_json(context, body, drain).await
    } else if is_written(context.operation, &kind)
        && let Some(inspection) = context.searches()
    {
        begin_text(context, inspection, body).await
    } else {
        RawFlow::begin(context, body, BytesMut::new(), drain).await
    }
}

/// Whether a reply that is not JSON is something to read. Engines call transcripts many things.
fn is_written(operation: Operation, kind: &str) -> bool {
    let spoken = ["audio/", "video/", "image/"].iter().any(|other| kind.starts_with(other));
    kind.starts_with("text/")
        || (matches!(operation, Operation::Transcription | Operation::Translation) && !spoken)
}

/// Speech answers with sound, transcriptions also with text or subtitles.
const fn expects_json(operation: Operation) -> bool {
    !matches!(
        operation,
        Operation::Speech | Operation::Transcription | Operation::Translation | Operation::Image
    )
}

impl Context {
    /// What the texts of the reply are searched under, if they are.
    fn searches(&self) -> Option<&Arc<Inspection>> {
        let inspection = self.words.inspection.as_ref().filter(|_| has_text(self.operation))?;
        inspection.searches_replies().then_some(inspection)
    }
}

/// A reply in memory, or the beginning of one that is too long for that.
enum Gathered {
    Whole(Bytes),
    Beginning(BytesMut, ReplyStream),
}

async fn gather(context: &Context, mut body: ReplyStream, limit: usize) -> Result<Gathered, Fault> {
    let mut whole = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(context.timeouts.idle, body.frame());
        // A plain reply may take its time before the first byte, but not in the middle.
        let frame = if whole.is_empty() { Ok(frame.into_inner().await) } else { frame.await };
        match frame {
            Err(_) => {
                return Err(Fault::new(FaultKind::UpstreamTimeout, "The engine stopped in the middle."));
            }
            Ok(None) => break,
            Ok(Some(Err(error))) => return Err(truncated(error)),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    whole.extend_from_slice(&data);
                }
            }
        }
        if whole.len() > limit {
            return Ok(Gathered::Beginning(whole, body));
        }
    }
    Ok(Gathered::Whole(whole.freeze()))
}

/// A text, such as a transcript or subtitles, that is to be searched.
async fn begin_text(
    context: &Context,
    inspection: &Arc<Inspection>,
    body: ReplyStream,
) -> Result<Source, Fault> {
    match gather(context, body, MAX_SEARCHED).await? {
        Gathered::Whole(bytes) => {
            let size = bytes.len();
            let bytes = inspection.search(size, move |this| this.search_reply_text(bytes)).await?;
            Ok(Source::Whole(Whole { bytes, usage: None, finish_reason: None }))
        }
        Gathered::Beginning(..) => Err(too_long_to_search()),
    }
}

fn too_long_to_search() -> Fault {
    let message = "The engine's answer is too long to be searched for sensitive data.";
    Fault::new(FaultKind::DlpFailed, message)
}

async fn begin_json(context: &Context, body: ReplyStream, drain: &Arc<Drain>) -> Result<Source, Fault> {
    let inspection = context.searches();
    let limit = if inspection.is_some() { MAX_SEARCHED } else { MAX_BUFFERED };
    let bytes = match gather(context, body, limit).await? {
        Gathered::Whole(bytes) => bytes,
        Gathered::Beginning(..) if inspection.is_some() => return Err(too_long_to_search()),
        Gathered::Beginning(whole, body) => return RawFlow::begin(context, body, whole, drain).await,
    };
    check_json(&bytes)?;
    let bytes = context.words.without_instructions(bytes);
    let usage = peek::usage(&bytes);
    let finish_reason = peek::finish_reasons(&bytes).last().map(str::to_owned);
    let bytes = match inspection {
        Some(inspection) => {
            // The engine has worked, whatever the caller gets of it.
            inspection.state().usage = usage;
            let size = bytes.len();
            inspection.search(size, move |this| this.search_reply(&bytes)).await?
        }
        None => bytes,
    };
    Ok(Source::Whole(Whole { bytes, usage, finish_reason }))
}

/// A reply that is cut, garbled, or an error in the clothes of a success is none. Of a very large one,
/// only how it begins and ends is looked at.
fn check_json(bytes: &[u8]) -> Result<(), Fault> {
    const MAX_PARSED: usize = 64 * 1024;
    let invalid = |what: &'static str| {
        Err(Fault::new(
            FaultKind::UpstreamInvalidResponse,
            "The engine's answer is not the JSON that it should be.",
        )
        .source(what))
    };
    let text = bytes.trim_ascii();
    let framed = matches!((text.first(), text.last()), (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')));
    if !framed {
        return invalid("cut or garbled");
    }
    if text.len() <= MAX_PARSED && json::check(text).is_err() {
        return invalid("it cannot be parsed");
    }
    if peek::may_have_error(bytes) && openai::error::is_error(bytes) {
        return Err(Fault::new(FaultKind::Upstream, openai::error::read(bytes).message));
    }
    Ok(())
}

/// The beginning of a body, up to `limit` bytes.
pub(crate) async fn read_at_most(mut body: ReplyStream, limit: usize) -> Result<Bytes, BackendError> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data[..data.len().min(limit - read.len())]);
        }
        if read.len() == limit {
            break;
        }
    }
    Ok(read.freeze())
}

fn truncated(error: BackendError) -> Fault {
    Fault::new(FaultKind::UpstreamTruncated, "The engine's answer ended before it was complete.")
        .source(error)
}
