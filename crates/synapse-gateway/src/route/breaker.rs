//! A circuit breaker: after a row of failures, or when most requests of the last half minute failed,
//! a backend's model is left alone for a while, then one request probes it. Apart from that, a
//! backend may ask to be left alone (`Retry-After`); when that time is over, it is simply back.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use synapse_core::config::snapshot::Breaker as Limits;

use super::window::SuccessWindow;

/// How long it stays open the first time.
const FIRST_OPEN: Duration = Duration::from_secs(1);
/// A probe that has not begun to be answered by then says nothing: the next request is one, too.
const PROBE: Duration = Duration::from_secs(10);
/// Longer than any recovery takes.
const LONG_AGO: Duration = Duration::from_secs(3600);
/// A backend that asks to be left alone without saying for how long: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What the breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything.
    Closed,
    /// One request, whose fate decides.
    HalfOpen,
    /// Nothing.
    Open,
    /// Nothing while there is another choice: most requests fail here, but some succeed.
    Shaky,
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
    /// When the probe that is on its way was sent.
    probing_since: Option<Instant>,
    /// How often it has opened since the last success; each time it stays open for twice as long.
    trips: u32,
    /// Whether it is open for the share of its successes only, not for a row of failures.
    shaky: bool,
    cool_until: Option<Instant>,
    /// How often it has asked for a pause since the last success.
    pauses: u32,
    /// When it last took up work again.
    back_since: Option<Instant>,
}

impl Inner {
    fn state(&self, now: Instant) -> State {
        match (self.cool_until, self.open_until) {
            (Some(cool), _) if now < cool => State::Open,
            (_, None) => State::Closed,
            (_, Some(until)) if now < until || self.is_probing(now) => {
                if self.shaky {
                    State::Shaky
                } else {
                    State::Open
                }
            }
            (_, Some(_)) => State::HalfOpen,
        }
    }

    fn is_probing(&self, now: Instant) -> bool {
        self.probing_since.is_some_and(|since| now.saturating_duration_since(since) < PROBE)
    }

    fn open(&mut self, now: Instant, longest: Duration, shaky: bool) {
        self.open_until = Some(now + doubled(FIRST_OPEN, self.trips, longest));
        self.trips += 1;
        self.shaky = shaky;
        self.probing_since = None;
        self.period += 1;
    }

    /// Whether nothing is left to be remembered.
    fn is_forgotten(&self, now: Instant, window: &SuccessWindow) -> bool {
        let recovered = self.back_since.is_none_or(|since| now.saturating_duration_since(since) > LONG_AGO);
        let cool = self.cool_until.is_none_or(|until| until <= now);
        self.open_until.is_none() && cool && recovered && !window.has_failures(now)
    }

    fn close(&mut self, now: Instant, window: &SuccessWindow) {
        if self.open_until.take().is_some() {
            self.back_since = Some(now);
            window.clear();
        }
        self.probing_since = None;
        self.shaky = false;
    }
}

/// `first` for the first time, twice as long each further time, `longest` at most.
fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(longest)
}

/// Guards one model at one backend.
#[derive(Debug, Default)]
pub struct Breaker {
    inner: Mutex<Inner>,
    window: SuccessWindow,
    /// Whether nothing is held against the backend, so that nobody needs the lock. It changes under the
    /// lock only.
    troubled: AtomicBool,
    /// The period, for those who do without the lock.
    period: AtomicU64,
}

impl Breaker {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::Acquire)
    }

    /// Changes what is known of the backend.
    fn change(&self, act: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        self.troubled.store(true, Ordering::Release);
        act(&mut inner);
        self.period.store(inner.period, Ordering::Release);
    }

    /// What it would let through at `now`.
    pub fn state(&self, now: Instant) -> State {
        if self.is_troubled() { self.lock().state(now) } else { State::Closed }
    }

    /// When it will let something through again, if it does not now.
    pub fn opens_again(&self) -> Option<Instant> {
        if !self.is_troubled() {
            return None;
        }
        let inner = self.lock();
        inner.open_until.max(inner.cool_until)
    }

    /// How much longer the backend wants to be left alone, if it asked for that.
    pub fn pause_left(&self, now: Instant) -> Option<Duration> {
        if !self.is_troubled() {
            return None;
        }
        self.lock().cool_until.filter(|until| now < *until).map(|until| until - now)
    }

    /// How far it has recovered since it last took up work again, 0–1, if that takes `ramp`.
    pub fn recovery(&self, now: Instant, ramp: Duration) -> f64 {
        if !self.is_troubled() {
            return 1.0;
        }
        let Some(since) = self.lock().back_since else { return 1.0 };
        let passed = now.saturating_duration_since(since);
        if passed >= ramp { 1.0 } else { passed.as_secs_f64() / ramp.as_secs_f64() }
    }

    /// Asks to pass; the pass must come back with [`Self::success`], [`Self::failure`] or
    /// [`Self::abandon`].
    pub fn try_pass(&self, now: Instant) -> Option<Pass> {
        if !self.is_troubled() {
            return Some(Pass { period: self.period.load(Ordering::Acquire), probe: false });
        }
        let mut inner = self.lock();
        let probe = match inner.state(now) {
            State::Open => return None,
            State::HalfOpen => true,
            State::Closed | State::Shaky => false,
        };
        if probe {
            inner.probing_since = Some(now);
        }
        Some(Pass { period: inner.period, probe })
    }

    /// A request has begun to be answered. That is enough to let others pass again; but until one
    /// has ended well, a single failure opens the breaker anew.
    pub fn first_content(&self, pass: Pass, now: Instant, limits: Limits) {
        if !pass.probe {
            return;
        }
        self.change(|inner| {
            if pass.period == inner.period {
                inner.close(now, &self.window);
                inner.consecutive = limits.failures.saturating_sub(1);
            }
        });
    }

    /// A request ended well.
    pub fn success(&self, pass: Pass, now: Instant) {
        if !self.is_troubled() {
            self.window.count(now, true);
            return;
        }
        let mut inner = self.lock();
        if pass.period != inner.period {
            return;
        }
        self.window.count(now, true);
        inner.consecutive = 0;
        // Of a shaky backend only a probe proves that it is better: others succeed now and then anyway.
        if pass.probe || !inner.shaky {
            inner.close(now, &self.window);
            (inner.trips, inner.pauses) = (0, 0);
            self.troubled.store(!inner.is_forgotten(now, &self.window), Ordering::Release);
        }
    }

    /// A request failed. The breaker opens after a row of failures, or when too many of the last half
    /// minute failed: for a second at first, for twice as long each further time, within its bound.
    pub fn failure(&self, pass: Pass, now: Instant, limits: Limits) {
        self.change(|inner| {
            if pass.period != inner.period {
                return;
            }
            self.window.count(now, false);
            inner.consecutive = inner.consecutive.saturating_add(1);
            if pass.probe || inner.consecutive >= limits.failures.max(1) {
                inner.open(now, limits.open_for, false);
            } else if inner.open_until.is_none() && self.window.is_below(now, limits.success_rate) {
                inner.open(now, limits.open_for, true);
            }
        });
    }

    /// A request failed, and the backend says when it will be back: until then it is left alone.
    pub fn unavailable(&self, pass: Pass, now: Instant, wait: Duration, limits: Limits) {
        self.change(|inner| {
            if pass.period == inner.period {
                self.window.count(now, false);
                inner.open(now, limits.open_for, false);
                inner.open_until = Some(now + wait);
            }
        });
    }

    /// The backend is at its limit and asks to be left alone: for `wait`, or, if it does not say how long, for a second at
    /// first and for twice as long each further time.
    pub fn cool_down(&self, pass: Pass, now: Instant, wait: Option<Duration>) {
        self.abandon(pass);
        self.change(|inner| {
            // Of several requests that meet the same limit, one decides how long it is.
            if inner.cool_until.is_some_and(|until| now < until) && wait.is_none() {
                return;
            }
            let wait = wait.unwrap_or_else(|| doubled(PAUSE.0, inner.pauses, PAUSE.1));
            inner.pauses += 1;
            inner.cool_until = inner.cool_until.max(Some(now + wait));
        });
    }

    /// The backend has come back by another account: a probe may pass at once. What becomes of an earlier one
    /// says nothing any more.
    pub fn allow_probe(&self, now: Instant) {
        self.change(|inner| {
            inner.period += 1;
            inner.probing_since = None;
            inner.open_until = inner.open_until.map(|until| until.min(now));
            inner.back_since = Some(now);
            inner.trips = 0;
        });
    }

    /// A request ended without saying anything about the backend.
    pub fn abandon(&self, pass: Pass) {
        if !pass.probe {
            return;
        }
        let mut inner = self.lock();
        if pass.period == inner.period {
            inner.probing_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { failures: 5, open_for: Duration::from_secs(30), success_rate: 0.5 };
    const OPEN: Duration = FIRST_OPEN;

    fn pass(breaker: &Breaker, now: Instant) -> Pass {
        breaker.try_pass(now).expect("a pass")
    }

    fn fail(breaker: &Breaker, now: Instant, times: u32) {
        for _ in 0..times {
            breaker.failure(pass(breaker, now), now, LIMITS);
        }
    }

    #[test]
    fn a_row_of_failures_opens_it_and_a_success_breaks_the_row() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        fail(&breaker, now, 4);
        breaker.success(pass(&breaker, now), now);
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
        breaker.failure(probe, later, LIMITS);
        assert!(breaker.try_pass(later + OPEN).is_none(), "one failed probe opens it for twice as long");
        breaker.success(pass(&breaker, later + 2 * OPEN), later + 2 * OPEN);
        assert_eq!(breaker.state(later), State::Closed);
    }

    #[test]
    fn a_probe_that_begins_to_answer_lets_others_pass_but_one_failure_opens_it_again() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        fail(&breaker, now, 5);
        let probe = pass(&breaker, now + OPEN);
        breaker.first_content(probe, now + OPEN, LIMITS);
        assert_eq!(breaker.state(now + OPEN), State::Closed);
        fail(&breaker, now + OPEN, 1);
        assert_eq!(breaker.state(now + OPEN), State::Open);
    }

    #[test]
    fn what_began_before_it_opened_changes_nothing() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let (early, late) = (pass(&breaker, now), pass(&breaker, now));
        fail(&breaker, now, 5);
        breaker.success(early, now);
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
        breaker.cool_down(pass(&breaker, now), now, Some(OPEN));
        breaker.success(running, now);
        assert!(breaker.try_pass(now + OPEN / 2).is_none(), "an older success does not cut it short");
        assert_eq!(breaker.pause_left(now + OPEN / 2), Some(OPEN / 2));
        assert_eq!(breaker.pause_left(now + OPEN), None);
        assert_eq!(breaker.state(now + OPEN), State::Closed);
    }

    #[test]
    fn a_pause_of_unsaid_length_grows_until_the_backend_serves_again() {
        let (breaker, mut now) = (Breaker::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..6 {
            let both = (pass(&breaker, now), pass(&breaker, now));
            breaker.cool_down(both.0, now, None);
            breaker.cool_down(both.1, now, None);
            let wait = breaker.pause_left(now).expect("a pause");
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30]);
        breaker.success(pass(&breaker, now), now);
        breaker.cool_down(pass(&breaker, now), now, None);
        assert_eq!(breaker.pause_left(now), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_probe_that_hangs_does_not_keep_the_others_out() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        fail(&breaker, now, 5);
        let _hung = pass(&breaker, now + OPEN);
        assert_eq!(breaker.state(now + OPEN + PROBE / 2), State::Open);
        assert_eq!(breaker.state(now + OPEN + PROBE), State::HalfOpen);
    }

    #[test]
    fn a_backend_that_is_back_is_probed_at_once_and_an_earlier_probe_says_nothing() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        fail(&breaker, now, 5);
        let hung = pass(&breaker, now + OPEN);
        breaker.allow_probe(now + OPEN);
        assert_eq!(breaker.state(now + OPEN), State::HalfOpen);
        breaker.failure(hung, now + OPEN, LIMITS);
        assert_eq!(breaker.state(now + OPEN), State::HalfOpen);
    }

    #[test]
    fn what_succeeded_before_the_first_failure_counts_too() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        (0..100).for_each(|_| breaker.success(pass(&breaker, now), now));
        for _ in 0..5 {
            fail(&breaker, now, 3);
            breaker.success(pass(&breaker, now), now);
        }
        assert_eq!(breaker.state(now), State::Closed, "15 of 120 failed");
    }

    /// Two of three fail, but never five in a row.
    fn shaken(now: Instant) -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..7 {
            breaker.success(pass(&breaker, now), now);
            fail(&breaker, now, 2);
        }
        breaker
    }

    #[test]
    fn when_most_of_many_requests_fail_it_lets_others_pass_only_for_want_of_a_choice() {
        let now = Instant::now();
        let breaker = shaken(now);
        assert_eq!(breaker.state(now), State::Shaky);
        breaker.success(pass(&breaker, now), now);
        assert_eq!(breaker.state(now), State::Shaky, "a lucky one proves nothing");
        assert_eq!(breaker.state(now + OPEN), State::HalfOpen);
        breaker.success(pass(&breaker, now + OPEN), now + OPEN);
        assert_eq!(breaker.state(now + OPEN), State::Closed);
        fail(&breaker, now + OPEN, 4);
        assert_eq!(breaker.state(now + OPEN), State::Closed, "what was before counts no more");
    }

    #[test]
    fn what_took_up_work_again_recovers_gradually() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let ramp = Duration::from_secs(10);
        assert_eq!(breaker.recovery(now, ramp), 1.0);
        fail(&breaker, now, 5);
        let back = now + OPEN;
        breaker.success(pass(&breaker, back), back);
        assert_eq!(breaker.recovery(back + ramp / 2, ramp), 0.5);
        assert_eq!(breaker.recovery(back + ramp, ramp), 1.0);
    }
}
