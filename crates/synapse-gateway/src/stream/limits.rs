//! The limits of a reply that flows: how long it may pause, when it must be over, and the end of the
//! grace period when the gateway goes down.

use std::{
    future::Future,
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use synapse_core::error::FaultKind;
use tokio::time::{Instant, Sleep};

use super::Context;
use crate::drain::Drain;

/// A reply took longer than is allowed.
pub(super) const TOO_LONG: &str = "The request took longer than is allowed.";

/// Resolves when a drain's grace period is over.
pub(crate) type Expiry = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Watches a reply that flows.
pub(super) struct Limits {
    /// Runs to the next limit, whichever comes first.
    timer: Pin<Box<Sleep>>,
    idle: Duration,
    deadline: Instant,
    expiry: Expiry,
}

impl Limits {
    pub(super) fn new(context: &Context, drain: &Drain) -> Self {
        let (idle, deadline) = (context.timeouts.idle, context.deadline);
        let timer = Box::pin(tokio::time::sleep_until(deadline.min(Instant::now() + idle)));
        Self { timer, idle, deadline, expiry: expiry(drain) }
    }

    /// Whether the reply must be over. Asked before each piece: an engine that is never silent meets
    /// no timer.
    pub(super) fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// A piece has come.
    pub(super) fn progressed(&mut self) {
        self.timer.as_mut().reset(self.deadline.min(Instant::now() + self.idle));
    }

    /// From now on, only `left` is left, for what [`Self::poll_timer`] watches.
    pub(super) fn shorten(&mut self, left: Duration) {
        self.timer.as_mut().reset(Instant::now() + left);
    }

    /// Resolves when time is up.
    pub(super) fn poll_timer(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        self.timer.as_mut().poll(cx)
    }

    /// Nothing has come: resolves, with the reason, when that may not go on.
    pub(super) fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<(FaultKind, &'static str)> {
        if self.poll_timer(cx).is_ready() {
            let message = if self.is_late() { TOO_LONG } else { "The engine stopped in the middle." };
            return Poll::Ready((FaultKind::UpstreamTimeout, message));
        }
        self.expiry.as_mut().poll(cx).map(|()| (FaultKind::ShuttingDown, "The gateway is going down."))
    }
}

/// Resolves when a drain's grace period is over.
pub(crate) fn expiry(drain: &Drain) -> Expiry {
    let mut expired = drain.expiry();
    Box::pin(async move {
        // The sender lives as long as the gateway; its end is an expiry, too.
        let _ended = expired.wait_for(|over| *over).await;
    })
}
