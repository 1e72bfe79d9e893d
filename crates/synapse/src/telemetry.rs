//! Logs: pretty on a terminal, JSON elsewhere, always on stderr. Prompts and replies are never
//! fields.

use std::io::{self, IsTerminal};

use anyhow::Context;
use synapse_core::config::snapshot::{LogFormat, Logs};
use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// Changes what is logged while the process runs.
pub(crate) struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// Puts another level or filter in force.
    pub(crate) fn set(&self, level: &str) -> anyhow::Result<()> {
        self.0.reload(filter(level)?).context("the log level cannot be changed")
    }
}

/// Starts logging.
pub(crate) fn init(logs: &Logs) -> anyhow::Result<LogLevel> {
    let (filter, handle) = reload::Layer::new(filter(&logs.level)?);
    let pretty = match logs.format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let layer = fmt::layer().with_writer(io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    if pretty {
        registry.with(layer.with_target(false).with_ansi(io::stderr().is_terminal())).try_init()
    } else {
        registry.with(layer.json().flatten_event(true).with_current_span(false)).try_init()
    }
    .context("logging cannot be started")?;
    Ok(LogLevel(handle))
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(level).with_context(|| format!("`{level}` is no log level"))
}
