//! How often a backend has succeeded lately: exact counts in a row of short buckets. An average that
//! decays over time would let a burst of failures weigh as little as a trickle.

use std::time::{Duration, Instant};

/// How long one bucket lasts.
const BUCKET: Duration = Duration::from_secs(3);
/// Together they cover half a minute.
const BUCKETS: usize = 10;
/// Fewer requests prove nothing.
const ENOUGH: u32 = 20;

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Which stretch of time it counts.
    tick: u64,
    succeeded: u32,
    failed: u32,
}

/// The outcomes of the last 30 seconds.
#[derive(Debug, Default)]
pub(super) struct SuccessWindow {
    since: Option<Instant>,
    buckets: [Bucket; BUCKETS],
}

impl SuccessWindow {
    /// Counts an outcome.
    pub(super) fn count(&mut self, now: Instant, succeeded: bool) {
        let tick = self.tick(now);
        let bucket = &mut self.buckets[(tick % BUCKETS as u64) as usize];
        if bucket.tick != tick {
            *bucket = Bucket { tick, ..Bucket::default() };
        }
        if succeeded {
            bucket.succeeded += 1;
        } else {
            bucket.failed += 1;
        }
    }

    /// Whether there were enough requests, and a smaller share of them than `least` went well.
    pub(super) fn is_below(&mut self, now: Instant, least: f64) -> bool {
        let tick = self.tick(now);
        let recent = self.buckets.iter().filter(|b| b.tick + BUCKETS as u64 > tick);
        let (succeeded, failed) = recent.fold((0, 0), |(s, f), b| (s + b.succeeded, f + b.failed));
        let all = succeeded + failed;
        all >= ENOUGH && f64::from(succeeded) < least * f64::from(all)
    }

    /// Whether anything failed lately.
    pub(super) fn has_failures(&mut self, now: Instant) -> bool {
        let tick = self.tick(now);
        self.buckets.iter().any(|b| b.failed > 0 && b.tick + BUCKETS as u64 > tick)
    }

    /// Forgets everything: what counted against the backend has been answered for.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Ticks begin at [`BUCKETS`], so that an untouched bucket is always an old one.
    fn tick(&mut self, now: Instant) -> u64 {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since).as_millis() / BUCKET.as_millis();
        passed as u64 + BUCKETS as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(now: Instant, succeeded: u32, failed: u32) -> SuccessWindow {
        let mut window = SuccessWindow::default();
        (0..succeeded).for_each(|_| window.count(now, true));
        (0..failed).for_each(|_| window.count(now, false));
        window
    }

    #[test]
    fn a_share_counts_only_once_there_were_enough_requests() {
        let now = Instant::now();
        assert!(!window(now, 0, 19).is_below(now, 0.5));
        assert!(window(now, 0, 20).is_below(now, 0.5));
        assert!(!window(now, 10, 10).is_below(now, 0.5), "half is not below one half");
        assert!(window(now, 9, 11).is_below(now, 0.5));
    }

    #[test]
    fn what_is_older_than_half_a_minute_is_forgotten() {
        let now = Instant::now();
        let mut window = window(now, 0, 20);
        assert!(window.is_below(now + BUCKET * 9, 0.5));
        assert!(!window.is_below(now + BUCKET * 10, 0.5));
        window.count(now + BUCKET * 10, true);
        assert!(!window.is_below(now + BUCKET * 10, 0.5), "the bucket began anew");
    }
}
