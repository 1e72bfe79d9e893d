//! The backends as they are now: what discovery and health checks last saw of each, and what is in
//! flight there. Everything here answers from memory; a dead backend slows nobody.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use synapse_core::{
    config::snapshot::{BackendSpec, Discovery},
    id::BackendId,
};
use tokio::sync::watch;

pub use super::report::{Health, ListedModel, Load};
use super::{
    admission::Line,
    average::{Average, millis},
    endpoint::Endpoint,
    report,
};
use crate::{
    backend::Backend,
    metrics::{AttemptLabels, BackendLabel, Label, Metrics},
    tasks::TaskGuard,
};

/// Models of one backend whose state is kept.
const MAX_ENDPOINTS: usize = 4096;
/// How long it is remembered how long requests take.
const HOLDS_REMEMBERED: Duration = Duration::from_secs(600);
/// Without a request that ended in this time, the backend may be stuck.
const MAY_BE_STUCK: Duration = Duration::from_secs(5);
/// What a request of somebody else is taken for, in tokens.
const USUAL_TOKENS: f64 = 512.0;

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
    /// Requests that wait inside the engine.
    queue: AtomicU32,
    /// Requests inside the engine that are not ours.
    foreign: AtomicU32,
    /// What it can work on at once, if it says; 0 is unknown.
    slots: AtomicU32,
    in_flight: AtomicU32,
    in_flight_gauge: Gauge,
    /// Attempts that succeeded.
    pub(crate) succeeded: Counter,
    /// The estimated tokens of all requests in flight.
    tokens: AtomicU64,
    /// How long requests have held their place lately.
    hold: Average,
    /// When a place became free, or the first one was taken, for the last time; in [`millis`].
    moved_ms: AtomicU64,
    line: Mutex<Line>,
    /// The length of the line.
    waiting: AtomicU32,
    waiting_gauge: Gauge,
    discovered: AtomicBool,
    retired: AtomicBool,
    listing_lost: AtomicBool,
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
    prober: Mutex<Option<TaskGuard>>,
    looks: watch::Sender<()>,
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
            foreign: AtomicU32::new(0),
            slots: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            in_flight_gauge: metrics.in_flight.get_or_create_owned(&label),
            succeeded: metrics.attempts.get_or_create_owned(&AttemptLabels {
                backend: metrics.backend_label(spec.id.as_str()),
                outcome: "success",
            }),
            tokens: AtomicU64::new(0),
            hold: Average::of_the_last(HOLDS_REMEMBERED),
            moved_ms: AtomicU64::new(0),
            line: Mutex::default(),
            waiting: AtomicU32::new(0),
            waiting_gauge: metrics.queue_waiting.get_or_create_owned(&label),
            discovered: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            listing_lost: AtomicBool::new(false),
            endpoints: Mutex::default(),
            prober: Mutex::default(),
            looks: watch::Sender::new(()),
            pace: Mutex::new(pace),
            spec,
        })
    }

    /// Its name.
    pub fn id(&self) -> &BackendId {
        &self.spec.id
    }

    /// Whether it is a worker that has dialled in.
    pub fn is_worker(&self) -> bool {
        self.spec.is_worker
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

    /// It answers again after it had not: each of its models may be probed at once.
    pub fn take_up_work(&self, now: Instant) {
        self.endpoints().iter().for_each(|endpoint| endpoint.breaker.allow_probe(now));
        tracing::info!(backend = %self.id(), "the backend is back");
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
        let models = self.models.load();
        let kind = self.spec.kind;
        let name = |model: &ListedModel| report::canonical(kind, &model.id).into_owned();
        let listed: HashMap<String, &ListedModel> = models.iter().map(|model| (name(model), model)).collect();
        for endpoint in self.endpoints() {
            endpoint.note_listed(listed.get(&*report::canonical(kind, &endpoint.model)).copied());
        }
        changed || first
    }

    /// Begins with what was known of the same backend under an earlier configuration, until its
    /// own checks say otherwise: nobody should miss a model because a timeout was changed.
    pub fn inherit(&self, earlier: &Self) {
        self.models.store(earlier.models.load_full());
        self.set_health(earlier.health());
        self.set_load(earlier.load(), earlier.in_flight());
    }

    /// The engine's last word on its load.
    pub fn load(&self) -> Load {
        *self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the engine's load. `ours` is how many of our requests it may have counted: at least those
    /// that were in flight when it was asked, or now.
    pub fn set_load(&self, load: Load, ours: u32) {
        self.queue.store(load.waiting, Ordering::Relaxed);
        let inside = load.running.saturating_add(load.waiting);
        self.foreign.store(inside.saturating_sub(ours.max(self.in_flight())), Ordering::Relaxed);
        self.slots.store(load.slots.unwrap_or(0), Ordering::Relaxed);
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

    /// Requests of ours that wait for a place here.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Whether it takes one more. Nobody passes those who wait.
    pub(super) fn has_room(&self) -> bool {
        self.spec.max_in_flight.is_none_or(|max| self.in_flight() < max) && self.waiting() == 0
    }

    /// A place here, if there is one and nobody waits for it.
    pub(super) fn try_enter(self: &Arc<Self>) -> Option<Slot> {
        if self.waiting() > 0 { None } else { self.take_slot() }
    }

    fn take_slot(self: &Arc<Self>) -> Option<Slot> {
        let limit = self.spec.max_in_flight.unwrap_or(u32::MAX);
        let one_more = |count: u32| (count < limit).then_some(count + 1);
        // Sequentially consistent, as is `waiting`: one who lines up sees the place that another leaves, or
        // is seen by the one who leaves it.
        let before = self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok()?;
        if before == 0 {
            self.note_move();
        }
        self.in_flight_gauge.inc();
        Some(Slot(Some(Arc::clone(self))))
    }

    fn leave(self: &Arc<Self>) {
        self.free_slot();
        if self.waiting() > 0 {
            self.admit_waiting();
        }
    }

    fn note_move(&self) {
        self.moved_ms.store(millis(Instant::now()), Ordering::Relaxed);
    }

    fn free_slot(&self) {
        self.note_move();
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.in_flight_gauge.dec();
    }

    /// Looks at the line of those who wait, or changes it.
    pub(super) fn with_line<R>(&self, act: impl FnOnce(&mut Line) -> R) -> R {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut line);
        let length = line.len() as u32;
        let before = self.waiting.swap(length, Ordering::SeqCst);
        // Counted, not set: under a new configuration, two handles may share the gauge for a while.
        self.waiting_gauge.inc_by(i64::from(length) - i64::from(before));
        result
    }

    /// Lets in those who wait, as far as there is room.
    pub(super) fn admit_waiting(self: &Arc<Self>) {
        self.with_line(|line| line.admit(|| self.take_slot()));
    }

    pub(super) fn add_tokens(&self, tokens: u32) {
        self.tokens.fetch_add(tokens.into(), Ordering::Relaxed);
    }

    pub(super) fn take_tokens(&self, tokens: u32) {
        self.tokens.fetch_sub(tokens.into(), Ordering::Relaxed);
    }

    /// A request has held its place for this long.
    pub(super) fn observe_hold(&self, now: Instant, took: Duration) {
        self.hold.observe(now, took);
    }

    /// How long a request holds its place, as far as it is known. Where none has ended for much longer
    /// than they used to take, that is what they take now.
    fn hold(&self, now: Instant) -> Option<Duration> {
        let known = self.hold.get(now);
        let still_for =
            Duration::from_millis(millis(now).saturating_sub(self.moved_ms.load(Ordering::Relaxed)));
        let is_stuck =
            self.in_flight() > 0 && still_for > MAY_BE_STUCK.max(known.unwrap_or_default().saturating_mul(3));
        if is_stuck { Some(still_for) } else { known }
    }

    /// What is to be worked off here, in estimated tokens: our own requests, and those of others in
    /// the engine.
    pub(super) fn outstanding(&self) -> f64 {
        let ours = self.in_flight();
        let tokens = self.tokens.load(Ordering::Relaxed) as f64;
        let foreign = self.foreign.load(Ordering::Relaxed);
        if foreign == 0 {
            return tokens;
        }
        let each = if ours > 0 { tokens / f64::from(ours) } else { USUAL_TOKENS };
        tokens + f64::from(foreign) * each
    }

    /// How many it works on at once, as far as it is known.
    fn concurrency(&self) -> Option<u32> {
        let slots = Some(self.slots.load(Ordering::Relaxed)).filter(|slots| *slots > 0);
        [self.spec.max_in_flight, slots].into_iter().flatten().min()
    }

    /// Requests per second that it can serve, as far as it is known.
    pub(super) fn throughput(&self, now: Instant) -> Option<f64> {
        let hold = self.hold(now)?.as_secs_f64();
        Some(f64::from(self.concurrency().unwrap_or_else(|| self.in_flight().max(1))) / hold)
    }

    /// How long one more request would wait before the engine begins with it.
    pub(super) fn expected_wait(&self, now: Instant) -> Duration {
        let ahead = match self.concurrency() {
            Some(slots) => {
                // What engines tell of themselves may be any number.
                let inside = [self.in_flight(), self.foreign.load(Ordering::Relaxed), self.waiting(), 1];
                inside.into_iter().fold(0, u32::saturating_add).saturating_sub(slots)
            }
            None => self.queue_depth(),
        };
        if ahead == 0 {
            return Duration::ZERO;
        }
        let Some(rate) = self.throughput(now) else { return Duration::ZERO };
        Duration::try_from_secs_f64(f64::from(ahead) / rate).unwrap_or(Duration::MAX)
    }

    /// The endpoint of a model here; made on first use, and kept over reloads.
    pub fn endpoint(self: &Arc<Self>, model: &str) -> Arc<Endpoint> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = endpoints.get(model) {
            return Arc::clone(endpoint);
        }
        let endpoint = Arc::new(Endpoint::new(Arc::clone(self), model.into()));
        let name = |model| report::canonical(self.spec.kind, model);
        endpoint.note_listed(self.models.load().iter().find(|listed| name(&listed.id) == name(model)));
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

    /// Tells of every look that is taken at it.
    pub fn looks(&self) -> watch::Receiver<()> {
        self.looks.subscribe()
    }

    /// A look has been taken at it.
    pub fn note_look(&self) {
        self.looks.send_replace(());
    }

    /// Hands over the task that watches it; it stops when the backend leaves the fleet.
    pub fn set_prober(&self, guard: TaskGuard) {
        *self.prober.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
    }

    /// Ends the watching, and breaks the circle of references with its endpoints.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        *self.prober.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // Whoever waits here looks for another; and whoever began with a configuration that has this one still
        // finds it.
        self.with_line(Line::dissolve);
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A place at a backend, counted until dropped.
pub struct Slot(Option<Arc<BackendHandle>>);

impl Slot {
    /// Frees the place without looking who waits for it; for those who hold the line.
    pub(super) fn give_back(mut self) {
        if let Some(backend) = self.0.take() {
            backend.free_slot();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(backend) = self.0.take() {
            backend.leave();
        }
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
