//! A moving average of durations that forgets: one slow start must not keep a backend idle for ever.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How much a new measurement counts.
const ALPHA: f64 = 0.2;
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the process began to count.
pub(super) fn millis(now: Instant) -> u64 {
    now.saturating_duration_since(*EPOCH).as_millis() as u64
}

/// A moving average; two threads that measure at once may lose one measurement, which does no harm.
#[derive(Debug)]
pub(super) struct Average {
    /// In microseconds; 0 is unknown.
    us: AtomicU64,
    /// When it was last measured, in milliseconds since `EPOCH`.
    measured_ms: AtomicU64,
    /// A measurement older than this is none, in milliseconds.
    stale_ms: u64,
}

impl Average {
    /// An average whose measurements count for so long.
    pub(super) fn of_the_last(time: Duration) -> Self {
        LazyLock::force(&EPOCH);
        Self { us: AtomicU64::new(0), measured_ms: AtomicU64::new(0), stale_ms: time.as_millis() as u64 }
    }

    /// Takes a measurement in.
    pub(super) fn observe(&self, now: Instant, took: Duration) {
        let new = took.as_micros() as f64;
        let mean = self.get(now).map_or(new, |old| {
            let old = old.as_micros() as f64;
            old + ALPHA * (new - old)
        });
        self.us.store((mean as u64).max(1), Ordering::Relaxed);
        self.measured_ms.store(millis(now), Ordering::Relaxed);
    }

    /// The average, if there was a measurement lately.
    pub(super) fn get(&self, now: Instant) -> Option<Duration> {
        let us = self.us.load(Ordering::Relaxed);
        let age = || millis(now).saturating_sub(self.measured_ms.load(Ordering::Relaxed));
        (us > 0 && age() < self.stale_ms).then(|| Duration::from_micros(us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_is_measured_and_forgets_it() {
        let (average, now) = (Average::of_the_last(Duration::from_secs(30)), Instant::now());
        assert_eq!(average.get(now), None);
        average.observe(now, Duration::from_millis(100));
        assert_eq!(average.get(now), Some(Duration::from_millis(100)));
        average.observe(now, Duration::from_millis(200));
        assert_eq!(average.get(now), Some(Duration::from_millis(120)));
        assert_eq!(average.get(now + Duration::from_secs(31)), None);
    }
}
