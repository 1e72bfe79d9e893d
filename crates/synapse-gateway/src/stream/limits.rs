//! The limits of a reply that flows: how long it may pause, when it must be over, and the end of the
//! grace period when the gateway goes down.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker},
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
    is_cut_short: bool,
    last_progress: Instant,
    expiry: Expiry,
    /// Who is woken by the timer and by the expiry. Only another waker, or the time, is a reason to look
    /// at them again: a stream of many pieces would spend most of its time on that.
    watched_by: Option<Waker>,
    drain: Arc<Drain>,
}

impl Limits {
    pub(super) fn new(context: &Context, drain: &Arc<Drain>) -> Self {
        let (idle, deadline) = (context.timeouts.idle, context.deadline);
        let now = Instant::now();
        Self {
            timer: Box::pin(tokio::time::sleep_until(deadline.min(now + idle))),
            idle,
            deadline,
            is_cut_short: context.is_cut_short,
            last_progress: now,
            expiry: expiry(drain),
            watched_by: None,
            drain: Arc::clone(drain),
        }
    }

    /// Whether the reply must be over. Asked before each piece: an engine that is never silent meets
    /// no timer.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// Whether what ends the reply now is held against the backend: not the gateway's own end, nor that the
    /// request's time is over before the backend's.
    pub(super) fn blames_backend(&self, kind: FaultKind) -> bool {
        kind != FaultKind::ShuttingDown && !(self.is_cut_short && self.is_late(Instant::now()))
    }

    /// A piece has come. The timer is left alone: when it fires, it finds out that it was too early.
    pub(super) const fn progressed(&mut self, now: Instant) {
        self.last_progress = now;
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
    pub(super) fn poll(&mut self, cx: &mut TaskContext<'_>, now: Instant) -> Poll<(FaultKind, &'static str)> {
        let is_watched = self.watched_by.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_watched && !self.drain.is_expired() && now < self.timer.deadline() {
            return Poll::Pending;
        }
        self.watched_by = Some(cx.waker().clone());
        while self.poll_timer(cx).is_ready() {
            if self.is_late(now) {
                return Poll::Ready((FaultKind::UpstreamTimeout, TOO_LONG));
            }
            let due = self.deadline.min(self.last_progress + self.idle);
            if now >= due {
                return Poll::Ready((FaultKind::UpstreamTimeout, "The engine stopped in the middle."));
            }
            self.timer.as_mut().reset(due);
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
