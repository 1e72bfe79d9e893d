//! Workers as backends: each session that may serve stands in the fleet, as what its worker last said of
//! its engine. Nobody is asked through the tunnel how it goes; the worker watches its engine itself.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::header::HeaderValue;
use serde_json::{Value, json};
use synapse_core::{
    config::snapshot::{BackendSpec, BaseUrl, EngineKind, Locality, Timeouts},
    id::{BackendId, GroupName},
};
use synapse_tunnel::{
    gateway::{Identity, Session},
    message::{self, Status},
};

use crate::{
    backend::tunnel::TunnelBackend,
    discover,
    gateway::Gateway,
    metrics::{Metrics, Seen},
    route::fleet::{BackendHandle, Health, ListedModel, Load},
};

/// Changes that follow each other within this time are taken in together.
const GATHER: Duration = Duration::from_millis(20);
/// What is counted is brought up to date this often.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// A worker in the fleet.
pub struct Worker {
    /// Its session.
    pub session: Session,
    /// Its place in the fleet.
    pub handle: Arc<BackendHandle>,
    /// What it had said when it was last looked at.
    seen: Option<Arc<Status>>,
}

impl Worker {
    /// Takes in what its worker says now; whether what it serves has changed.
    fn look(&mut self, metrics: &Metrics) -> bool {
        let status = self.session.status();
        // Of many workers, few have something new to say at any one time.
        if self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &status)) {
            return false;
        }
        let before = self.handle.models.load_full();
        let changed = update(&self.handle, &status);
        if changed {
            metrics.forget_models(self.handle.id().as_str(), &before, &self.handle.models.load());
        }
        self.seen = Some(status);
        changed
    }

    /// Whether this is how the session is to be called still.
    fn is_as_before(&self, session: &Session) -> bool {
        self.session.epoch() == session.epoch() && self.handle.spec.kind == kind_of(session)
    }
}

/// All workers in the fleet.
#[derive(Default)]
pub struct Workers(HashMap<Identity, Worker>);

/// What has come of a look at the sessions.
#[derive(Default)]
pub(crate) struct Changes {
    /// Whether workers have come or gone.
    pub(crate) fleet: bool,
    /// Whether what they serve has changed.
    pub(crate) models: bool,
}

impl Workers {
    /// Their places in the fleet.
    pub(crate) fn handles(&self) -> impl Iterator<Item = &Arc<BackendHandle>> {
        self.0.values().map(|worker| &worker.handle)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.0.values()
    }

    /// Takes in what the sessions say now.
    pub(crate) fn take_in(&mut self, sessions: &[Session], hop: &HeaderValue, metrics: &Metrics) -> Changes {
        let mut changes = Changes::default();
        let mut before = std::mem::take(&mut self.0);
        for session in sessions.iter().filter(|session| session.may_serve()) {
            let identity = session.identity().clone();
            let known = before.remove(&identity);
            let mut worker = match known {
                Some(worker) if worker.is_as_before(session) => worker,
                earlier => {
                    changes.fleet = true;
                    let handle = join(session, hop, earlier, metrics);
                    Worker { session: session.clone(), handle, seen: None }
                }
            };
            changes.models |= worker.look(metrics);
            self.0.insert(identity, worker);
        }
        changes.fleet |= !before.is_empty();
        changes
    }
}

/// The name of a worker among the backends.
fn name_of(identity: &Identity) -> BackendId {
    BackendId::from(identity.to_string())
}

/// Puts a session into the fleet.
fn join(
    session: &Session,
    hop: &HeaderValue,
    earlier: Option<Worker>,
    metrics: &Metrics,
) -> Arc<BackendHandle> {
    let id = name_of(session.identity());
    let spec = BackendSpec {
        id: id.clone(),
        groups: vec![GroupName::new(Arc::clone(&session.identity().group))],
        is_worker: true,
        kind: kind_of(session),
        // Only its path counts: the worker knows where its engine is.
        url: BaseUrl { https: false, host: "worker".to_owned(), port: 80, path: String::new() },
        api_key: None,
        // By its key's record alone: what a worker says of its engine is not what sensitive requests are
        // trusted to.
        locality: if session.credential().allows_cloud { Locality::Cloud } else { Locality::OnPrem },
        is_confined: false,
        timeouts: Timeouts::default(),
        max_in_flight: session.capacity(),
        ca_file: None,
    };
    let transport = TunnelBackend::new(id, session.clone(), hop.clone());
    let pace = synapse_core::config::snapshot::Discovery {
        local: false,
        models_every: Duration::MAX,
        health_every: Duration::MAX,
    };
    let handle = BackendHandle::new(Arc::new(spec), Arc::new(transport), pace, metrics);
    if let Some(earlier) = earlier {
        handle.inherit(&earlier.handle);
    }
    handle
}

fn kind_of(session: &Session) -> EngineKind {
    EngineKind::from_name(&session.engine()).unwrap_or(EngineKind::OpenAi)
}

/// Notes what a worker says of its engine; whether what it serves has changed.
fn update(handle: &BackendHandle, status: &Status) -> bool {
    let health = match status.health {
        message::Health::Up => Health::Up,
        message::Health::Down => Health::Down,
        message::Health::Unknown => Health::Unknown,
    };
    if handle.set_health(health) == Health::Down && health == Health::Up {
        handle.take_up_work(Instant::now());
    }
    let load = &status.load;
    let load = Load {
        running: load.running,
        waiting: load.waiting,
        kv_usage: load.kv_usage,
        slots: load.slots.filter(|slots| *slots > 0),
    };
    handle.set_load(load, handle.in_flight());
    let listed = |model: &message::Model| ListedModel {
        id: model.id.clone(),
        fields: model.fields.clone(),
        loaded: model.loaded,
    };
    // An engine that does not answer lists nothing; callers are to hear that, not that there is no such model.
    if status.models.is_empty() && (status.unlisted || health != Health::Up) {
        return handle.lose_models();
    }
    handle.set_models(status.models.iter().map(listed).collect())
}

/// A worker as operators see it.
fn describe(session: &Session, handle: Option<&BackendHandle>) -> Value {
    let status = session.status();
    let state = match () {
        () if status.draining || !session.is_open() => "draining",
        () if status.cloud && !session.credential().allows_cloud => {
            "refused: its engine is outside the house"
        }
        () if !session.may_serve() => "settling",
        () => handle.map_or(Health::Unknown, BackendHandle::health).name(),
    };
    let models: Vec<&str> = status.models.iter().map(|model| model.id.as_str()).collect();
    let load = &status.load;
    json!({
        "id": session.identity().to_string(),
        "name": &*session.identity().name,
        "group": &*session.identity().group,
        "state": state,
        "reason": status.reason,
        "address": session.peer().map(|peer| peer.to_string()),
        "version": session.version(),
        "key": session.credential().key.as_str(),
        "engine": session.engine(),
        "locality": if status.cloud { "cloud" } else { "on_prem" },
        "labels": session.labels(),
        "models": models,
        "max_in_flight": session.capacity(),
        "in_flight": session.in_flight(),
        "running": load.running,
        "queue_depth": load.waiting,
        "latency_ms": session.round_trip().map(|took| (took.as_secs_f64() * 1e6).round() / 1e3),
        "uptime_s": session.since().elapsed().as_secs(),
        "session": session.epoch(),
    })
}

/// All workers that are in, whether they serve or not, by group and name.
pub fn report(gateway: &Gateway) -> Value {
    let sessions = gateway.hub().sessions();
    let data: Vec<Value> = gateway.with_workers(|workers| {
        let handle = |session: &Session| workers.0.get(session.identity()).map(|worker| &*worker.handle);
        sessions.iter().map(|session| describe(session, handle(session))).collect()
    });
    json!({ "object": "list", "data": data })
}

impl Gateway {
    /// Keeps the fleet in step with the workers that come and go; runs for as long as the gateway.
    pub async fn keep_workers(self: Arc<Self>) {
        let mut changes = self.hub().changes();
        let mut seen = Seen::default();
        let mut counted = tokio::time::interval(COUNT_EVERY);
        counted.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => {
                        tokio::time::sleep(GATHER).await;
                        changes.mark_unchanged();
                        self.take_in_workers();
                    }
                    // The hub lives as long as the gateway.
                    Err(_) => return,
                },
                _ = counted.tick() => {}
            }
            self.with_workers(|workers| {
                workers.handles().for_each(|handle| discover::publish(handle, &self.metrics));
            });
            let hub = self.hub();
            self.metrics.count_workers(&mut seen, &hub.sessions(), hub.counters());
        }
    }
}
