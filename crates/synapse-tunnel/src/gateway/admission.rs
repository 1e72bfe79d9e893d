//! How many workers may come at once: after a gateway's restart they all do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use synapse_core::id::KeyId;

/// Handshakes begun within any second.
const PER_SECOND: f64 = 200.0;
/// Those of them that may begin at once, after a pause.
const BURST: f64 = 50.0;
/// Handshakes that are not finished.
const UNFINISHED: usize = 64;
/// Those of one key: whoever has it must not be able to keep all others out.
const OF_ONE_KEY: usize = UNFINISHED / 2;

/// The leave to begin a handshake; held until it is finished.
#[derive(Debug)]
pub struct Admission {
    gate: Arc<Gate>,
    key: KeyId,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.unfinished -= 1;
        if let Some(count) = state.by_key.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                state.by_key.remove(&self.key);
            }
        }
    }
}

/// Too many come at once: 503, with `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many workers connect at once; try again in {} s", retry_after.as_secs())]
pub struct Busy {
    /// When to try again.
    pub retry_after: Duration,
}

#[derive(Debug)]
pub(super) struct Gate(Mutex<State>);

#[derive(Debug)]
struct State {
    tokens: f64,
    filled: Instant,
    unfinished: usize,
    by_key: HashMap<KeyId, usize>,
}

impl Gate {
    pub(super) fn new(now: Instant) -> Arc<Self> {
        let by_key = HashMap::new();
        Arc::new(Self(Mutex::new(State { tokens: BURST, filled: now, unfinished: 0, by_key })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn admit(self: &Arc<Self>, now: Instant, key: &KeyId) -> Result<Admission, Busy> {
        let busy = Busy { retry_after: Duration::from_secs(1) };
        let mut state = self.state();
        let of_key = state.by_key.get(key).copied().unwrap_or(0);
        if state.unfinished >= UNFINISHED || of_key >= OF_ONE_KEY {
            return Err(busy);
        }
        let passed = now.saturating_duration_since(state.filled).as_secs_f64();
        state.tokens = (state.tokens + passed * (PER_SECOND - BURST)).min(BURST);
        state.filled = now;
        if state.tokens < 1.0 {
            return Err(busy);
        }
        state.tokens -= 1.0;
        state.unfinished += 1;
        state.by_key.insert(key.clone(), of_key + 1);
        Ok(Admission { gate: Arc::clone(self), key: key.clone() })
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
        let (one, other) = (KeyId::from("one"), KeyId::from("other"));
        let mut held: Vec<_> = (0..OF_ONE_KEY).map(|n| gate.admit(at(n), &one).expect("room")).collect();
        assert!(gate.admit(at(OF_ONE_KEY), &one).is_err(), "half of the room is for others");
        held.extend((OF_ONE_KEY..UNFINISHED).map(|n| gate.admit(at(n), &other).expect("room")));
        let later = at(UNFINISHED);
        assert!(gate.admit(later, &KeyId::from("third")).is_err());
        held.pop();
        assert!(gate.admit(later, &other).is_ok());
    }

    #[test]
    fn no_more_than_so_many_handshakes_begin_in_any_second() {
        let start = Instant::now();
        let gate = Gate::new(start);
        let key = KeyId::from("k");
        let admitted = |ms: &u64| gate.admit(start + Duration::from_millis(*ms), &key).is_ok();
        let begun: Vec<u64> = (0..30_000).map(|tenth| tenth / 10).filter(admitted).collect();
        let within = |from: u64| begun.iter().filter(|at| (from..from + 1000).contains(at)).count();
        let seconds: Vec<usize> = (0..2000).map(within).collect();
        assert!(seconds.iter().all(|count| *count <= 200), "{:?}", seconds.iter().max());
        assert!(begun.len() >= 450, "{}", begun.len());
    }
}
