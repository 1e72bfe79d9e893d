//! A model at a backend, with everything the choice looks at; and the lease that an attempt holds
//! on it until its reply has ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use synapse_core::{
    config::snapshot::{Breaker as BreakerLimits, EngineKind, Locality},
    operation::Operation,
};

use super::{
    average::{Average, millis},
    breaker::{Breaker, Pass},
    fleet::{BackendHandle, ListedModel, Slot},
    report,
};

/// Latencies older than this say nothing.
const LATELY: Duration = Duration::from_secs(30);
/// An engine that does not know a model, or not this operation, is a last choice for so long.
const LACKING_FOR: Duration = Duration::from_secs(60);

/// A model at a backend.
pub struct Endpoint {
    /// Where.
    pub backend: Arc<BackendHandle>,
    /// The backend's own name for the model.
    pub model: Arc<str>,
    /// Its breaker.
    pub breaker: Breaker,
    /// From the attempt's begin to the first content of a stream.
    first_token: Average,
    /// From the attempt's begin to the end of a plain reply.
    whole: Average,
    residency: AtomicU8,
    /// One of [`Runs`].
    runs: AtomicU8,
    last_turn: AtomicUsize,
    /// By operation: until when the engine is taken not to offer it, in [`millis`]; 0 is never.
    lacking: [AtomicU64; Operation::ALL.len()],
}

/// Whether a model is in an engine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Residency {
    /// The engine does not say; most have their one model loaded.
    Unknown,
    /// It is.
    Warm,
    /// It would have to be loaded first.
    Cold,
}

/// Why an endpoint takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is at its `max_in_flight`.
    Full,
    /// Its breaker is open.
    Open,
}

/// What kind of reply is asked for, and how much it is expected to cost.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// What is asked for.
    pub operation: Operation,
    /// Whether it is a stream.
    pub streamed: bool,
    /// Prompt and reply, in tokens, estimated.
    pub tokens: u32,
}

/// Where a model runs, by its backend's list.
#[derive(Clone, Copy)]
enum Runs {
    /// The list has not told.
    Unknown,
    /// At its backend.
    Here,
    /// With somebody to whom its backend passes requests on.
    Elsewhere,
}

impl Endpoint {
    /// A fresh endpoint.
    pub fn new(backend: Arc<BackendHandle>, model: Arc<str>) -> Self {
        Self {
            backend,
            model,
            breaker: Breaker::default(),
            first_token: Average::of_the_last(LATELY),
            whole: Average::of_the_last(LATELY),
            residency: AtomicU8::new(Residency::Unknown as u8),
            runs: AtomicU8::new(Runs::Unknown as u8),
            last_turn: AtomicUsize::new(0),
            lacking: Default::default(),
        }
    }

    /// Whether the model is in the engine's memory, as far as it is known.
    pub fn residency(&self) -> Residency {
        match self.residency.load(Ordering::Relaxed) {
            1 => Residency::Warm,
            2 => Residency::Cold,
            _ => Residency::Unknown,
        }
    }

    /// Notes what the engine says of the model.
    pub fn set_residency(&self, residency: Residency) {
        self.residency.store(residency as u8, Ordering::Relaxed);
    }

    /// Where requests for this model end up.
    pub fn locality(&self) -> Locality {
        let spec = &self.backend.spec;
        match self.runs.load(Ordering::Relaxed) {
            runs if runs == Runs::Elsewhere as u8 => Locality::Cloud,
            runs if runs == Runs::Here as u8 => spec.locality,
            // An Ollama passes on what it does not have: what its list has not told of may be anywhere.
            _ if spec.kind == EngineKind::Ollama => Locality::Cloud,
            _ => spec.locality,
        }
    }

    /// Notes what the backend's list says of the model. One that has vanished from it stays where it was.
    pub(super) fn note_listed(&self, listed: Option<&ListedModel>) {
        self.set_residency(match listed.and_then(|model| model.loaded) {
            None => Residency::Unknown,
            Some(true) => Residency::Warm,
            Some(false) => Residency::Cold,
        });
        if let Some(model) = listed {
            let is_elsewhere =
                model.is_passed_on() || report::is_named_cloud(self.backend.spec.kind, &self.model);
            let runs = if is_elsewhere { Runs::Elsewhere } else { Runs::Here };
            self.runs.store(runs as u8, Ordering::Relaxed);
        }
    }

    /// When it was last chosen, on a clock that counts choices.
    pub(super) fn last_turn(&self) -> usize {
        self.last_turn.load(Ordering::Relaxed)
    }

    pub(super) fn note_turn(&self, turn: usize) {
        self.last_turn.store(turn, Ordering::Relaxed);
    }

    /// Whether the engine has said lately that it does not know the model, or not this operation of it.
    pub(super) fn lacks(&self, operation: Operation, now: Instant) -> bool {
        let until = self.lacking[operation as usize].load(Ordering::Relaxed);
        until > 0 && millis(now) < until
    }

    fn note_lacking(&self, operation: Operation, now: Instant) {
        self.lacking[operation as usize].store(millis(now + LACKING_FOR), Ordering::Relaxed);
    }

    /// How long a reply of this kind has taken to begin lately; a plain one begins when it is whole.
    pub fn latency(&self, streamed: bool, now: Instant) -> Option<Duration> {
        if streamed { self.first_token.get(now) } else { self.whole.get(now) }
    }

    pub(super) fn observe(&self, streamed: bool, now: Instant, took: Duration) {
        let measure = if streamed { &self.first_token } else { &self.whole };
        measure.observe(now, took);
    }

    /// The work that would be before a request's end here, itself included, by weight.
    fn work(&self, weight: f64, demand: Demand) -> f64 {
        (self.backend.outstanding() + f64::from(demand.tokens) + 1.0) / weight.max(f64::EPSILON)
    }

    /// Whether a request costs less here than at `other`: work times the time to first token, or work
    /// alone where one of the two has not been measured lately.
    pub fn is_cheaper(
        &self,
        weight: f64,
        other: &Self,
        other_weight: f64,
        demand: Demand,
        now: Instant,
    ) -> bool {
        let (work, other_work) = (self.work(weight, demand), other.work(other_weight, demand));
        let speed = |endpoint: &Self| {
            endpoint.latency(demand.streamed, now).map(|took| took.as_secs_f64().max(0.001))
        };
        match (speed(self), speed(other)) {
            (Some(speed), Some(other_speed)) => work * speed <= other_work * other_speed,
            _ => work <= other_work,
        }
    }

    /// Begins an attempt.
    ///
    /// # Errors
    /// When the breaker or the backend's limit does not let it.
    pub fn lease(self: &Arc<Self>, limits: BreakerLimits, demand: Demand) -> Result<Lease, Refused> {
        let slot = self.backend.try_enter().ok_or(Refused::Full)?;
        self.lease_slot(slot, limits, demand)
    }

    /// Begins an attempt in a place that is held already.
    ///
    /// # Errors
    /// When the breaker does not let it; the place is free again then.
    pub fn lease_slot(
        self: &Arc<Self>,
        slot: Slot,
        limits: BreakerLimits,
        demand: Demand,
    ) -> Result<Lease, Refused> {
        let began = Instant::now();
        let pass = self.breaker.try_pass(began).ok_or(Refused::Open)?;
        self.backend.add_tokens(demand.tokens);
        Ok(Lease { endpoint: Arc::clone(self), _slot: slot, limits, pass, demand, began, reported: false })
    }
}

/// An attempt's hold on an endpoint. It counts as in flight until dropped; without a report it says
/// nothing about the backend, as when the caller leaves.
pub struct Lease {
    endpoint: Arc<Endpoint>,
    _slot: Slot,
    limits: BreakerLimits,
    pass: Pass,
    demand: Demand,
    began: Instant,
    reported: bool,
}

impl Lease {
    /// When the attempt began.
    pub const fn began(&self) -> Instant {
        self.began
    }

    /// The reply has begun.
    pub fn first_content(&self, now: Instant) {
        self.endpoint.breaker.first_content(self.pass, now, self.limits);
        self.endpoint.observe(self.demand.streamed, now, now.duration_since(self.began));
        if self.endpoint.residency() == Residency::Cold {
            self.endpoint.set_residency(Residency::Warm);
        }
    }

    /// The reply was whole.
    pub fn success(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.reported, true) {
            self.endpoint.breaker.success(self.pass, now);
            self.endpoint.backend.observe_hold(now, now.duration_since(self.began));
        }
    }

    /// The engine refused a bad request, which is a proper answer; but it says nothing of how long
    /// good ones take.
    pub fn proper_refusal(&mut self) {
        if !std::mem::replace(&mut self.reported, true) {
            self.endpoint.breaker.success(self.pass, Instant::now());
        }
    }

    /// The engine does not know the model, or not the operation: for a while others are asked first.
    pub fn lacking(&mut self) {
        self.endpoint.note_lacking(self.demand.operation, Instant::now());
        self.proper_refusal();
    }

    /// The backend failed.
    pub fn failure(&mut self) {
        if !std::mem::replace(&mut self.reported, true) {
            self.endpoint.breaker.failure(self.pass, Instant::now(), self.limits);
        }
    }

    /// The backend cannot serve now, and says for how long.
    pub fn unavailable(&mut self, wait: Duration) {
        if !std::mem::replace(&mut self.reported, true) {
            self.endpoint.breaker.unavailable(self.pass, Instant::now(), wait, self.limits);
        }
    }

    /// The backend is at its limit and asks to be left alone for a while; `None` where it does not say for how long.
    pub fn cool_down(&mut self, wait: Option<Duration>) {
        if !std::mem::replace(&mut self.reported, true) {
            self.endpoint.breaker.cool_down(self.pass, Instant::now(), wait);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.reported {
            self.endpoint.breaker.abandon(self.pass);
        }
        self.endpoint.backend.take_tokens(self.demand.tokens);
    }
}
