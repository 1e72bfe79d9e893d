//! The engine behind a worker: what it is, and how it goes. The watcher is the gateway's own, so that
//! every engine is understood here as it is there.

use std::{sync::Arc, time::Duration};

use synapse_core::config::snapshot::{BackendSpec, Discovery, EngineKind, Locality};
use synapse_gateway::{
    backend::http::HttpBackend,
    discover::{
        self,
        identify::{Identity, identify},
    },
    metrics::Metrics,
    route::fleet::{self, BackendHandle},
};
use synapse_tunnel::message::{Health, Load, Model, Status};
use tokio::sync::{Notify, watch};

/// Between two questions to an engine that is not up yet.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// How long it may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// Watches the engine, and reports.
pub(super) struct Engine {
    pub(super) spec: BackendSpec,
    pub(super) transport: Arc<HttpBackend>,
    pub(super) health_every: Duration,
    pub(super) models_every: Duration,
    /// How it goes.
    pub(super) report: watch::Sender<Arc<Status>>,
    /// What it is, once that is known.
    pub(super) found: watch::Sender<Option<EngineKind>>,
}

impl Engine {
    /// Watches for ever.
    pub(super) async fn watch(self) {
        let known = *self.found.borrow();
        let kind = match known {
            Some(kind) => kind,
            None => self.find_out().await,
        };
        self.found.send_replace(Some(kind));
        let spec = Arc::new(BackendSpec { kind, ..self.spec });
        let pace =
            Discovery { local: false, models_every: self.models_every, health_every: self.health_every };
        let metrics = Arc::new(Metrics::new());
        let transport = Arc::clone(&self.transport);
        let handle = BackendHandle::new(spec, transport, pace, &metrics);
        let mut looks = handle.looks();
        discover::watch(&handle, metrics, Arc::<Notify>::default());
        while looks.changed().await.is_ok() {
            let status = status(&handle, self.transport.reached());
            self.report.send_if_modified(|reported| {
                let is_new = **reported != status;
                if is_new {
                    *reported = Arc::new(status);
                }
                is_new
            });
        }
    }

    /// Asks until it is known what the engine is.
    async fn find_out(&self) -> EngineKind {
        let mut told = None;
        loop {
            let reason = match identify(&*self.transport, &self.spec, PATIENCE).await {
                Identity::Engine(kind) => {
                    tracing::info!(engine = kind.name(), upstream = %self.spec.url, "the engine is found");
                    return kind;
                }
                Identity::Gateway => "the upstream is a gateway itself; give --upstream the engine's address",
                Identity::Unknown => "the engine does not answer",
            };
            if told.replace(reason) != Some(reason) {
                tracing::warn!(upstream = %self.spec.url, "{reason}");
                let status =
                    Status { health: Health::Down, reason: Some(reason.into()), ..Status::default() };
                self.report.send_replace(Arc::new(status));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

/// What the watcher last saw, in the tunnel's words.
fn status(handle: &BackendHandle, reached: Option<Locality>) -> Status {
    let health = match handle.health() {
        fleet::Health::Up => Health::Up,
        fleet::Health::Down => Health::Down,
        fleet::Health::Unknown => Health::Unknown,
    };
    let load = handle.load();
    let listed = handle.models.load();
    let models = listed.iter().map(|model| Model {
        id: model.id.clone(),
        loaded: model.loaded,
        fields: model.fields.clone(),
    });
    Status {
        health,
        reason: (health == Health::Down).then(|| "the engine does not answer its health check".to_owned()),
        draining: false,
        cloud: reached == Some(Locality::Cloud),
        engine: Some(handle.spec.kind.name().to_owned()),
        models: models.collect(),
        unlisted: handle.is_listing_lost(),
        load: Load {
            running: load.running,
            waiting: load.waiting,
            kv_usage: load.kv_usage,
            slots: load.slots,
        },
    }
}
