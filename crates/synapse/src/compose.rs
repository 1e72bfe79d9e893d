//! The composition root: builds the gateway from its parts, runs it, and takes it down in order.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use futures_util::FutureExt;
use jiff::SignedDuration;
use synapse_core::{
    config::snapshot::{AuthMode, BackendSpec, BaseUrl, EngineKind, Locality, Snapshot, Timeouts},
    id::GroupName,
    store::{alerts::AlertStore, counters::CounterStore},
};
use synapse_gateway::{
    backend::http::set_shards, discover::local, gateway::Gateway, tasks, tasks::TaskGuard,
};
use synapse_simulator::{Options, Simulator};
use synapse_store::{
    lock::DataDir,
    place::{Place, Stores},
    redis::RedisLedger,
    sqlite::{COUNTERS_FILE, SqliteCounters},
};
use tokio::{net::TcpListener, sync::Notify};
use uuid::Uuid;

use crate::{
    alerts::{self, AlertSink, Watcher},
    audit::{self, Counts, Gauges, Shipper, Shipping},
    banner,
    incidents::{self, IncidentSink, Sinks},
    keys::KeyKeeper,
    reload::Reloader,
    retention,
    server::{self, Server, install::Install, tls::Certificates},
    settings::{Settings, Sources},
    signals,
    telemetry::{self, Telemetry},
    webhook::{Courier, Http},
};

/// The model of the demo's engine.
const DEMO_MODEL: &str = "demo";
/// Between two looks for engines on this machine.
const SCAN_EVERY: Duration = Duration::from_secs(15);
/// After a signal, new connections are still answered (with `shutting_down`) for this long, so that
/// whoever watches readiness can look elsewhere.
const LAST_CALL: Duration = Duration::from_millis(200);
/// How long streams that outlive the grace period have to hand over their error event.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The same for sinks of checkpoints, which are elsewhere.
const LAST_CHECKPOINTS: Duration = Duration::from_secs(3);

/// Runs the gateway until a signal ends it.
pub(crate) async fn serve(settings: Settings, demo: bool) -> anyhow::Result<ExitCode> {
    let (snapshot, sources) = settings.load_noting(settings.text()?);
    let snapshot = snapshot?;
    let telemetry = Arc::new(telemetry::init(&snapshot.logs)?);
    let served = run(settings, sources, snapshot, &telemetry, demo).await;
    telemetry.writer.flush();
    served
}

async fn run(
    settings: Settings,
    sources: Sources,
    mut snapshot: Snapshot,
    telemetry: &Arc<Telemetry>,
    demo: bool,
) -> anyhow::Result<ExitCode> {
    for warning in &snapshot.warnings {
        tracing::warn!("{warning}");
    }
    let folder = DataDir::claim(&snapshot.data_dir)?;
    let store: Arc<dyn Stores> = Arc::from(database(&snapshot)?.open().await?);
    let (demo_engine, extend) = if demo { start_demo().await? } else { (None, no_extension()) };
    extend(&mut snapshot);

    let sockets = server::bind::bind(&snapshot.server.host, snapshot.server.port, "--port")?;
    let certificates = snapshot.server.tls.as_ref().map(Certificates::load).transpose()?.map(Arc::new);
    let metrics = bind_metrics(&snapshot)?;
    let metrics_address = metrics.as_ref().map(TcpListener::local_addr).transpose()?;

    set_shards(server::cores_count());
    let instance = folder.instance_id().simple().to_string();
    let (incidents, found) = IncidentSink::new();
    let (unusual, flushes) = AlertSink::new();
    let sinks = Sinks(vec![
        Arc::clone(&telemetry.access_log) as _,
        Arc::clone(&incidents) as _,
        Arc::clone(&unusual) as _,
    ]);
    let (log, shipper) = audit::open(&snapshot, Arc::clone(&store) as _)
        .await?
        .map(|audit| (audit.log, audit.shipper))
        .unzip();
    let gateway = Gateway::new(Arc::new(snapshot), &instance, Arc::new(sinks), log)?;
    incidents.count_dropped(gateway.metrics.incidents_dropped.clone());
    unusual.count_dropped(gateway.metrics.observations_dropped.clone());
    let (counters, counting) = count(&gateway, &folder).await?;
    let keys = Arc::new(KeyKeeper::new(Arc::clone(&store), Arc::clone(&gateway), demo)?);
    keys.load().await?;
    let key_to_show = match gateway.live().snapshot.auth.mode {
        AuthMode::Keys => keys.key_to_show().await?,
        AuthMode::Open => None,
    };
    let admin_token = keys.admin_token_to_show().await?;
    audit::change::configuration(&gateway, &sources.text, true);

    let install = Install::new(&gateway, settings.client_binary.clone());
    tell_of_newer_versions(&gateway, &install);
    let shipping = shipper.map(|shipper| ship(shipper, &gateway));
    let mut server = Server::start(&gateway, sockets, certificates.clone(), install)?;
    let mut tasks = vec![
        tasks::spawn("catalogue keeper", Arc::clone(&gateway).keep_catalog()),
        tasks::spawn("worker keeper", Arc::clone(&gateway).keep_workers()),
        tasks::spawn("key watcher", Arc::clone(&keys).watch()),
        tasks::spawn("incident writer", incidents::write(Arc::clone(&store) as _, found)),
        tasks::spawn("incident keeper", forget_incidents(Arc::clone(&store) as _)),
    ];
    tasks.extend(keep_audit(&gateway, &store)?);
    tasks.extend(look_out(&gateway, store, Arc::clone(&unusual), flushes, folder.id()).await);
    tasks.extend(counting);
    tasks.extend(demo_engine);
    tasks.extend(
        metrics.map(|l| tasks::spawn("metrics listener", server::metrics::serve(l, Arc::clone(&gateway)))),
    );
    let own = server.addresses().iter().map(SocketAddr::port).collect();
    tasks.push(look_for_local_engines(&gateway, own).await?);
    let reloader = Reloader {
        settings,
        gateway: Arc::clone(&gateway),
        keys,
        certificates,
        telemetry: Arc::clone(telemetry),
        extend,
        seen: sources,
    };
    tasks.push(tasks::spawn("reloader", reloader.watch()));

    let secrets = banner::Secrets { key: key_to_show.as_deref(), admin_token: admin_token.as_deref() };
    banner::print(&gateway, server.addresses(), metrics_address, &secrets).await?;
    signals::wait(telemetry.writer.clone(), "changed files are read by themselves; the gateway runs on")
        .await?;
    take_down(&gateway, &mut server).await;
    if tokio::time::timeout(LAST_WORDS, incidents.flush()).await.is_err() {
        tracing::error!("the last incidents could not be stored in time");
    }
    if let Some(shipping) = shipping {
        end(shipping).await;
    }
    if tokio::time::timeout(LAST_WORDS, unusual.flush()).await.is_err() {
        tracing::error!("the last alerts and what is usual could not be stored in time");
    }
    gateway.limits.save(&*counters).await;
    drop((tasks, folder));
    Ok(ExitCode::SUCCESS)
}

/// Begins to bring the audit log into the database.
fn ship(shipper: Shipper, gateway: &Gateway) -> Shipping {
    let metrics = &gateway.metrics;
    shipper.start(Gauges {
        pending: metrics.audit_pending.clone(),
        without_place: metrics.audit_months_without_place.clone(),
        commit: metrics.audit_commit.clone(),
        sinks: Counts { given: metrics.checkpoints.clone(), waiting: metrics.checkpoints_waiting.clone() },
    })
}

/// Lets the audit log bring what it can to where it belongs.
async fn end(mut shipping: Shipping) {
    if tokio::time::timeout(LAST_WORDS, shipping.finish()).await.is_err() {
        tracing::warn!("the last entries of the audit log wait in the journal for the next start");
    }
    if tokio::time::timeout(LAST_CHECKPOINTS, shipping.finish_relays()).await.is_err() {
        tracing::warn!(
            "a sink was not given the audit log's last checkpoints in time; they wait for the next start"
        );
    }
}

/// Puts old months of the audit log away.
fn keep_audit(gateway: &Arc<Gateway>, store: &Arc<dyn Stores>) -> anyhow::Result<Option<TaskGuard>> {
    let Some(log) = gateway.records.log() else { return Ok(None) };
    let files = audit::files::Files::of(&gateway.live().snapshot);
    let key = Arc::new(audit::files::signing_key(&files)?);
    let (gateway, log) = (Arc::clone(gateway), Arc::clone(log));
    let kept = move || SignedDuration::try_from(gateway.live().snapshot.audit.retention?).ok();
    let keep = audit::retire::keep(Arc::clone(store), log, key, kept);
    Ok(Some(tasks::spawn("audit keeper", keep)))
}

async fn forget_incidents(store: Arc<dyn Stores>) {
    let forget = move |end| {
        let store = Arc::clone(&store);
        async move { store.forget_incidents(end).await }.boxed()
    };
    retention::forget_old("incidents", forget).await;
}

async fn forget_alerts(store: Arc<dyn AlertStore>) {
    let forget = move |end| {
        let store = Arc::clone(&store);
        async move { store.forget_alerts(end).await }.boxed()
    };
    retention::forget_old("alerts", forget).await;
}

/// Looks for what is unusual, and tells webhooks of it.
async fn look_out(
    gateway: &Arc<Gateway>,
    store: Arc<dyn Stores>,
    sink: Arc<AlertSink>,
    flushes: alerts::Flushes,
    folder: Uuid,
) -> Vec<TaskGuard> {
    let (store, news): (Arc<dyn AlertStore>, _) = (store, Arc::new(Notify::new()));
    let watcher =
        Watcher::take_up(sink, flushes, Arc::clone(gateway), Arc::clone(&store), Arc::clone(&news), folder)
            .await;
    let courier = Courier::new(Arc::clone(&store), Arc::new(Http::default()), Arc::clone(&gateway.metrics));
    vec![
        tasks::spawn("anomaly watcher", watcher.watch()),
        tasks::spawn("webhook courier", courier.run(Arc::clone(gateway), news)),
        tasks::spawn("alert keeper", forget_alerts(store)),
    ]
}

/// Takes up the counters of the present day and month, and joins those who count together.
async fn count(
    gateway: &Gateway,
    folder: &DataDir,
) -> anyhow::Result<(Arc<dyn CounterStore>, Vec<TaskGuard>)> {
    let limits = &gateway.limits;
    let counters: Arc<dyn CounterStore> =
        Arc::new(SqliteCounters::open(folder.path().join(COUNTERS_FILE)).await?);
    limits.restore(&*counters).await?;
    let mut tasks =
        vec![tasks::spawn("counter keeper", Arc::clone(limits).keep_saving(Arc::clone(&counters)))];
    if let Some(url) = &gateway.live().snapshot.redis_url {
        tasks.extend(limits.share(RedisLedger::new(url)?).await);
    }
    Ok((counters, tasks))
}

/// Workers that are older than this gateway are told so when they come.
fn tell_of_newer_versions(gateway: &Gateway, install: &Arc<Install>) {
    let install = Arc::downgrade(install);
    gateway.announce(Box::new(move |hello| {
        install.upgrade().and_then(|install| install.newer_version(hello)).into_iter().collect()
    }));
}

/// Where the database is.
pub(crate) fn database(snapshot: &Snapshot) -> anyhow::Result<Place> {
    match &snapshot.database_url {
        Some(url) => Ok(Place::from_url(url)?),
        None => Ok(Place::in_folder(&snapshot.data_dir)),
    }
}

fn bind_metrics(snapshot: &Snapshot) -> anyhow::Result<Option<TcpListener>> {
    let Some((host, port)) = &snapshot.server.metrics else { return Ok(None) };
    let bound = server::bind::bind(host, *port, "--metrics-port")
        .context("the metrics listener cannot be started (server.metrics)")?;
    let first = bound.into_iter().next().map(TcpListener::from_std);
    Ok(first.transpose()?)
}

type Extension = Box<dyn Fn(&mut Snapshot) + Send + Sync>;

fn no_extension() -> Extension {
    Box::new(|_| ())
}

/// Starts the demo's engine; the extension adds it to a configuration.
async fn start_demo() -> anyhow::Result<(Option<TaskGuard>, Extension)> {
    let options = Options {
        port: 0,
        models: vec![DEMO_MODEL.to_owned()],
        ttft: Duration::from_millis(150),
        itl: Duration::from_millis(25),
        tokens: 64,
        ..Options::default()
    };
    let simulator = Simulator::bind(options).await.context("the demo's engine cannot be started")?;
    let address = simulator.addr();
    let spec = Arc::new(BackendSpec {
        id: "demo".into(),
        groups: vec![GroupName::default()],
        is_worker: false,
        kind: EngineKind::OpenAi,
        url: BaseUrl {
            https: false,
            host: address.ip().to_string(),
            port: address.port(),
            path: String::new(),
        },
        api_key: None,
        locality: Locality::OnPrem,
        is_confined: false,
        timeouts: Timeouts::default(),
        max_in_flight: None,
        ca_file: None,
    });
    let extend = move |snapshot: &mut Snapshot| {
        if snapshot.backends.iter().all(|backend| backend.id != spec.id) {
            snapshot.backends.push(Arc::clone(&spec));
        }
    };
    Ok((Some(tasks::spawn("demo engine", async move { simulator.run().await })), Box::new(extend)))
}

/// Finds engines on this machine, now and from time to time, where the configuration wants that.
async fn look_for_local_engines(gateway: &Arc<Gateway>, own: Vec<u16>) -> anyhow::Result<TaskGuard> {
    if gateway.live().snapshot.discovery.local {
        gateway.set_local(local::scan(gateway.instance(), &own).await)?;
    }
    let gateway = Arc::clone(gateway);
    let watch = async move {
        loop {
            tokio::time::sleep(SCAN_EVERY).await;
            let changed = if gateway.live().snapshot.discovery.local {
                let found = local::scan(gateway.instance(), &own).await;
                gateway.set_local(found)
            } else {
                gateway.forget_local()
            };
            if let Err(error) = changed {
                tracing::warn!(%error, "an engine on this machine cannot be used");
            }
        }
    };
    Ok(tasks::spawn("local engines", watch))
}

/// Not ready → no new connections → open requests finish, or are ended at the deadline.
async fn take_down(gateway: &Gateway, server: &mut Server) {
    let grace = gateway.live().snapshot.server.drain_grace;
    tracing::info!(open = gateway.drain.open(), grace_s = grace.as_secs(), "going down");
    gateway.drain.begin();
    tokio::time::sleep(LAST_CALL.min(grace)).await;
    server.stop_accepting();
    let finish = async {
        gateway.drain.idle().await;
        gateway.hub().drain().await;
        server.closed().await;
    };
    if tokio::time::timeout(grace, finish).await.is_err() {
        tracing::warn!(open = gateway.drain.open(), "the grace period is over");
        gateway.drain.expire();
        let say = async {
            gateway.hub().drain().await;
            server.closed().await;
        };
        let _all_said = tokio::time::timeout(LAST_WORDS, say).await;
    }
    gateway.limits.flush().await;
    server.stop();
    tracing::info!("down");
}
