//! A model at a backend, with everything the choice looks at; and the lease that an attempt holds
//! on it until its reply has ended.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use synapse_core::config::snapshot::Breaker as BreakerLimits;

use super::{
    breaker::{Breaker, Pass},
    fleet::BackendHandle,
};

/// How much a new measurement of the time to first token counts.
const EWMA_ALPHA: f64 = 0.2;
/// A measurement older than this is none: one cold start must not keep a backend idle for ever.
const STALE: Duration = Duration::from_secs(30);

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A model at a backend.
pub struct Endpoint {
    /// Where.
    pub backend: Arc<BackendHandle>,
    /// The backend's own name for the model.
    pub model: Arc<str>,
    /// Its breaker.
    pub breaker: Breaker,
    /// Moving average of the time to first token in microseconds; 0 is unknown.
    first_token_us: AtomicU64,
    /// When it was last measured, in milliseconds since `EPOCH`.
    measured_ms: AtomicU64,
}

/// Why an endpoint takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is at its `max_in_flight`.
    Full,
    /// Its breaker is open.
    Open,
}

impl Endpoint {
    /// A fresh endpoint.
    pub fn new(backend: Arc<BackendHandle>, model: Arc<str>) -> Self {
        let (first_token_us, measured_ms) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { backend, model, breaker: Breaker::default(), first_token_us, measured_ms }
    }

    /// Work at the backend, the engine's own queue included, by weight.
    fn work(&self, weight: u32) -> f64 {
        let work = f64::from(self.backend.in_flight()) + f64::from(self.backend.queue_depth()) + 1.0;
        work / f64::from(weight.max(1))
    }

    /// The time to first token as measured lately, in microseconds.
    fn speed(&self) -> Option<f64> {
        let measured = Duration::from_millis(self.measured_ms.load(Ordering::Relaxed));
        let us = self.first_token_us.load(Ordering::Relaxed);
        (us > 0 && EPOCH.elapsed().saturating_sub(measured) < STALE).then(|| (us as f64).max(1000.0))
    }

    /// Whether another request costs less here than at `other`: work times the time to first token,
    /// or work alone where one of the two has not been measured lately.
    pub fn is_cheaper(&self, weight: u32, other: &Self, other_weight: u32) -> bool {
        let (work, other_work) = (self.work(weight), other.work(other_weight));
        match (self.speed(), other.speed()) {
            (Some(speed), Some(other_speed)) => work * speed <= other_work * other_speed,
            _ => work <= other_work,
        }
    }

    /// Whether the backend takes one more.
    pub fn has_room(&self) -> bool {
        self.backend.spec.max_in_flight.is_none_or(|max| self.backend.in_flight() < max)
    }

    /// Begins an attempt.
    ///
    /// # Errors
    /// When the breaker or the backend's limit does not let it.
    pub fn lease(self: &Arc<Self>, limits: BreakerLimits) -> Result<Lease, Refused> {
        let pass = self.breaker.try_pass(Instant::now()).ok_or(Refused::Open)?;
        if !self.backend.try_enter() {
            self.breaker.abandon(pass);
            return Err(Refused::Full);
        }
        Ok(Lease { endpoint: Arc::clone(self), limits, pass, reported: false })
    }

    fn observe_first_token(&self, took: Duration) {
        let new = took.as_micros() as f64;
        let mean = self.speed().map_or(new, |old| old + EWMA_ALPHA * (new - old));
        self.first_token_us.store((mean as u64).max(1), Ordering::Relaxed);
        self.measured_ms.store(EPOCH.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

/// An attempt's hold on an endpoint. It counts as in flight until dropped; without a report it says
/// nothing about the backend, as when the caller leaves.
pub struct Lease {
    endpoint: Arc<Endpoint>,
    limits: BreakerLimits,
    pass: Pass,
    reported: bool,
}

impl Lease {
    /// The reply has begun.
    pub fn first_content(&self) {
        self.endpoint.breaker.first_content(self.pass, self.limits.failures);
    }

    /// The first content of a stream came after this time.
    pub fn first_token(&self, took: Duration) {
        self.endpoint.observe_first_token(took);
    }

    /// The reply was whole (an engine's refusal of a bad request is a proper reply, too).
    pub fn success(&mut self) {
        if !std::mem::replace(&mut self.reported, true) {
            self.endpoint.breaker.success(self.pass);
        }
    }

    /// The backend failed.
    pub fn failure(&mut self) {
        if !std::mem::replace(&mut self.reported, true) {
            let limits = self.limits;
            self.endpoint.breaker.failure(self.pass, Instant::now(), limits.failures, limits.open_for);
        }
    }

    /// The backend asks to be left alone for a while.
    pub fn cool_down(&mut self, wait: Duration) {
        if !std::mem::replace(&mut self.reported, true) {
            self.endpoint.breaker.cool_down(self.pass, Instant::now() + wait);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.reported {
            self.endpoint.breaker.abandon(self.pass);
        }
        self.endpoint.backend.leave();
    }
}
