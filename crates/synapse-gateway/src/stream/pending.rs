//! A stream whose headers went out before any backend had begun to answer: keep-alive comments go
//! out while attempts go on, then the reply, or an error event.

use std::{
    future::Future,
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::Bytes;
use synapse_core::{
    error::{Fault, FaultKind},
    operation::Operation,
};
use synapse_dialect::openai::stream::Observer;
use tokio::time::{Instant, Sleep};

use super::{
    EventFlow, Source,
    limits::{Expiry, expiry},
};
use crate::{
    audit::{End, Record},
    drain::Drain,
    phase::attempt::Outcome,
};

/// Between two comments.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Attempts under way.
pub(crate) type PendingReply = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// The state of such a stream.
pub(crate) struct PendingFlow {
    attempts: Option<PendingReply>,
    begun: Option<Box<EventFlow>>,
    keep_alive: Pin<Box<Sleep>>,
    expiry: Expiry,
    operation: Operation,
    fault: Option<FaultKind>,
}

impl PendingFlow {
    pub(crate) fn new(attempts: PendingReply, operation: Operation, drain: &Drain) -> Self {
        let keep_alive = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self {
            attempts: Some(attempts),
            begun: None,
            keep_alive,
            expiry: expiry(drain),
            operation,
            fault: None,
        }
    }

    /// What is known at the end.
    pub(crate) fn end(&self, end: &mut End) {
        match &self.begun {
            Some(flow) => flow.end(end),
            None => end.fault = self.fault,
        }
    }

    /// The next bytes for the caller. Who serves is noted in `record` once it is known.
    pub(crate) fn poll_bytes(
        &mut self,
        cx: &mut TaskContext<'_>,
        record: Option<&mut Record>,
    ) -> Poll<Option<Bytes>> {
        if let Some(flow) = &mut self.begun {
            return flow.poll_bytes(cx);
        }
        let Some(attempts) = &mut self.attempts else { return Poll::Ready(None) };
        match attempts.as_mut().poll(cx) {
            Poll::Ready(outcome) => {
                self.attempts = None;
                if let Some(record) = record {
                    outcome.note(record);
                }
                self.conclude(outcome, cx)
            }
            Poll::Pending => {
                if self.expiry.as_mut().poll(cx).is_ready() {
                    self.attempts = None;
                    return self.fail(&Fault::new(FaultKind::ShuttingDown, "The gateway is going down."));
                }
                if self.keep_alive.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.keep_alive.as_mut().reset(Instant::now() + KEEP_ALIVE);
                // Polled once more, so that it wakes this task.
                let _pending = self.keep_alive.as_mut().poll(cx);
                Poll::Ready(Some(Bytes::from_static(b": keep-alive\n\n")))
            }
        }
    }

    fn conclude(&mut self, outcome: Outcome, cx: &mut TaskContext<'_>) -> Poll<Option<Bytes>> {
        let fault = match outcome.into_source() {
            Ok(Source::Events(flow)) => return self.begun.insert(flow).poll_bytes(cx),
            Ok(_) => Fault::new(FaultKind::UpstreamInvalidResponse, "The engine answered without a stream."),
            Err(fault) => fault,
        };
        self.fail(&fault)
    }

    fn fail(&mut self, fault: &Fault) -> Poll<Option<Bytes>> {
        self.fault = Some(fault.kind);
        let event = Observer::new(self.operation, false, 1).error_event(fault);
        Poll::Ready(Some(event))
    }

    /// Whether there is content, or at least an end; comments are neither.
    pub(crate) const fn has_begun(&self) -> bool {
        self.attempts.is_none()
    }
}
