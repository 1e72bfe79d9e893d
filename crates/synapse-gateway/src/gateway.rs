//! The gateway's state: configuration, fleet and catalogue swapped as one, keys beside them. A
//! request takes hold of what is current when it begins and keeps it to its end.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use hyper::header::HeaderValue;
use synapse_core::{
    config::snapshot::{BackendSpec, BaseUrl, Discovery, Snapshot},
    id::RequestId,
    principal::KeyTable,
    store::admin_tokens::AdminTokenTable,
    worker::WorkerKeyTable,
};
use synapse_tunnel::gateway::{Credential, Hub, HubOptions, Notices};
use tokio::sync::{Notify, Semaphore};

use crate::{
    audit::{AuditLog, Record, RecordSink, Records},
    backend::http::{HttpBackend, TlsSetup},
    discover,
    drain::Drain,
    inspect::policies::{Policies, PolicyFault},
    limits::Limiter,
    metrics::Metrics,
    route::{
        admission::WaitingRoom,
        budget::RetryBudget,
        fleet::{BackendHandle, Fleet, Health},
        realm::Realms,
    },
    workers::Workers,
};

/// What requests see; immutable.
pub struct Live {
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
    /// The backends of all groups.
    pub fleet: Arc<Fleet>,
    /// What each group reaches of them.
    pub realms: Realms,
    /// The policies for sensitive data.
    pub policies: Arc<Policies>,
}

/// The gateway.
pub struct Gateway {
    live: ArcSwap<Live>,
    keys: ArcSwap<KeyTable>,
    /// Engines found on this machine.
    local: Mutex<Vec<Arc<BackendSpec>>>,
    admin_tokens: ArcSwap<AdminTokenTable>,
    worker_keys: Arc<ArcSwap<WorkerKeyTable>>,
    hub: Arc<Hub>,
    /// What workers are told when they come.
    notices: Arc<OnceLock<Notices>>,
    workers: Mutex<Workers>,
    /// Serialises changes of `live`; requests never touch it.
    changing: Mutex<()>,
    listing_changed: Arc<Notify>,
    stores_reachable: AtomicBool,
    tls: TlsSetup,
    instance: Arc<str>,
    hop: HeaderValue,
    /// Retries as a share of traffic.
    pub budget: RetryBudget,
    /// What the requests that wait for a backend share.
    pub waiting: Arc<WaitingRoom>,
    /// How many large bodies are searched at once.
    pub(crate) searches: Arc<Semaphore>,
    /// What callers may spend.
    pub limits: Arc<Limiter>,
    /// Where records go.
    pub records: Arc<Records>,
    /// Everything that is counted.
    pub metrics: Arc<Metrics>,
    /// Whether the gateway is going down, and what is still open.
    pub drain: Arc<Drain>,
}

impl Gateway {
    /// A gateway with this configuration; must be called within the runtime that is to watch the
    /// backends. `instance` marks requests that have passed this gateway; `sink` takes the records of
    /// closed requests, `log` keeps them.
    ///
    /// # Errors
    /// When a backend's credential or CA file cannot be used.
    pub fn new(
        snapshot: Arc<Snapshot>,
        instance: &str,
        sink: Arc<dyn RecordSink>,
        log: Option<Arc<AuditLog>>,
    ) -> Result<Arc<Self>, SetupFault> {
        let metrics = Arc::new(Metrics::new());
        if let Some(log) = &log {
            log.count_lost(metrics.audit_lost.clone());
        }
        let empty = Live {
            snapshot: Arc::clone(&snapshot),
            fleet: Arc::default(),
            realms: Realms::default(),
            policies: Arc::default(),
        };
        let worker_keys = Arc::<ArcSwap<WorkerKeyTable>>::default();
        let notices = Arc::default();
        let gateway = Arc::new(Self {
            live: ArcSwap::from_pointee(empty),
            keys: ArcSwap::default(),
            local: Mutex::default(),
            admin_tokens: ArcSwap::default(),
            hub: Hub::new(hub_options(&worker_keys, &notices)),
            notices,
            worker_keys,
            workers: Mutex::default(),
            changing: Mutex::default(),
            listing_changed: Arc::default(),
            stores_reachable: AtomicBool::new(false),
            tls: TlsSetup::default(),
            instance: instance.into(),
            hop: HeaderValue::from_str(instance).unwrap_or(HeaderValue::from_static("-")),
            budget: RetryBudget::new(Instant::now()),
            waiting: Arc::default(),
            searches: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))),
            limits: Limiter::new(instance, Arc::clone(&metrics)),
            records: Records::new(Arc::clone(&metrics), sink, log),
            metrics,
            drain: Arc::default(),
        });
        gateway.apply(snapshot)?;
        Ok(gateway)
    }

    /// What is current.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// The keys that are current.
    pub fn keys(&self) -> Arc<KeyTable> {
        self.keys.load_full()
    }

    /// The workers' keys that are current.
    pub fn worker_keys(&self) -> Arc<WorkerKeyTable> {
        self.worker_keys.load_full()
    }

    /// What workers are to be told when they come, from now on and for good.
    pub fn announce(&self, notices: Notices) {
        let _only_once = self.notices.set(notices);
    }

    /// Replaces the workers' keys. Sessions whose key is gone, or means something else now, end at once.
    pub fn set_worker_keys(&self, keys: WorkerKeyTable) {
        self.worker_keys.store(Arc::new(keys));
        let keys = self.worker_keys();
        let ended = self.hub.revoke(|credential| !holds(&keys, credential));
        if ended > 0 {
            tracing::info!(sessions = ended, "workers' keys have changed; their sessions were ended");
        }
    }

    /// The administrators' tokens that are current.
    pub fn admin_tokens(&self) -> Arc<AdminTokenTable> {
        self.admin_tokens.load_full()
    }

    /// Replaces the administrators' tokens.
    pub fn set_admin_tokens(&self, tokens: AdminTokenTable) {
        self.admin_tokens.store(Arc::new(tokens));
    }

    /// Where workers come in.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Looks at the workers that are in the fleet.
    pub fn with_workers<R>(&self, look: impl FnOnce(&Workers) -> R) -> R {
        look(&self.workers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in what has changed with the workers.
    pub(crate) fn take_in_workers(&self) {
        let _change = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let sessions = self.hub.sessions();
        let changes = {
            let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
            workers.take_in(&sessions, &self.hop, &self.metrics)
        };
        let live = self.live();
        if changes.fleet {
            let others = live.fleet.iter().filter(|backend| !backend.is_worker()).cloned().collect();
            self.set_fleet(&live, Arc::clone(&live.snapshot), Arc::clone(&live.policies), others);
        } else if changes.models {
            self.rebuild_realms();
        }
    }

    /// Marks requests that have passed this gateway.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// What a caller is told of the entry that accepted its request, where replies tell of such things.
    pub(crate) fn receipt(&self, record: &Record) -> Option<HeaderValue> {
        let log = self.records.log().filter(|_| self.live.load().snapshot.server.reveal_backend)?;
        HeaderValue::try_from(record.receipt(log)?).ok()
    }

    /// Replaces the keys.
    pub fn set_keys(&self, keys: KeyTable) {
        self.keys.store(Arc::new(keys));
        self.set_stores_reachable(true);
    }

    /// Says whether the stores can be reached. Without them the gateway goes on with what it knows,
    /// but is not ready.
    pub fn set_stores_reachable(&self, reachable: bool) {
        self.stores_reachable.store(reachable, Ordering::Relaxed);
    }

    /// Whether the stores can be reached and the gateway is not going down.
    pub fn is_ready(&self) -> bool {
        self.stores_reachable.load(Ordering::Relaxed) && !self.drain.is_draining()
    }

    /// Puts a new configuration in force. Backends that did not change keep their state and their
    /// connections; requests under way keep what they began with.
    ///
    /// # Errors
    /// When a backend or a policy cannot be set up; then nothing has changed.
    pub fn apply(self: &Arc<Self>, snapshot: Arc<Snapshot>) -> Result<(), SetupFault> {
        let _change = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.replace(snapshot)
    }

    /// Forgets the engines found on this machine.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn forget_local(self: &Arc<Self>) -> Result<(), SetupFault> {
        let _change = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let forgotten = std::mem::take(&mut *self.local.lock().unwrap_or_else(PoisonError::into_inner));
        if forgotten.is_empty() { Ok(()) } else { self.replace(Arc::clone(&self.live().snapshot)) }
    }

    /// Sets the engines found on this machine. One that was found before stays until its health
    /// checks fail: it may only have been too busy to answer.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn set_local(self: &Arc<Self>, found: Vec<Arc<BackendSpec>>) -> Result<(), SetupFault> {
        let _change = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live();
        let mut found = found;
        {
            let mut local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
            let lives = |spec: &&Arc<BackendSpec>| {
                live.fleet.get(&spec.id).is_some_and(|backend| backend.health() != Health::Down)
            };
            let missed =
                local.iter().filter(|known| found.iter().all(|spec| spec.id != known.id)).filter(lives);
            found.extend(missed.cloned().collect::<Vec<_>>());
            let same = |spec: &Arc<BackendSpec>| {
                local.iter().any(|known| same_backend(known, spec) && known.id == spec.id)
            };
            if found.len() == local.len() && found.iter().all(same) {
                return Ok(());
            }
            *local = found;
        }
        self.replace(Arc::clone(&live.snapshot))
    }

    fn replace(self: &Arc<Self>, snapshot: Arc<Snapshot>) -> Result<(), SetupFault> {
        let old = self.live();
        let policies = if std::ptr::eq(&*old.snapshot, &*snapshot) && old.policies.is_compiled() {
            Arc::clone(&old.policies)
        } else {
            Arc::new(Policies::compile(&snapshot.dlp)?)
        };
        let local = self.local.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut kept = Vec::new();
        let mut fresh = Vec::new();
        // What is configured is not found a second time.
        let configured = |found: &&Arc<BackendSpec>| {
            let same =
                |b: &Arc<BackendSpec>| b.id == found.id || (is_here(&b.url) && b.url.port == found.url.port);
            snapshot.backends.iter().any(same)
        };
        for spec in snapshot.backends.iter().chain(local.iter().filter(|found| !configured(found))) {
            let known = old.fleet.get(&spec.id).filter(|known| same_backend(&known.spec, spec));
            let handle = match known {
                Some(handle) => {
                    handle.set_pace(snapshot.discovery);
                    Arc::clone(handle)
                }
                None => {
                    let handle = self.open_backend(spec, snapshot.discovery)?;
                    if let Some(earlier) = old.fleet.get(&spec.id) {
                        handle.inherit(earlier);
                    }
                    fresh.push(Arc::clone(&handle));
                    handle
                }
            };
            kept.push(handle);
        }
        self.set_fleet(&old, snapshot, policies, kept);
        for handle in fresh {
            discover::watch(&handle, Arc::clone(&self.metrics), Arc::clone(&self.listing_changed));
        }
        Ok(())
    }

    /// Makes these backends and the workers the fleet.
    fn set_fleet(
        &self,
        old: &Live,
        snapshot: Arc<Snapshot>,
        policies: Arc<Policies>,
        mut kept: Vec<Arc<BackendHandle>>,
    ) {
        self.with_workers(|workers| {
            for worker in workers.handles() {
                // What is configured wins.
                if kept.iter().any(|configured| configured.id() == worker.id()) {
                    tracing::warn!(backend = %worker.id(), "a worker has the name of a configured backend; it gets no requests");
                } else {
                    kept.push(Arc::clone(worker));
                }
            }
        });
        let fleet = Arc::new(Fleet::new(kept));
        let realms = Realms::build(&snapshot, &fleet, &old.realms);
        self.live.store(Arc::new(Live { snapshot, fleet: Arc::clone(&fleet), realms, policies }));
        // Only now: whoever waits for one of these looks for another.
        for gone in old.fleet.iter().filter(|b| !fleet.iter().any(|kept| Arc::ptr_eq(kept, b))) {
            gone.retire();
            if fleet.get(gone.id()).is_none() {
                self.metrics.forget_backend(gone.id().as_str(), &gone.models.load());
            }
        }
    }

    fn open_backend(
        &self,
        spec: &Arc<BackendSpec>,
        pace: Discovery,
    ) -> Result<Arc<BackendHandle>, SetupFault> {
        let transport = HttpBackend::new(spec, &self.tls, &self.instance)
            .map_err(|source| SetupFault::Backend { backend: spec.id.to_string(), source })?;
        Ok(BackendHandle::new(Arc::clone(spec), Arc::new(transport), pace, &self.metrics))
    }

    /// Keeps the catalogue in step with what backends list; runs for as long as the gateway.
    pub async fn keep_catalog(self: Arc<Self>) {
        loop {
            self.listing_changed.notified().await;
            let _change = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            self.rebuild_realms();
        }
    }

    /// Looks anew at what backends list; to be called by whoever holds `changing`.
    fn rebuild_realms(&self) {
        let live = self.live();
        let (snapshot, fleet) = (Arc::clone(&live.snapshot), Arc::clone(&live.fleet));
        let realms = Realms::build(&snapshot, &fleet, &live.realms);
        let policies = Arc::clone(&live.policies);
        self.live.store(Arc::new(Live { snapshot, fleet, realms, policies }));
    }
}

/// A part of the configuration that only fails when it is put in force.
#[derive(Debug, thiserror::Error)]
pub enum SetupFault {
    /// A backend cannot be set up.
    #[error("backend `{backend}` cannot be set up: {source}")]
    Backend {
        /// Which.
        backend: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A policy for sensitive data cannot be used.
    #[error("line {line}: {0}", line = .0.line())]
    Policy(#[from] PolicyFault),
}

fn hub_options(keys: &Arc<ArcSwap<WorkerKeyTable>>, notices: &Arc<OnceLock<Notices>>) -> HubOptions {
    let (keys, notices) = (Arc::clone(keys), Arc::clone(notices));
    HubOptions {
        is_valid: Box::new(move |credential| holds(&keys.load(), credential)),
        notices: Box::new(move |hello| notices.get().map_or_else(Vec::new, |notices| notices(hello))),
        ..HubOptions::new(RequestId::generate().as_str(), env!("CARGO_PKG_VERSION"))
    }
}

/// Whether a worker's key is still what it was when the worker came.
fn holds(keys: &WorkerKeyTable, credential: &Credential) -> bool {
    keys.find(&credential.secret).is_some_and(|key| {
        key.group.as_str() == &*credential.group && key.allows_cloud == credential.allows_cloud
    })
}

/// Whether an address is this machine's own.
fn is_here(url: &BaseUrl) -> bool {
    url.host == "localhost" || url.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a backend can go on as it is under a new configuration.
fn same_backend(a: &BackendSpec, b: &BackendSpec) -> bool {
    use secrecy::ExposeSecret;
    let key = |spec: &BackendSpec| spec.api_key.as_ref().map(|k| k.expose_secret().to_owned());
    a.kind == b.kind
        && a.groups == b.groups
        && a.url == b.url
        && a.locality == b.locality
        && a.timeouts == b.timeouts
        && a.max_in_flight == b.max_in_flight
        && a.ca_file == b.ca_file
        && key(a) == key(b)
}
