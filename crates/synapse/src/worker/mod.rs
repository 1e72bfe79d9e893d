//! `synapse worker`: an engine's watcher and its transport on one side, sessions with gateways on the
//! other.

mod engine;
mod relay;

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use secrecy::SecretString;
use synapse_core::config::snapshot::{BackendSpec, BaseUrl, EngineKind, Locality, Logs, Timeouts};
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
}

/// Runs the worker until a signal ends it.
pub(crate) async fn run(settings: Settings, logs: &Logs) -> anyhow::Result<ExitCode> {
    let telemetry = telemetry::init(logs)?;
    let worked = work(settings, &telemetry).await;
    telemetry.writer.flush();
    worked.map(|()| ExitCode::SUCCESS)
}

async fn work(settings: Settings, telemetry: &telemetry::Telemetry) -> anyhow::Result<()> {
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
        outdated: watch::Sender::new(None),
    };
    tracing::info!(name = options.name, upstream = %settings.url, "the worker is up");
    let sessions = synapse_tunnel::worker::run(options, Arc::new(relay), status, stopped);
    let signals = async {
        signals::wait(telemetry.writer.clone(), "a worker has no files to read again; it runs on").await?;
        tracing::info!(grace_s = settings.grace.as_secs(), "going down");
        stop.send_replace(true);
        anyhow::Ok(())
    };
    let (sessions, signals) = tokio::join!(sessions, signals);
    sessions.context("the system has no randomness to give")?;
    tracing::info!("down");
    signals
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
        timeouts: Timeouts::default(),
        max_in_flight: None,
        ca_file: settings.ca_file.clone(),
    }
}
