//! A model at a backend, with everything the choice looks at; and the lease that an attempt holds
//! on it until its reply has ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use synapse_core::config::snapshot::Breaker as BreakerLimits;

use super::{breaker::Breaker, fleet::BackendHandle};

/// How much a new measurement of the time to first token counts.
const EWMA_ALPHA: f64 = 0.2;

/// A model at a backend.
pub struct Endpoint {
    /// Where.
    pub backend: Arc<BackendHandle>,
    /// The backend's own name for the model.
    pub model: Arc<str>,
    /// Its breaker.
    pub breaker: Breaker,
    in_flight: AtomicU32,
    /// Moving average of the time to first token in microseconds; 0 is unknown.
    first_token_us: AtomicU64,
}

impl Endpoint {
    /// A fresh endpoint.
    pub fn new(backend: Arc<BackendHandle>, model: Arc<str>) -> Self {
        Self {
            backend,
            model,
            breaker: Breaker::default(),
            in_flight: AtomicU32::new(0),
            first_token_us: AtomicU64::new(0),
        }
    }

    /// Requests for this model at this backend, now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What another request would cost here: work at the backend, the engine's own queue included,
    /// times how long it takes to answer, by weight. Lower is better.
    pub fn cost(&self, weight: u32) -> f64 {
        let work = f64::from(self.backend.in_flight()) + f64::from(self.backend.queue_depth()) + 1.0;
        let speed = match self.first_token_us.load(Ordering::Relaxed) {
            0 => 1.0,
            us => (us as f64).max(1000.0),
        };
        work * speed / f64::from(weight.max(1))
    }

    /// Whether the backend takes one more.
    pub fn has_room(&self) -> bool {
        self.backend.spec.max_in_flight.is_none_or(|max| self.backend.in_flight() < max)
    }

    /// Begins an attempt, if the breaker lets it.
    pub fn lease(self: &Arc<Self>, limits: BreakerLimits) -> Option<Lease> {
        if !self.breaker.try_pass(Instant::now()) {
            return None;
        }
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.backend.enter();
        Some(Lease { endpoint: Arc::clone(self), limits, reported: false })
    }

    fn observe_first_token(&self, took: Duration) {
        let new = took.as_micros() as f64;
        let old = self.first_token_us.load(Ordering::Relaxed);
        let mean = if old == 0 { new } else { old as f64 + EWMA_ALPHA * (new - old as f64) };
        self.first_token_us.store((mean as u64).max(1), Ordering::Relaxed);
    }
}

/// An attempt's hold on an endpoint. It counts as in flight until dropped; without a report it says
/// nothing about the backend, as when the caller leaves.
pub struct Lease {
    endpoint: Arc<Endpoint>,
    limits: BreakerLimits,
    reported: bool,
}

impl Lease {
    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The first content came after this time.
    pub fn first_token(&self, took: Duration) {
        self.endpoint.observe_first_token(took);
    }

    /// The reply was whole (an engine's refusal of a bad request is a proper reply, too).
    pub fn success(&mut self) {
        if !std::mem::replace(&mut self.reported, true) {
            self.endpoint.breaker.success();
        }
    }

    /// The backend failed.
    pub fn failure(&mut self) {
        if !std::mem::replace(&mut self.reported, true) {
            let limits = self.limits;
            self.endpoint.breaker.failure(Instant::now(), limits.failures, limits.open_for);
        }
    }

    /// The backend asks to be left alone for a while.
    pub fn cool_down(&mut self, wait: Duration) {
        if !std::mem::replace(&mut self.reported, true) {
            self.endpoint.breaker.cool_down(Instant::now() + wait);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.reported {
            self.endpoint.breaker.abandon();
        }
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.endpoint.backend.leave();
    }
}
