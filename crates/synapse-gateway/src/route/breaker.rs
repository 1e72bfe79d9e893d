//! A circuit breaker: after a row of failures a backend's model is left alone for a while, then one
//! request probes it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What the breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything.
    Closed,
    /// One request, whose fate decides.
    HalfOpen,
    /// Nothing.
    Open,
}

#[derive(Debug, Default)]
struct Inner {
    consecutive: u32,
    open_until: Option<Instant>,
    probing: bool,
    /// Whether it is open because the backend asked for a pause, not because it failed.
    at_rate_limit: bool,
}

/// Guards one model at one backend.
#[derive(Debug)]
pub struct Breaker {
    inner: Mutex<Inner>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { inner: Mutex::new(Inner::default()) }
    }
}

impl Breaker {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it would let through at `now`.
    pub fn state(&self, now: Instant) -> State {
        let inner = self.lock();
        match inner.open_until {
            None => State::Closed,
            Some(until) if now < until || inner.probing => State::Open,
            Some(_) => State::HalfOpen,
        }
    }

    /// Asks to pass; whoever passes must report with [`Self::success`], [`Self::failure`] or
    /// [`Self::abandon`].
    pub fn try_pass(&self, now: Instant) -> bool {
        let mut inner = self.lock();
        match inner.open_until {
            None => true,
            Some(until) if now < until || inner.probing => false,
            Some(_) => {
                inner.probing = true;
                true
            }
        }
    }

    /// A request succeeded.
    pub fn success(&self) {
        *self.lock() = Inner::default();
    }

    /// A request failed; the `limit`th in a row opens the breaker for `open_for`.
    pub fn failure(&self, now: Instant, limit: u32, open_for: Duration) {
        let mut inner = self.lock();
        inner.consecutive = inner.consecutive.saturating_add(1);
        if inner.probing || inner.consecutive >= limit.max(1) {
            inner.open_until = Some(now + open_for);
            inner.probing = false;
            inner.at_rate_limit = false;
        }
    }

    /// Leaves the backend alone until `until`, as it asked for.
    pub fn cool_down(&self, until: Instant) {
        let mut inner = self.lock();
        inner.probing = false;
        inner.open_until = inner.open_until.max(Some(until));
        inner.at_rate_limit = true;
    }

    /// How much longer the backend wants to be left alone, where that is why nothing passes.
    pub fn pause_left(&self, now: Instant) -> Option<Duration> {
        let inner = self.lock();
        inner.open_until.filter(|until| inner.at_rate_limit && now < *until).map(|until| until - now)
    }

    /// A request ended without saying anything about the backend.
    pub fn abandon(&self) {
        self.lock().probing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Duration = Duration::from_secs(30);

    fn failed(breaker: &Breaker, now: Instant, times: u32) {
        for _ in 0..times {
            breaker.failure(now, 5, OPEN);
        }
    }

    #[test]
    fn a_row_of_failures_opens_it_and_a_success_breaks_the_row() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        failed(&breaker, now, 4);
        breaker.success();
        failed(&breaker, now, 4);
        assert_eq!(breaker.state(now), State::Closed);
        failed(&breaker, now, 1);
        assert_eq!(breaker.state(now), State::Open);
        assert!(!breaker.try_pass(now));
    }

    #[test]
    fn after_its_time_exactly_one_request_probes() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        failed(&breaker, now, 5);
        let later = now + OPEN;
        assert_eq!(breaker.state(later), State::HalfOpen);
        assert!(breaker.try_pass(later));
        assert!(!breaker.try_pass(later));
        breaker.failure(later, 5, OPEN);
        assert!(!breaker.try_pass(later + OPEN / 2), "one failed probe opens it again");
        assert!(breaker.try_pass(later + OPEN));
        breaker.success();
        assert_eq!(breaker.state(later), State::Closed);
    }

    #[test]
    fn a_probe_that_tells_nothing_leaves_the_next_one_a_chance() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        failed(&breaker, now, 5);
        assert!(breaker.try_pass(now + OPEN));
        breaker.abandon();
        assert!(breaker.try_pass(now + OPEN));
    }

    #[test]
    fn a_cool_down_lasts_as_long_as_it_was_asked_for() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        breaker.cool_down(now + OPEN);
        assert!(!breaker.try_pass(now + OPEN / 2));
        assert_eq!(breaker.pause_left(now + OPEN / 2), Some(OPEN / 2));
        assert_eq!(breaker.pause_left(now + OPEN), None);
        assert!(breaker.try_pass(now + OPEN));
    }

    #[test]
    fn a_failure_is_no_rate_limit() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        failed(&breaker, now, 5);
        assert_eq!(breaker.pause_left(now), None);
    }
}
