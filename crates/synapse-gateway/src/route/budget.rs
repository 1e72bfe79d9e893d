//! The retry budget: retries are a share of live traffic, so that a fleet in trouble is not buried
//! under them. A token bucket: requests deposit their share, retries withdraw one.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Retries per second that are always allowed, so that quiet systems can retry at all.
const FLOOR_PER_SECOND: f64 = 10.0;
/// How long a deposit counts, in seconds.
const MEMORY: f64 = 10.0;
/// What a quiet system may save up: all requests in flight at a backend may be lost at once.
const FLOOR: f64 = FLOOR_PER_SECOND * MEMORY;

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    refilled: Instant,
}

/// A gateway's retry budget.
#[derive(Debug)]
pub struct RetryBudget(Mutex<Bucket>);

impl RetryBudget {
    /// A budget with its floor available.
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(Bucket { tokens: FLOOR, refilled: now }))
    }

    /// A request came; it allows `share` retries.
    pub fn deposit(&self, now: Instant, share: f64) {
        self.with(now, |bucket| bucket.tokens += share);
    }

    /// Whether a retry is allowed; if so, it is counted.
    pub fn withdraw(&self, now: Instant) -> bool {
        self.with(now, |bucket| {
            let allowed = bucket.tokens >= 1.0;
            if allowed {
                bucket.tokens -= 1.0;
            }
            allowed
        })
    }

    fn with<R>(&self, now: Instant, act: impl FnOnce(&mut Bucket) -> R) -> R {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(bucket.refilled).as_secs_f64();
        bucket.refilled = now;
        // Deposits fade, so that a busy hour does not pay for a storm in the next one.
        let faded = bucket.tokens * (1.0 - passed / MEMORY).max(0.0);
        let floor = (bucket.tokens + passed * FLOOR_PER_SECOND).min(FLOOR);
        bucket.tokens = faded.max(floor);
        act(&mut bucket)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn retries_stay_a_share_of_the_traffic_above_the_floor() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        let mut retried = 0;
        for tick in 0..10_000u32 {
            let now = start + Duration::from_millis(tick.into());
            budget.deposit(now, 0.2);
            retried += u32::from(budget.withdraw(now));
        }
        // 10,000 requests in ten seconds: 2,000 by share, 100 by the floor, 100 saved up.
        assert!((1_500..=2_200).contains(&retried), "{retried}");
    }

    #[test]
    fn a_quiet_system_may_retry() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        assert_eq!((0..200).filter(|_| budget.withdraw(now)).count(), 100);
        assert!(budget.withdraw(now + Duration::from_secs(1)));
    }
}
