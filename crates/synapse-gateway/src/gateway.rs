//! The gateway's state: configuration, fleet and catalogue swapped as one, keys beside them. A
//! request takes hold of what is current when it begins and keeps it to its end.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use synapse_core::{
    config::snapshot::{BackendSpec, Snapshot},
    principal::KeyTable,
};
use tokio::sync::Notify;

use crate::{
    audit::Journal,
    backend::http::{HttpBackend, TlsSetup},
    discover,
    drain::Drain,
    metrics::Metrics,
    route::{
        budget::RetryBudget,
        catalog::Catalog,
        fleet::{BackendHandle, Fleet},
    },
};

/// What requests see; immutable.
pub struct Live {
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
    /// The backends.
    pub fleet: Arc<Fleet>,
    /// The models.
    pub catalog: Catalog,
}

/// The gateway.
pub struct Gateway {
    live: ArcSwap<Live>,
    keys: ArcSwap<KeyTable>,
    /// Engines found on this machine.
    local: Mutex<Vec<Arc<BackendSpec>>>,
    /// Serialises changes of `live`; requests never touch it.
    changing: Mutex<()>,
    listing_changed: Arc<Notify>,
    has_state: AtomicBool,
    tls: TlsSetup,
    instance: Arc<str>,
    /// Retries as a share of traffic.
    pub budget: RetryBudget,
    /// Where records go.
    pub journal: Arc<Journal>,
    /// Everything that is counted.
    pub metrics: Arc<Metrics>,
    /// Whether the gateway is going down, and what is still open.
    pub drain: Arc<Drain>,
}

impl Gateway {
    /// A gateway with this configuration; must be called within the runtime that is to watch the
    /// backends. `instance` marks requests that have passed this gateway.
    ///
    /// # Errors
    /// When a backend's credential or CA file cannot be used.
    pub fn new(snapshot: Arc<Snapshot>, instance: &str) -> Result<Arc<Self>, BackendFault> {
        let metrics = Arc::new(Metrics::new());
        let empty =
            Live { snapshot: Arc::clone(&snapshot), fleet: Arc::default(), catalog: Catalog::default() };
        let gateway = Arc::new(Self {
            live: ArcSwap::from_pointee(empty),
            keys: ArcSwap::default(),
            local: Mutex::default(),
            changing: Mutex::default(),
            listing_changed: Arc::default(),
            has_state: AtomicBool::new(false),
            tls: TlsSetup::default(),
            instance: instance.into(),
            budget: RetryBudget::new(Instant::now()),
            journal: Journal::new(Arc::clone(&metrics)),
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

    /// Marks requests that have passed this gateway.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Replaces the keys.
    pub fn set_keys(&self, keys: KeyTable) {
        self.keys.store(Arc::new(keys));
        self.has_state.store(true, Ordering::Relaxed);
    }

    /// Whether keys have been loaded and the gateway is not going down.
    pub fn is_ready(&self) -> bool {
        self.has_state.load(Ordering::Relaxed) && !self.drain.is_draining()
    }

    /// Puts a new configuration in force. Backends that did not change keep their state and their
    /// connections; requests under way keep what they began with.
    ///
    /// # Errors
    /// When a backend cannot be set up; then nothing has changed.
    pub fn apply(self: &Arc<Self>, snapshot: Arc<Snapshot>) -> Result<(), BackendFault> {
        let _change = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.journal.set_access_log(snapshot.logs.access);
        self.replace(snapshot)
    }

    /// Sets the engines found on this machine.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn set_local(self: &Arc<Self>, found: Vec<Arc<BackendSpec>>) -> Result<(), BackendFault> {
        let _change = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        *self.local.lock().unwrap_or_else(PoisonError::into_inner) = found;
        self.replace(Arc::clone(&self.live().snapshot))
    }

    fn replace(self: &Arc<Self>, snapshot: Arc<Snapshot>) -> Result<(), BackendFault> {
        let old = self.live();
        let local = self.local.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut kept = Vec::new();
        let mut fresh = Vec::new();
        for spec in snapshot.backends.iter().chain(&local) {
            let known = old.fleet.get(&spec.id).filter(|known| same_backend(&known.spec, spec));
            let handle = match known {
                Some(handle) => Arc::clone(handle),
                None => {
                    let handle = self.open_backend(spec)?;
                    if let Some(earlier) = old.fleet.get(&spec.id) {
                        handle.inherit(earlier);
                    }
                    fresh.push(Arc::clone(&handle));
                    handle
                }
            };
            kept.push(handle);
        }
        for gone in old.fleet.iter().filter(|b| !kept.iter().any(|k| Arc::ptr_eq(k, b))) {
            gone.retire();
        }
        let fleet = Arc::new(Fleet::new(kept));
        let catalog = Catalog::build(&snapshot, &fleet);
        self.live.store(Arc::new(Live { snapshot, fleet, catalog }));
        for handle in fresh {
            let settings = self.live().snapshot.discovery;
            discover::watch(&handle, settings, Arc::clone(&self.metrics), Arc::clone(&self.listing_changed));
        }
        Ok(())
    }

    fn open_backend(&self, spec: &Arc<BackendSpec>) -> Result<Arc<BackendHandle>, BackendFault> {
        let transport = HttpBackend::new(spec, &self.tls, &self.instance)
            .map_err(|source| BackendFault { backend: spec.id.to_string(), source })?;
        Ok(BackendHandle::new(Arc::clone(spec), Arc::new(transport), &self.metrics))
    }

    /// Keeps the catalogue in step with what backends list; runs for as long as the gateway.
    pub async fn keep_catalog(self: Arc<Self>) {
        loop {
            self.listing_changed.notified().await;
            let _change = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let live = self.live();
            let (snapshot, fleet) = (Arc::clone(&live.snapshot), Arc::clone(&live.fleet));
            let catalog = Catalog::build(&snapshot, &fleet);
            self.live.store(Arc::new(Live { snapshot, fleet, catalog }));
        }
    }
}

/// A backend that cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("backend `{backend}` cannot be set up: {source}")]
pub struct BackendFault {
    backend: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Whether a backend can go on as it is under a new configuration.
fn same_backend(a: &BackendSpec, b: &BackendSpec) -> bool {
    use secrecy::ExposeSecret;
    let key = |spec: &BackendSpec| spec.api_key.as_ref().map(|k| k.expose_secret().to_owned());
    a.kind == b.kind
        && a.url == b.url
        && a.locality == b.locality
        && a.timeouts == b.timeouts
        && a.max_in_flight == b.max_in_flight
        && a.ca_file == b.ca_file
        && key(a) == key(b)
}
