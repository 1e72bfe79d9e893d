//! Changes while running: the configuration file, the files that it refers to and the certificate are looked at
//! four times a second. A valid change is put in force as one; an invalid one is refused as one.

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use synapse_core::config::snapshot::{Audit, Snapshot};
use synapse_gateway::{gateway::Gateway, metrics::ResultLabel};

use crate::{
    audit::change,
    keys::KeyKeeper,
    server::tls::Certificates,
    settings::{Settings, SettingsError, Sources},
    telemetry::Telemetry,
};

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Watches files.
pub(crate) struct Reloader {
    pub(crate) settings: Settings,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) keys: Arc<KeyKeeper>,
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) telemetry: Arc<Telemetry>,
    /// What the composition adds to every configuration, such as the demo's engine.
    pub(crate) extend: Box<dyn Fn(&mut Snapshot) + Send + Sync>,
    /// What is in force, or was refused last.
    pub(crate) seen: Sources,
}

impl Reloader {
    /// Looks for changes for as long as the gateway runs.
    pub(crate) async fn watch(mut self) {
        let mut stamp = self.certificates.as_ref().map(|c| c.first_stamp());
        let mut unreadable = false;
        let mut settling = Settling::default();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.count_dropped_lines();
            let now = self.certificates.as_ref().map(|c| c.stamp());
            if now != stamp {
                stamp = now;
                self.reload_certificates();
            }
            let now = self.settings.text().map(|text| Sources { text, files: self.seen.files.now() });
            match now {
                // Whoever writes it may not have finished: only what stands still counts.
                Ok(now) if now != self.seen => {
                    unreadable = false;
                    if settling.stands_still(&now, &self.seen) {
                        self.seen = self.apply(now.text).await;
                    }
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

    fn count_dropped_lines(&self) {
        let counter = &self.gateway.metrics.log_dropped;
        counter.inc_by(self.telemetry.writer.dropped().saturating_sub(counter.get()));
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

    /// What has been tried is given back as it was when it was read.
    async fn apply(&self, text: String) -> Sources {
        let (loaded, sources) = self.settings.load_noting(text);
        let applied = self.try_apply(&sources.text, loaded).await;
        let result = if applied.is_ok() { "success" } else { "failure" };
        change::configuration(&self.gateway, &sources.text, applied.is_ok());
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
        sources
    }

    async fn try_apply(&self, text: &str, loaded: Result<Snapshot, SettingsError>) -> anyhow::Result<()> {
        anyhow::ensure!(!text.trim().is_empty(), "the file is empty");
        let mut snapshot = loaded?;
        (self.extend)(&mut snapshot);
        let old = self.gateway.live();
        warn_of_restart(&old.snapshot, &snapshot);
        for warning in &snapshot.warnings {
            tracing::warn!("{warning}");
        }
        let logs = snapshot.logs.clone();
        self.telemetry.check(&logs)?;
        let snapshot = Arc::new(snapshot);
        self.gateway.apply(Arc::clone(&snapshot))?;
        change::webhooks(&self.gateway, &old.snapshot.webhooks, &snapshot.webhooks);
        self.telemetry.apply(&logs)?;
        self.keys.refresh().await;
        Ok(())
    }
}

/// What has changed, and how often it has been seen so in a row.
#[derive(Default)]
struct Settling {
    changed: Sources,
    seen: u32,
}

impl Settling {
    /// Whether `changed` has been seen often enough to be what was meant. The beginning of what is in force is
    /// probably a file that is just being written, and has to stand for longer.
    fn stands_still(&mut self, changed: &Sources, in_force: &Sources) -> bool {
        self.seen = if self.changed == *changed { self.seen + 1 } else { 1 };
        self.changed.clone_from(changed);
        let is_begun = changed.text != in_force.text && in_force.text.starts_with(&changed.text);
        let enough = if is_begun || changed.files.lack_something_of(&in_force.files) { 12 } else { 2 };
        self.seen >= enough
    }
}

fn text(secret: &Option<SecretString>) -> Option<&str> {
    secret.as_ref().map(ExposeSecret::expose_secret)
}

/// What a running process cannot change.
fn warn_of_restart(old: &Snapshot, new: &Snapshot) {
    let pairs = [
        ("server.host", old.server.host != new.server.host),
        ("server.port", old.server.port != new.server.port),
        ("server.tls", old.server.tls != new.server.tls),
        ("server.metrics", old.server.metrics != new.server.metrics),
        ("database", text(&old.database_url) != text(&new.database_url)),
        ("redis", text(&old.redis_url) != text(&new.redis_url)),
        ("data_dir", old.data_dir != new.data_dir),
        ("audit", old.audit != Audit { retention: old.audit.retention, ..new.audit.clone() }),
        ("logs.format", old.logs.format != new.logs.format),
    ];
    for (key, _) in pairs.iter().filter(|(_, changed)| *changed) {
        tracing::warn!("the change of `{key}` takes a restart to come into force");
    }
}
