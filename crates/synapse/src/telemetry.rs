//! Logs: pretty on a terminal, JSON elsewhere, always on stderr. Prompts and replies are never
//! fields.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
};

use anyhow::Context;
use synapse_core::config::snapshot::{LogFormat, Logs};
use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

use crate::{access_log::AccessLog, logs::LogWriter};

/// The running log, and what of it can change.
pub(crate) struct Telemetry {
    level: reload::Handle<EnvFilter, Registry>,
    /// One line per request.
    pub(crate) access_log: Arc<AccessLog>,
    /// The way to stderr.
    pub(crate) writer: LogWriter,
}

impl Telemetry {
    /// Whether other settings could be put in force.
    pub(crate) fn check(&self, logs: &Logs) -> anyhow::Result<()> {
        filter(&logs.level).map(drop)
    }

    /// Puts other settings in force; the format stays.
    pub(crate) fn apply(&self, logs: &Logs) -> anyhow::Result<()> {
        self.level.reload(filter(&logs.level)?).context("the log level cannot be changed")?;
        self.access_log.set(logs.access);
        Ok(())
    }
}

/// Starts logging.
pub(crate) fn init(logs: &Logs) -> anyhow::Result<Telemetry> {
    let writer = LogWriter::start()?;
    let (filter, level) = reload::Layer::new(filter(&logs.level)?);
    let pretty = match logs.format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let layer = fmt::layer().with_writer(writer.clone());
    let registry = tracing_subscriber::registry().with(filter);
    if pretty {
        registry.with(layer.with_target(false).with_ansi(io::stderr().is_terminal())).try_init()
    } else {
        registry.with(layer.json().flatten_event(true).with_current_span(false)).try_init()
    }
    .context("logging cannot be started")?;
    let access_log = Arc::new(AccessLog::new(writer.clone(), pretty, logs.access));
    Ok(Telemetry { level, access_log, writer })
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(level).with_context(|| format!("`{level}` is no log level"))
}
