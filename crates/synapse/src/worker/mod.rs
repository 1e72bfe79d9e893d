//! `synapse worker`: an engine's watcher and its transport on one side, sessions with gateways on the
//! other.

mod engine;
mod relay;
mod update;

use std::{collections::BTreeMap, path::PathBuf, pin::pin, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use futures_util::FutureExt;
use secrecy::SecretString;
use synapse_core::config::snapshot::{BackendSpec, BaseUrl, EngineKind, Locality, Logs, PemFile, Timeouts};
use synapse_gateway::{
    backend::http::{HttpBackend, TlsSetup},
    tasks,
};
use synapse_tunnel::{
    message::Status,
    protocol::Liveness,
    worker::{ServerUrl, WorkerOptions},
};
use tokio::sync::watch;

use crate::{signals, telemetry};
use engine::Engine;
use relay::Relay;
use update::Updater;

/// What the command line says.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where the engine is.
    pub(crate) url: BaseUrl,
    pub(crate) api_key: Option<SecretString>,
    /// What it is; found out where not given.
    pub(crate) engine: Option<EngineKind>,
    pub(crate) servers: Vec<ServerUrl>,
    pub(crate) key: SecretString,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) capacity: Option<u32>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) grace: Duration,
    pub(crate) health_every: Duration,
    pub(crate) models_every: Duration,
    /// The longest wait before an update; without one, this worker only hears that there is any.
    pub(crate) self_update: Option<Duration>,
}

/// Runs the worker until a signal ends it, or an update takes its place.
pub(crate) async fn run(settings: Settings, logs: &Logs) -> anyhow::Result<ExitCode> {
    let telemetry = telemetry::init(logs)?;
    let worked = work(settings, &telemetry).await;
    telemetry.writer.flush();
    match worked? {
        None => Ok(ExitCode::SUCCESS),
        Some(updater) => Err(updater.restart()),
    }
}

/// Works to the end; what is handed back is to start this worker anew.
async fn work(settings: Settings, telemetry: &telemetry::Telemetry) -> anyhow::Result<Option<Updater>> {
    let tls = TlsSetup::default();
    let authorities = tls.config(settings.ca_file.as_deref());
    let authorities = authorities.map_err(anyhow::Error::from_boxed).context("--ca-file cannot be used")?;
    let spec = spec(&settings);
    // Marks requests that have passed this worker, so that none goes round in circles.
    let hop = format!("worker-{}", settings.name);
    let transport = || HttpBackend::new(&spec, &tls, &hop).map_err(anyhow::Error::from_boxed);
    let upstream = || format!("the way to the engine at {} cannot be set up", settings.url);
    let anywhere = Arc::new(transport().with_context(upstream)?);
    let in_house = transport().with_context(upstream)?.within_house();

    let (report, status) = watch::channel(Arc::<Status>::default());
    let (found, kind) = watch::channel(settings.engine);
    let engine = Engine {
        spec: spec.clone(),
        transport: Arc::clone(&anywhere),
        health_every: settings.health_every,
        models_every: settings.models_every,
        report,
        found,
    };
    let _watching = tasks::spawn("engine", engine.watch());
    let relay = Relay::new(spec, kind, in_house, anywhere);

    let (outdated, news) = watch::channel(None);
    let updater = match settings.self_update {
        Some(within) => Some(Updater::new(settings.ca_file.clone(), hop, within, news).await?),
        None => None,
    };
    let (stop, stopped) = watch::channel(false);
    let options = WorkerOptions {
        name: settings.name,
        labels: settings.labels,
        capacity: settings.capacity,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        servers: settings.servers,
        key: settings.key,
        tls: authorities,
        grace: settings.grace,
        liveness: Liveness::default(),
        outdated,
    };
    tracing::info!(name = options.name, upstream = %settings.url, "the worker is up");
    let sessions = synapse_tunnel::worker::run(options, Arc::new(relay), status, stopped);
    let mut sessions = pin!(sessions.map(|ended| ended.context("the system has no randomness to give")));
    let signals = signals::wait(telemetry.writer.clone(), "a worker has no files to read again; it runs on");
    let mut signals = pin!(signals);
    let mut restarting = tokio::select! {
        ended = &mut sessions => return ended.map(|()| None),
        signal = &mut signals => signal.map(|()| None)?,
        updater = replaced(updater) => Some(updater),
    };
    tracing::info!(grace_s = settings.grace.as_secs(), updated = restarting.is_some(), "going down");
    stop.send_replace(true);
    tokio::select! {
        ended = &mut sessions => ended?,
        // Who wants it to end does not want it to start anew.
        signal = &mut signals, if restarting.is_some() => {
            restarting = None;
            signal?;
            sessions.await?;
        }
    }
    tracing::info!("down");
    Ok(restarting)
}

/// Waits until there is something to start anew with.
async fn replaced(updater: Option<Updater>) -> Updater {
    let Some(mut updater) = updater else { return std::future::pending().await };
    updater.replaced().await;
    updater
}

/// The engine, as if it were a backend of a gateway.
fn spec(settings: &Settings) -> BackendSpec {
    BackendSpec {
        id: settings.name.as_str().into(),
        groups: Vec::new(),
        is_worker: false,
        kind: settings.engine.unwrap_or(EngineKind::OpenAi),
        url: settings.url.clone(),
        api_key: settings.api_key.clone(),
        locality: Locality::of_host(&settings.url.host),
        is_confined: false,
        timeouts: Timeouts::default(),
        max_in_flight: None,
        ca_file: settings.ca_file.as_deref().map(PemFile::once),
    }
}
