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
/// A measurement older than this is none.
const STALE: Duration = Duration::from_secs(30);

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A moving average; two threads that measure at once may lose one measurement, which does no harm.
#[derive(Debug, Default)]
pub(super) struct Average {
    /// In microseconds; 0 is unknown.
    us: AtomicU64,
    /// When it was last measured, in milliseconds since `EPOCH`.
    measured_ms: AtomicU64,
}

impl Average {
    /// Takes a measurement in.
    pub(super) fn observe(&self, took: Duration) {
        let new = took.as_micros() as f64;
        let mean = self.get().map_or(new, |old| {
            let old = old.as_micros() as f64;
            old + ALPHA * (new - old)
        });
        self.us.store((mean as u64).max(1), Ordering::Relaxed);
        self.measured_ms.store(EPOCH.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// The average, if there was a measurement lately.
    pub(super) fn get(&self) -> Option<Duration> {
        let us = self.us.load(Ordering::Relaxed);
        let age = || {
            EPOCH.elapsed().saturating_sub(Duration::from_millis(self.measured_ms.load(Ordering::Relaxed)))
        };
        (us > 0 && age() < STALE).then(|| Duration::from_micros(us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_is_measured() {
        let average = Average::default();
        assert_eq!(average.get(), None);
        average.observe(Duration::from_millis(100));
        assert_eq!(average.get(), Some(Duration::from_millis(100)));
        average.observe(Duration::from_millis(200));
        assert_eq!(average.get(), Some(Duration::from_millis(120)));
    }
}
