//! The retry budget: retries are a share of live traffic, so that a fleet in trouble is not buried
//! under them. Requests and retries are counted by the second; of the last ten seconds' retries there
//! may be as many as the share of their requests, or ten per second where that is more.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Instant,
};

/// Retries per second that are always allowed, so that quiet systems can retry at all.
const FLOOR_PER_SECOND: u64 = 10;
/// How long a request counts, in seconds.
const MEMORY: u64 = 10;
/// A second's bucket is used again after this many.
const BUCKETS: u64 = 16;

#[derive(Debug, Default)]
struct Bucket {
    second: AtomicU64,
    requests: AtomicU32,
    retries: AtomicU32,
}

/// A gateway's retry budget. No lock is taken: two cores that begin a second at once may lose a
/// count, which does no harm.
#[derive(Debug)]
pub struct RetryBudget {
    began: Instant,
    buckets: [Bucket; BUCKETS as usize],
}

impl RetryBudget {
    /// A budget that begins now.
    pub fn new(now: Instant) -> Self {
        Self { began: now, buckets: Default::default() }
    }

    /// A request came.
    pub fn deposit(&self, now: Instant) {
        self.bucket(now).requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a retry is allowed while retries may be this share of the requests; if so, it is
    /// counted.
    pub fn withdraw(&self, now: Instant, share: f64) -> bool {
        let second = self.second(now);
        let recent = self.buckets.iter().filter(|bucket| {
            let age = second.checked_sub(bucket.second.load(Ordering::Relaxed));
            age.is_some_and(|age| age < MEMORY)
        });
        let (requests, retries) = recent.fold((0, 0), |(requests, retries), bucket| {
            let count = |of: &AtomicU32| u64::from(of.load(Ordering::Relaxed));
            (requests + count(&bucket.requests), retries + count(&bucket.retries))
        });
        // The larger of the two: the floor's part of a sum would be there again for each window begun.
        let allowed = (share * requests as f64).max((FLOOR_PER_SECOND * MEMORY) as f64);
        if retries as f64 + 1.0 > allowed {
            return false;
        }
        self.bucket(now).retries.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Counted from [`BUCKETS`], so that an untouched bucket is always an old one.
    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() + BUCKETS
    }

    fn bucket(&self, now: Instant) -> &Bucket {
        let second = self.second(now);
        let bucket = &self.buckets[(second % BUCKETS) as usize];
        if bucket.second.load(Ordering::Relaxed) != second
            && bucket.second.swap(second, Ordering::Relaxed) != second
        {
            bucket.requests.store(0, Ordering::Relaxed);
            bucket.retries.store(0, Ordering::Relaxed);
        }
        bucket
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_storm_costs_no_more_than_its_share_and_the_floor_however_it_lies_in_time() {
        for offset in [0, 1, 500, 999] {
            let start = Instant::now();
            let budget = RetryBudget::new(start);
            let mut retried = 0;
            for tick in 0..9_000_u64 {
                let now =
                    start + Duration::from_millis(offset) + Duration::from_secs(30) * tick as u32 / 9_000;
                budget.deposit(now);
                retried += u32::from(budget.withdraw(now, 0.2)) + u32::from(budget.withdraw(now, 0.2));
            }
            assert!(retried <= 9_000 / 5 + 30 * 10, "{retried} retries of 9,000 requests in 30 s");
        }
    }

    #[test]
    fn retries_stay_a_share_of_the_traffic_above_the_floor() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        let mut retried = 0;
        for tick in 0..20_000u32 {
            let now = start + Duration::from_millis(tick.into());
            budget.deposit(now);
            retried += u32::from(budget.withdraw(now, 0.2));
        }
        // 20,000 requests in twenty seconds, 4,000 by share; the floor counts until that is more.
        assert!((3_900..=4_100).contains(&retried), "{retried}");
    }

    #[test]
    fn a_quiet_system_may_retry() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        assert_eq!((0..200).filter(|_| budget.withdraw(now, 0.2)).count(), 100);
        assert!(!budget.withdraw(now + Duration::from_secs(9), 0.2));
        assert!(budget.withdraw(now + Duration::from_secs(10), 0.2));
    }

    #[test]
    fn a_busy_hour_does_not_pay_for_a_storm_in_the_next() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        (0..100_000).for_each(|_| budget.deposit(start));
        let later = start + Duration::from_secs(11);
        assert_eq!((0..1000).filter(|_| budget.withdraw(later, 0.2)).count(), 100);
    }
}
