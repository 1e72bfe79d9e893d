//! How often a backend has succeeded lately: exact counts in a row of short buckets. An average that
//! decays over time would let a burst of failures weigh as little as a trickle. Counting takes no lock,
//! since every request that ends is counted.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::average::millis;

/// How long one bucket lasts.
const BUCKET: Duration = Duration::from_secs(3);
/// Together they cover half a minute.
const BUCKETS: u64 = 10;
/// Fewer requests prove nothing.
const ENOUGH: u64 = 20;

/// What one bucket counts, packed into a word: 24 bits of the stretch of time, 20 of successes and 20 of failures.
#[derive(Clone, Copy)]
struct Bucket {
    tick: u64,
    succeeded: u64,
    failed: u64,
}

impl Bucket {
    const COUNT: u64 = (1 << 20) - 1;
    const TICK: u64 = (1 << 24) - 1;

    const fn unpack(word: u64) -> Self {
        Self { tick: word >> 40, succeeded: (word >> 20) & Self::COUNT, failed: word & Self::COUNT }
    }

    const fn pack(self) -> u64 {
        (self.tick << 40) | (self.succeeded << 20) | self.failed
    }

    /// One outcome more; a count that is full stays full.
    fn plus(self, succeeded: bool) -> Self {
        let (s, f) = (u64::from(succeeded), u64::from(!succeeded));
        Self {
            succeeded: (self.succeeded + s).min(Self::COUNT),
            failed: (self.failed + f).min(Self::COUNT),
            ..self
        }
    }
}

/// The outcomes of the last 30 seconds.
#[derive(Debug)]
pub(super) struct SuccessWindow {
    buckets: [AtomicU64; BUCKETS as usize],
}

impl Default for SuccessWindow {
    fn default() -> Self {
        Self { buckets: array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl SuccessWindow {
    /// Counts an outcome.
    pub(super) fn count(&self, now: Instant, succeeded: bool) {
        let tick = tick(now);
        let bucket = &self.buckets[(tick % BUCKETS) as usize];
        let one_more = |word| {
            let known = Bucket::unpack(word);
            let known = if known.tick == tick { known } else { Bucket { tick, succeeded: 0, failed: 0 } };
            Some(known.plus(succeeded).pack())
        };
        // It cannot fail: there is always one more.
        let _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
    }

    /// Whether there were enough requests, and a smaller share of them than `least` went well.
    pub(super) fn is_below(&self, now: Instant, least: f64) -> bool {
        let (succeeded, failed) = self.recent(now).fold((0, 0), |(s, f), b| (s + b.succeeded, f + b.failed));
        let all = succeeded + failed;
        all >= ENOUGH && (succeeded as f64) < least * all as f64
    }

    /// Whether anything failed lately.
    pub(super) fn has_failures(&self, now: Instant) -> bool {
        self.recent(now).any(|bucket| bucket.failed > 0)
    }

    /// Forgets everything: what counted against the backend has been answered for.
    pub(super) fn clear(&self) {
        self.buckets.iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
    }

    fn recent(&self, now: Instant) -> impl Iterator<Item = Bucket> {
        let tick = tick(now);
        let words = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        words.map(Bucket::unpack).filter(move |b| (tick.wrapping_sub(b.tick) & Bucket::TICK) < BUCKETS)
    }
}

/// The stretch of time that `now` lies in. They begin beyond [`BUCKETS`], so that an untouched bucket is an old one.
fn tick(now: Instant) -> u64 {
    (millis(now) / BUCKET.as_millis() as u64 + BUCKETS) & Bucket::TICK
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(now: Instant, succeeded: u32, failed: u32) -> SuccessWindow {
        let window = SuccessWindow::default();
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
        let window = window(now, 0, 20);
        assert!(window.is_below(now + BUCKET * 9, 0.5));
        assert!(!window.is_below(now + BUCKET * 10, 0.5));
        window.count(now + BUCKET * 10, true);
        assert!(!window.is_below(now + BUCKET * 10, 0.5), "the bucket began anew");
    }

    #[test]
    fn a_count_that_is_full_does_not_spill_into_another() {
        let full = Bucket { tick: 7, succeeded: Bucket::COUNT, failed: Bucket::COUNT };
        let more = Bucket::unpack(full.plus(true).plus(false).pack());
        assert_eq!((more.tick, more.succeeded, more.failed), (7, Bucket::COUNT, Bucket::COUNT));
    }
}
