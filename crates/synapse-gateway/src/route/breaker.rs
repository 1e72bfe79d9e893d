//! A circuit breaker: after a row of failures a backend's model is left alone for a while, then one
//! request probes it. Apart from that, a backend may ask to be left alone (`Retry-After`); when
//! that time is over, it is simply back.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long it stays open the first time.
const FIRST_OPEN: Duration = Duration::from_secs(1);

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

/// The right to send one request; it comes back with the request's fate.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Which period of the breaker it was given in. What began before the breaker opened says
    /// nothing about what came after.
    period: u64,
    probe: bool,
}

#[derive(Debug, Default)]
struct Inner {
    period: u64,
    consecutive: u32,
    open_until: Option<Instant>,
    probing: bool,
    /// How often it has opened since the last success; each time it stays open for twice as long.
    trips: u32,
    cool_until: Option<Instant>,
}

impl Inner {
    fn state(&self, now: Instant) -> State {
        match (self.cool_until, self.open_until) {
            (Some(cool), _) if now < cool => State::Open,
            (_, None) => State::Closed,
            (_, Some(until)) if now < until || self.probing => State::Open,
            (_, Some(_)) => State::HalfOpen,
        }
    }

    fn open(&mut self, now: Instant, longest: Duration) {
        let open_for = FIRST_OPEN.saturating_mul(1 << self.trips.min(16)).min(longest);
        self.trips += 1;
        self.open_until = Some(now + open_for);
        self.probing = false;
        self.period += 1;
    }
}

/// Guards one model at one backend.
#[derive(Debug, Default)]
pub struct Breaker {
    inner: Mutex<Inner>,
}

impl Breaker {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it would let through at `now`.
    pub fn state(&self, now: Instant) -> State {
        self.lock().state(now)
    }

    /// When it will let something through again, if it does not now.
    pub fn opens_again(&self) -> Option<Instant> {
        let inner = self.lock();
        inner.open_until.max(inner.cool_until)
    }

    /// How much longer the backend wants to be left alone, if it asked for that.
    pub fn pause_left(&self, now: Instant) -> Option<Duration> {
        self.lock().cool_until.filter(|until| now < *until).map(|until| until - now)
    }

    /// Asks to pass; the pass must come back with [`Self::success`], [`Self::failure`] or
    /// [`Self::abandon`].
    pub fn try_pass(&self, now: Instant) -> Option<Pass> {
        let mut inner = self.lock();
        let probe = match inner.state(now) {
            State::Open => return None,
            State::HalfOpen => true,
            State::Closed => false,
        };
        inner.probing |= probe;
        Some(Pass { period: inner.period, probe })
    }

    /// A request has begun to be answered. That is enough to let others pass again; but until one
    /// has ended well, a single failure opens the breaker anew.
    pub fn first_content(&self, pass: Pass, limit: u32) {
        let mut inner = self.lock();
        if pass.probe && pass.period == inner.period {
            inner.open_until = None;
            inner.probing = false;
            inner.consecutive = limit.saturating_sub(1);
        }
    }

    /// A request ended well.
    pub fn success(&self, pass: Pass) {
        let mut inner = self.lock();
        if pass.period == inner.period {
            inner.open_until = None;
            inner.probing = false;
            inner.consecutive = 0;
            inner.trips = 0;
        }
    }

    /// A request failed; the `limit`th in a row opens the breaker: for a second at first, for twice as
    /// long each further time, for `longest` at most.
    pub fn failure(&self, pass: Pass, now: Instant, limit: u32, longest: Duration) {
        let mut inner = self.lock();
        if pass.period != inner.period {
            return;
        }
        inner.consecutive = inner.consecutive.saturating_add(1);
        if inner.probing || inner.consecutive >= limit.max(1) {
            inner.open(now, longest);
        }
    }

    /// The backend asks to be left alone until `until`.
    pub fn cool_down(&self, pass: Pass, until: Instant) {
        self.abandon(pass);
        let mut inner = self.lock();
        inner.cool_until = inner.cool_until.max(Some(until));
    }

    /// The backend has come back by another account: a probe may pass at once.
    pub fn allow_probe(&self, now: Instant) {
        let mut inner = self.lock();
        inner.open_until = inner.open_until.map(|until| until.min(now));
        inner.trips = 0;
    }

    /// A request ended without saying anything about the backend.
    pub fn abandon(&self, pass: Pass) {
        let mut inner = self.lock();
        if pass.probe && pass.period == inner.period {
            inner.probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(30);
    const OPEN: Duration = FIRST_OPEN;

    fn pass(breaker: &Breaker, now: Instant) -> Pass {
        breaker.try_pass(now).expect("a pass")
    }

    fn fail(breaker: &Breaker, now: Instant, times: u32) {
        for _ in 0..times {
            breaker.failure(pass(breaker, now), now, 5, LONGEST);
        }
    }

    #[test]
    fn a_row_of_failures_opens_it_and_a_success_breaks_the_row() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        fail(&breaker, now, 4);
        breaker.success(pass(&breaker, now));
        fail(&breaker, now, 4);
        assert_eq!(breaker.state(now), State::Closed);
        fail(&breaker, now, 1);
        assert_eq!(breaker.state(now), State::Open);
        assert!(breaker.try_pass(now).is_none());
        assert_eq!(breaker.opens_again(), Some(now + OPEN));
    }

    #[test]
    fn after_its_time_exactly_one_request_probes() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        fail(&breaker, now, 5);
        let later = now + OPEN;
        let probe = pass(&breaker, later);
        assert!(breaker.try_pass(later).is_none());
        breaker.failure(probe, later, 5, LONGEST);
        assert!(breaker.try_pass(later + OPEN).is_none(), "one failed probe opens it for twice as long");
        breaker.success(pass(&breaker, later + 2 * OPEN));
        assert_eq!(breaker.state(later), State::Closed);
    }

    #[test]
    fn a_probe_that_begins_to_answer_lets_others_pass_but_one_failure_opens_it_again() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        fail(&breaker, now, 5);
        let probe = pass(&breaker, now + OPEN);
        breaker.first_content(probe, 5);
        assert_eq!(breaker.state(now + OPEN), State::Closed);
        fail(&breaker, now + OPEN, 1);
        assert_eq!(breaker.state(now + OPEN), State::Open);
    }

    #[test]
    fn what_began_before_it_opened_changes_nothing() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let (early, late) = (pass(&breaker, now), pass(&breaker, now));
        fail(&breaker, now, 5);
        breaker.success(early);
        assert_eq!(breaker.state(now), State::Open);
        let probe = pass(&breaker, now + OPEN);
        breaker.abandon(late);
        assert!(breaker.try_pass(now + OPEN).is_none(), "the probe is still under way");
        breaker.abandon(probe);
        assert!(breaker.try_pass(now + OPEN).is_some());
    }

    #[test]
    fn it_stays_open_longer_each_time_within_its_bound_unless_the_backend_is_back() {
        let (breaker, mut now) = (Breaker::default(), Instant::now());
        fail(&breaker, now, 5);
        let mut waits = Vec::new();
        for _ in 0..6 {
            let again = breaker.opens_again().expect("open");
            waits.push((again - now).as_secs());
            now = again;
            fail(&breaker, now, 1);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30]);
        breaker.allow_probe(now);
        assert_eq!(breaker.state(now), State::HalfOpen);
    }

    #[test]
    fn a_cool_down_ends_without_a_probe() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let running = pass(&breaker, now);
        breaker.cool_down(pass(&breaker, now), now + OPEN);
        breaker.success(running);
        assert!(breaker.try_pass(now + OPEN / 2).is_none(), "an older success does not cut it short");
        assert_eq!(breaker.pause_left(now + OPEN / 2), Some(OPEN / 2));
        assert_eq!(breaker.pause_left(now + OPEN), None);
        assert_eq!(breaker.state(now + OPEN), State::Closed);
    }
}
