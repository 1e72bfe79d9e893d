//! How many workers may come at once: after a gateway's restart they all do.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Handshakes begun within any second.
const PER_SECOND: f64 = 200.0;
/// Those of them that may begin at once, after a pause.
const BURST: f64 = 50.0;
/// Handshakes that are not finished.
const UNFINISHED: usize = 64;

/// The leave to begin a handshake; held until it is finished.
#[derive(Debug)]
pub struct Admission(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Too many come at once: 503, with `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many workers connect at once; try again in {} s", retry_after.as_secs())]
pub struct Busy {
    /// When to try again.
    pub retry_after: Duration,
}

pub(super) struct Gate {
    unfinished: Arc<Semaphore>,
    bucket: Mutex<Bucket>,
}

struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Gate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            unfinished: Arc::new(Semaphore::new(UNFINISHED)),
            bucket: Mutex::new(Bucket { tokens: BURST, filled: now }),
        }
    }

    pub(super) fn admit(&self, now: Instant) -> Result<Admission, Busy> {
        let busy = Busy { retry_after: Duration::from_secs(1) };
        let permit = Arc::clone(&self.unfinished).try_acquire_owned().map_err(|_| busy)?;
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * (PER_SECOND - BURST)).min(BURST);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            return Err(busy);
        }
        bucket.tokens -= 1.0;
        Ok(Admission(permit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_many_handshakes_are_unfinished() {
        let start = Instant::now();
        let gate = Gate::new(start);
        let at = |n: usize| start + Duration::from_secs(n as u64);
        let mut held: Vec<_> = (0..UNFINISHED).map(|n| gate.admit(at(n)).expect("room")).collect();
        let later = at(UNFINISHED);
        assert!(gate.admit(later).is_err());
        held.pop();
        assert!(gate.admit(later).is_ok());
    }

    #[test]
    fn no_more_than_so_many_handshakes_begin_in_any_second() {
        let start = Instant::now();
        let gate = Gate::new(start);
        let admitted = |ms: &u64| gate.admit(start + Duration::from_millis(*ms)).is_ok();
        let begun: Vec<u64> = (0..30_000).map(|tenth| tenth / 10).filter(admitted).collect();
        let within = |from: u64| begun.iter().filter(|at| (from..from + 1000).contains(at)).count();
        let seconds: Vec<usize> = (0..2000).map(within).collect();
        assert!(seconds.iter().all(|count| *count <= 200), "{:?}", seconds.iter().max());
        assert!(begun.len() >= 450, "{}", begun.len());
    }
}
