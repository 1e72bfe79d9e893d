//! The backends as they are now: what discovery and health checks last saw of each, and what is in
//! flight there. Everything here answers from memory; a dead backend slows nobody.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    },
};

use arc_swap::ArcSwap;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::{Map, Value};
use synapse_core::{
    config::snapshot::{BackendSpec, Discovery},
    id::BackendId,
};

use super::endpoint::Endpoint;
use crate::{
    backend::Backend,
    metrics::{BackendLabel, Label, Metrics},
    tasks::TaskGuard,
};

/// Models of one backend whose state is kept.
const MAX_ENDPOINTS: usize = 4096;

/// What health checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// Not yet asked.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

impl Health {
    /// The word on `/health`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "healthy",
            Self::Down => "unhealthy",
        }
    }
}

/// A model as its backend lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedModel {
    /// The backend's name for it.
    pub id: String,
    /// Everything else that the backend says of it.
    pub fields: Map<String, Value>,
    /// Whether it is in memory, where the engine tells.
    pub loaded: Option<bool>,
}

/// An engine's own view of its load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests it works on.
    pub running: u32,
    /// Requests that wait inside it.
    pub waiting: u32,
    /// How full its KV cache is, 0–1.
    pub kv_usage: Option<f64>,
    /// Requests it can work on at once.
    pub slots: Option<u32>,
}

/// A backend and its state.
pub struct BackendHandle {
    /// As configured, or as found on this machine.
    pub spec: Arc<BackendSpec>,
    /// The way to it.
    pub transport: Arc<dyn Backend>,
    /// What it serves.
    pub models: ArcSwap<Vec<ListedModel>>,
    health: AtomicU8,
    load: Mutex<Load>,
    queue: AtomicU32,
    in_flight: AtomicU32,
    in_flight_gauge: Gauge,
    discovered: AtomicBool,
    retired: AtomicBool,
    listing_lost: AtomicBool,
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
    prober: Mutex<Option<TaskGuard>>,
    pace: Mutex<Discovery>,
}

impl BackendHandle {
    /// A backend of which nothing is known yet.
    pub fn new(
        spec: Arc<BackendSpec>,
        transport: Arc<dyn Backend>,
        pace: Discovery,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let label = BackendLabel { backend: Label::from(spec.id.as_str()) };
        Arc::new(Self {
            transport,
            models: ArcSwap::default(),
            health: AtomicU8::new(Health::Unknown as u8),
            load: Mutex::default(),
            queue: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            in_flight_gauge: metrics.in_flight.get_or_create_owned(&label),
            discovered: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            listing_lost: AtomicBool::new(false),
            endpoints: Mutex::default(),
            prober: Mutex::default(),
            pace: Mutex::new(pace),
            spec,
        })
    }

    /// Its name.
    pub fn id(&self) -> &BackendId {
        &self.spec.id
    }

    /// What health checks last said.
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            1 => Health::Up,
            2 => Health::Down,
            _ => Health::Unknown,
        }
    }

    /// Notes what a health check says; returns what was known before.
    pub fn set_health(&self, health: Health) -> Health {
        let before = self.health();
        self.health.store(health as u8, Ordering::Relaxed);
        before
    }

    /// Whether it has not told for a while what it serves.
    pub fn is_listing_lost(&self) -> bool {
        self.listing_lost.load(Ordering::Relaxed)
    }

    /// Its list cannot be read any more; whether that changes anything.
    pub fn lose_models(&self) -> bool {
        self.listing_lost.store(true, Ordering::Relaxed);
        !self.models.swap(Arc::default()).is_empty()
    }

    /// Notes what it serves; whether that differs from before.
    pub fn set_models(&self, models: Vec<ListedModel>) -> bool {
        self.listing_lost.store(false, Ordering::Relaxed);
        let first = !self.discovered.swap(true, Ordering::Relaxed);
        let changed = **self.models.load() != models;
        if changed {
            self.models.store(Arc::new(models));
        }
        changed || first
    }

    /// Begins with what was known of the same backend under an earlier configuration, until its
    /// own checks say otherwise: nobody should miss a model because a timeout was changed.
    pub fn inherit(&self, earlier: &Self) {
        self.models.store(earlier.models.load_full());
        self.set_health(earlier.health());
        self.set_load(earlier.load());
    }

    /// The engine's last word on its load.
    pub fn load(&self) -> Load {
        *self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the engine's load.
    pub fn set_load(&self, load: Load) {
        self.queue.store(load.waiting, Ordering::Relaxed);
        *self.load.lock().unwrap_or_else(PoisonError::into_inner) = load;
    }

    /// Requests that wait inside the engine.
    pub fn queue_depth(&self) -> u32 {
        self.queue.load(Ordering::Relaxed)
    }

    /// Requests of ours that it works on.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts one more request, if the limit allows it.
    pub(super) fn try_enter(&self) -> bool {
        let limit = self.spec.max_in_flight.unwrap_or(u32::MAX);
        let one_more = |count: u32| (count < limit).then_some(count + 1);
        let entered = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok();
        if entered {
            self.in_flight_gauge.inc();
        }
        entered
    }

    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.in_flight_gauge.dec();
    }

    /// The endpoint of a model here; made on first use, and kept over reloads.
    pub fn endpoint(self: &Arc<Self>, model: &str) -> Arc<Endpoint> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = endpoints.get(model) {
            return Arc::clone(endpoint);
        }
        let endpoint = Arc::new(Endpoint::new(Arc::clone(self), model.into()));
        // Behind a pattern (`openai/*`) callers choose the names: beyond the bound, what they make up is
        // not kept. Nor is anything kept once the backend has left the fleet: it would keep itself.
        if endpoints.len() >= MAX_ENDPOINTS || self.retired.load(Ordering::Relaxed) {
            return endpoint;
        }
        endpoints.insert(model.to_owned(), Arc::clone(&endpoint));
        endpoint
    }

    /// Every endpoint so far.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// How often it is looked at.
    pub fn pace(&self) -> Discovery {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how often it is looked at.
    pub fn set_pace(&self, pace: Discovery) {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = pace;
    }

    /// Hands over the task that watches it; it stops when the backend leaves the fleet.
    pub fn set_prober(&self, guard: TaskGuard) {
        *self.prober.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
    }

    /// Ends the watching, and breaks the circle of references with its endpoints.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        *self.prober.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// All backends, in the order of the configuration.
#[derive(Default)]
pub struct Fleet {
    backends: Vec<Arc<BackendHandle>>,
    by_id: HashMap<BackendId, usize>,
}

impl Fleet {
    /// A fleet of these.
    pub fn new(backends: Vec<Arc<BackendHandle>>) -> Self {
        let by_id = backends.iter().enumerate().map(|(at, b)| (b.id().clone(), at)).collect();
        Self { backends, by_id }
    }

    /// Every backend.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<BackendHandle>> {
        self.backends.iter()
    }

    /// One by its name.
    pub fn get(&self, id: &BackendId) -> Option<&Arc<BackendHandle>> {
        self.by_id.get(id).map(|&at| &self.backends[at])
    }
}
