//! The reply's head, and the choice of its body.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{
    HeaderMap, Response,
    header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName, HeaderValue},
};
use synapse_core::{
    error::{Fault, FaultKind},
    id::RequestId,
};

use super::{
    attempt::{Attempts, Outcome},
    journal::Accepted,
};
use crate::{
    audit::Record,
    gateway::{Gateway, Live},
    stream::{
        self, PendingFlow, PendingReply, Source,
        body::{Bytestream, ReplyBody},
    },
};

/// After this time a stream's headers go out, content or not, so that callers and proxies wait on.
const EARLY_HEAD: Duration = Duration::from_secs(30);

const MODEL: HeaderName = HeaderName::from_static("x-synapse-model");
const BACKEND: HeaderName = HeaderName::from_static("x-synapse-backend");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-synapse-attempts");
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// As many headers as a reply has at most, those of limits included, so that there is room for them at once.
const MANY_HEADERS: usize = 12;

/// Runs the attempts and turns their outcome into a reply.
///
/// # Errors
/// The last attempt's fault, if no attempt could serve.
pub async fn deliver(
    gateway: &Arc<Gateway>,
    live: Arc<Live>,
    accepted: Accepted,
    id: &RequestId,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Fault> {
    let Accepted { cleared } = accepted;
    let reveal = live.snapshot.server.reveal_backend;
    let call = &cleared.bound.call;
    let (streamed, operation) = (call.shape.stream, call.operation);
    let attempts = Attempts::new(Arc::clone(gateway), live, cleared, id.as_str(), record.trail())?;
    let mut pending: PendingReply = Box::pin(attempts.run());
    tokio::select! {
        biased;
        outcome = &mut pending => finish(outcome, reveal, record),
        () = stream::expiry(&gateway.drain) => {
            Err(Fault::new(FaultKind::ShuttingDown, "The gateway is going down. Try again."))
        }
        () = tokio::time::sleep(EARLY_HEAD), if streamed => {
            let flow = PendingFlow::new(pending, operation, &gateway.drain);
            let mut response = Response::new(ReplyBody::new(Bytestream::Pending(Box::new(flow))));
            stream_headers(response.headers_mut());
            Ok(response)
        }
    }
}

fn finish(outcome: Outcome, reveal: bool, record: &mut Record) -> Result<Response<ReplyBody>, Fault> {
    outcome.note(record);
    let (head, source, served) = outcome.into_reply()?;
    let is_stream = matches!(source, Source::Events(_));
    let stream = match source {
        Source::Whole(whole) => {
            record.end(|end| {
                end.usage = whole.usage;
                end.finish_reason = whole.finish_reason;
            });
            Bytestream::Whole(Some(whole.bytes))
        }
        Source::Events(flow) => Bytestream::Events(flow),
        Source::Raw(flow) => Bytestream::Raw(flow),
    };
    let mut response = Response::new(ReplyBody::new(stream));
    *response.status_mut() = head.status;
    let headers = response.headers_mut();
    headers.reserve(MANY_HEADERS);
    // What else an engine sends (cookies, hop-by-hop, its own limits) is not the caller's business.
    for name in [CONTENT_TYPE, CONTENT_DISPOSITION] {
        if let Some(value) = head.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    if is_stream {
        stream_headers(headers);
    }
    insert(headers, MODEL, served.model.as_str());
    if reveal {
        insert(headers, BACKEND, served.backend.as_str());
        headers.insert(ATTEMPTS, HeaderValue::from(served.attempts));
    }
    Ok(response)
}

fn stream_headers(headers: &mut HeaderMap) {
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(NO_BUFFERING, HeaderValue::from_static("no"));
}

fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::copy_from_slice(text.as_bytes())) {
        headers.insert(name, value);
    }
}
