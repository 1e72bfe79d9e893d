//! Changes while running: the configuration file and the certificate are looked at four times a
//! second. A valid change is put in force as one; an invalid one is refused as one.

use std::{sync::Arc, time::Duration};

use synapse_core::config::snapshot::Snapshot;
use synapse_gateway::{gateway::Gateway, metrics::ResultLabel};

use crate::{keys::KeyKeeper, server::tls::Certificates, settings::Settings, telemetry::LogLevel};

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Watches files.
pub(crate) struct Reloader {
    pub(crate) settings: Settings,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) keys: Arc<KeyKeeper>,
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) log_level: LogLevel,
    /// What the composition adds to every configuration, such as the demo's engine.
    pub(crate) extend: Box<dyn Fn(&mut Snapshot) + Send + Sync>,
    /// The text that is in force, or that was refused last.
    pub(crate) seen: String,
}

impl Reloader {
    /// Looks for changes for as long as the gateway runs.
    pub(crate) async fn watch(mut self) {
        let mut stamp = self.certificates.as_ref().map(|c| c.first_stamp());
        let mut unreadable = false;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.certificates.as_ref().map(|c| c.stamp());
            if now != stamp {
                stamp = now;
                self.reload_certificates();
            }
            match self.settings.text() {
                Ok(text) if text != self.seen => {
                    self.apply(&text).await;
                    self.seen = text;
                    unreadable = false;
                }
                Ok(_) => unreadable = false,
                // An editor may be replacing it just now; say it once.
                Err(error) if !unreadable => {
                    unreadable = true;
                    tracing::warn!(%error, "the configuration file cannot be read; the one in force stays");
                }
                Err(_) => {}
            }
        }
    }

    fn reload_certificates(&self) {
        let Some(certificates) = &self.certificates else { return };
        match certificates.reload() {
            Ok(()) => tracing::info!("the certificate has been read again"),
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the new certificate is refused; the old one stays"
                );
            }
        }
    }

    async fn apply(&self, text: &str) {
        let applied = self.try_apply(text).await;
        let result = if applied.is_ok() { "success" } else { "failure" };
        self.gateway.metrics.reloads.get_or_create(&ResultLabel { result }).inc();
        match applied {
            Ok(()) => tracing::info!("the changed configuration is in force"),
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the changed configuration is refused; the old one stays"
                );
            }
        }
    }

    async fn try_apply(&self, text: &str) -> anyhow::Result<()> {
        let mut snapshot = self.settings.snapshot(text)?;
        (self.extend)(&mut snapshot);
        let level = snapshot.logs.level.clone();
        let old = self.gateway.live();
        warn_of_restart(&old.snapshot, &snapshot);
        for warning in &snapshot.warnings {
            tracing::warn!("{warning}");
        }
        self.gateway.apply(Arc::new(snapshot))?;
        self.log_level.set(&level)?;
        self.keys.load().await
    }
}

/// What a running process cannot change.
fn warn_of_restart(old: &Snapshot, new: &Snapshot) {
    let pairs = [
        ("server.host", old.server.host != new.server.host),
        ("server.port", old.server.port != new.server.port),
        ("server.tls", old.server.tls != new.server.tls),
        ("server.metrics", old.server.metrics != new.server.metrics),
        ("data_dir", old.data_dir != new.data_dir),
        ("logs.format", old.logs.format != new.logs.format),
    ];
    for (key, _) in pairs.iter().filter(|(_, changed)| *changed) {
        tracing::warn!("the change of `{key}` takes a restart to come into force");
    }
}
