//! Checkpoints on their way out. The shipper appends each to a file in the data folder; for every sink, a relay reads
//! that file from where its sink has come to, and sends on what it finds: in order, each at least once. So a sink that
//! is away holds up nobody, and what waits for it waits on the disk.

mod backlog;
mod file;
pub(crate) mod s3;
mod syslog;
mod webhook;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use async_trait::async_trait;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use synapse_audit::checkpoint::Checkpoint;
use synapse_core::config::snapshot::{Audit, SinkKind};
use synapse_gateway::{
    metrics::{Label, SinkLabel, SinkLabels},
    tasks,
};
use tokio::sync::watch;

use self::backlog::Backlog;
use super::{files::Files, work::asked_to};
use crate::outside::Outside;

/// Between two looks for a checkpoint: commands of other processes make them, too.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Before one is sent again for the first time; it doubles with every attempt.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The name of `audit.checkpoint_file` among the sinks.
const FILE: &str = "file";

/// A checkpoint as it is given to sinks.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given {
    checkpoint: Checkpoint,
    note: String,
}

/// Why a sink does not have a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Failure {
    /// To be tried again.
    #[error("{0}")]
    Away(String),
    /// It never will: something else stands in its place.
    #[error("{0}")]
    Refused(String),
}

/// Somewhere that checkpoints are kept outside the database. What it has taken may be given to it again.
#[async_trait]
trait Sink: Send + Sync {
    /// Gives it one.
    async fn give(&mut self, given: &Given) -> Result<(), Failure>;
}

/// What is counted of sinks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Attempts.
    pub(crate) given: Family<SinkLabels, Counter>,
    /// What waits.
    pub(crate) waiting: Family<SinkLabel, Gauge>,
}

/// Brings checkpoints to one sink.
pub(super) struct Relay {
    name: String,
    sink: Box<dyn Sink>,
    backlog: Backlog,
    /// What was told of the sink last; nothing where all is well.
    told: Option<String>,
}

/// The relays of all sinks that are configured.
pub(super) fn relays(settings: &Audit, files: &Files) -> anyhow::Result<Vec<Relay>> {
    let outside = Arc::new(Outside::default());
    let mut sinks: Vec<(String, Box<dyn Sink>)> = Vec::new();
    if let Some(path) = files.copy() {
        sinks.push((FILE.to_owned(), Box::new(file::Copy::new(path, files.checkpoints()))));
    }
    for sink in &settings.sinks {
        let boxed: Box<dyn Sink> = match &sink.kind {
            SinkKind::Syslog(address) => Box::new(syslog::Syslog::new(address.clone(), Arc::clone(&outside))),
            SinkKind::Webhook(to) => Box::new(webhook::Receiver::new(to.clone(), Arc::clone(&outside))),
            SinkKind::S3(to) => Box::new(
                s3::Objects::new(to, Arc::clone(&outside))
                    .with_context(|| format!("audit.checkpoints.s3: {}", sink.name))?,
            ),
        };
        sinks.push((sink.name.clone(), boxed));
    }
    let relay =
        |(name, sink): (String, _)| Relay::new(sink, files.checkpoints(), files.place_of(&name), name);
    Ok(sinks.into_iter().map(relay).collect())
}

impl Relay {
    fn new(sink: Box<dyn Sink>, checkpoints: PathBuf, place: PathBuf, name: String) -> Self {
        Self { name, sink, backlog: Backlog::new(checkpoints, place), told: None }
    }

    /// Relays until it is asked to stop and has brought all there is, or cannot.
    pub(super) async fn run(mut self, counts: Counts, mut stop: watch::Receiver<bool>) {
        let waiting = counts.waiting.get_or_create_owned(&SinkLabel { sink: self.label() });
        loop {
            let is_last = *stop.borrow();
            let found = match self.with_backlog(Backlog::look).await {
                Ok(found) => found,
                Err(error) => {
                    self.tell(&format!("its checkpoints cannot be read: {error}"));
                    Vec::new()
                }
            };
            waiting.set(i64::try_from(self.backlog.waiting()).unwrap_or(i64::MAX));
            if found.is_empty() {
                if is_last {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = asked_to(&mut stop) => {}
                }
                continue;
            }
            for (given, end) in found {
                if !self.insist(&given, &counts, &mut stop).await {
                    self.keep_place().await;
                    return;
                }
                self.backlog.pass(&given, end);
                waiting.set(i64::try_from(self.backlog.waiting()).unwrap_or(i64::MAX));
            }
            self.keep_place().await;
        }
    }

    /// Gives the sink a checkpoint until it has it, or never will. Whether it is to go on.
    async fn insist(&mut self, given: &Given, counts: &Counts, stop: &mut watch::Receiver<bool>) -> bool {
        let mut pause = FIRST_PAUSE;
        loop {
            let outcome = self.sink.give(given).await;
            let result = match &outcome {
                Ok(()) => "delivered",
                Err(Failure::Away(_)) => "failed",
                Err(Failure::Refused(_)) => "refused",
            };
            counts.given.get_or_create(&SinkLabels { sink: self.label(), result }).inc();
            match outcome {
                Ok(()) => {
                    if self.told.take().is_some() {
                        tracing::info!(sink = self.name, "the sink takes checkpoints of the audit log again");
                    }
                    return true;
                }
                Err(Failure::Refused(because)) => {
                    let Checkpoint { chain, last, .. } = given.checkpoint;
                    let sink = &self.name;
                    tracing::error!(sink, %chain, last, because, "a sink has something else in a checkpoint's place");
                    return true;
                }
                Err(Failure::Away(because)) => self.tell(&because),
            }
            if *stop.borrow() {
                return false;
            }
            if pause == FIRST_PAUSE {
                self.keep_place().await;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = asked_to(stop) => {}
            }
        }
    }

    /// Says what is wrong, once.
    fn tell(&mut self, because: &str) {
        if self.told.as_deref() != Some(because) {
            tracing::error!(
                sink = self.name,
                because,
                "a sink cannot be given the audit log's checkpoints; they wait"
            );
            self.told = Some(because.to_owned());
        }
    }

    async fn keep_place(&mut self) {
        if let Err(error) = self.with_backlog(Backlog::keep).await {
            // They are sent again then, which does no harm.
            tracing::warn!(sink = self.name, %error, "how far a sink of checkpoints has come cannot be kept");
        }
    }

    /// Does what reads or writes files.
    async fn with_backlog<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Backlog) -> T + Send + 'static,
    ) -> T {
        let mut backlog = self.backlog.clone();
        let (backlog, done) = tasks::block(move || {
            let done = work(&mut backlog);
            (backlog, done)
        })
        .await;
        self.backlog = backlog;
        done
    }

    fn label(&self) -> Label {
        Label::from(self.name.as_str())
    }
}
