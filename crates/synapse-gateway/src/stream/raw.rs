//! Replies that nobody looks into: sound, pictures, very large JSON. They pass as they come; one
//! that breaks in the middle aborts the connection, as there is no other honest end for it.

use std::{
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use synapse_core::error::{Fault, FaultKind};
use tokio::time::Instant;

use super::{Context, Source, limits::Limits, truncated};
use crate::{audit::End, backend::ReplyStream, drain::Drain, route::endpoint::Lease};

/// A reply that has begun.
pub(crate) struct RawFlow {
    upstream: ReplyStream,
    held: Bytes,
    lease: Option<Lease>,
    limits: Limits,
    fault: Option<FaultKind>,
    length: Option<u64>,
}

/// The reply broke in the middle.
#[derive(Debug, thiserror::Error)]
#[error("the engine's answer ended before it was complete")]
pub struct Broken;

impl RawFlow {
    /// Waits for the first bytes, unless there are some already.
    pub(super) async fn begin(
        context: &Context,
        mut upstream: ReplyStream,
        read: BytesMut,
        drain: &Arc<Drain>,
    ) -> Result<Source, Fault> {
        let ahead = read.len() as u64;
        let length = upstream.size_hint().exact().map(|left| left + ahead);
        let mut held = read.freeze();
        while held.is_empty() {
            let Some(frame) = upstream.frame().await else { break };
            held = frame.map_err(truncated)?.into_data().unwrap_or_default();
        }
        let limits = Limits::new(context, drain);
        let flow = Self { upstream, held, lease: None, limits, fault: None, length };
        Ok(Source::Raw(Box::new(flow)))
    }

    pub(super) fn hold(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// The length of the whole reply, if the engine said.
    pub(crate) const fn length(&self) -> Option<u64> {
        self.length
    }

    /// What is known at the end.
    pub(crate) fn end(&self, end: &mut End) {
        end.fault = self.fault;
    }

    /// The next bytes for the caller.
    pub(crate) fn poll_bytes(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            return Poll::Ready(Some(Ok(self.hand_over(held))));
        }
        let now = Instant::now();
        if self.limits.is_late(now) {
            return Poll::Ready(Some(Err(self.broken(FaultKind::UpstreamTimeout))));
        }
        loop {
            return match self.upstream.as_mut().poll_frame(cx) {
                Poll::Ready(None) => {
                    self.succeed();
                    Poll::Ready(None)
                }
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    self.limits.progressed(now);
                    Poll::Ready(Some(Ok(self.hand_over(data))))
                }
                Poll::Ready(Some(Err(_))) => {
                    Poll::Ready(Some(Err(self.broken(FaultKind::UpstreamTruncated))))
                }
                Poll::Pending => self.limits.poll(cx, now).map(|(kind, _)| Some(Err(self.broken(kind)))),
            };
        }
    }

    /// Nobody may ask again after the last bytes of a reply whose length is known.
    fn hand_over(&mut self, bytes: Bytes) -> Bytes {
        if self.is_done() {
            self.succeed();
        }
        bytes
    }

    fn succeed(&mut self) {
        if let Some(mut lease) = self.lease.take() {
            lease.success(std::time::Instant::now());
        }
    }

    /// Whether everything was handed over, as far as the length tells.
    pub(crate) fn is_done(&self) -> bool {
        self.held.is_empty() && self.upstream.is_end_stream()
    }

    fn broken(&mut self, kind: FaultKind) -> Broken {
        self.fault = Some(kind);
        if let Some(mut lease) = self.lease.take().filter(|_| self.limits.blames_backend(kind)) {
            lease.failure();
        }
        Broken
    }
}
