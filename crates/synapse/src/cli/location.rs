//! Where state lives: the flags that say it, and the store behind them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use secrecy::SecretString;
use synapse_core::config::snapshot::Snapshot;
use synapse_store::{
    lock::DataDir,
    place::{Place, Stores},
    sqlite::LOOK_EVERY,
};

use crate::{
    audit::{change::Change, files::Files},
    compose,
    settings::Settings,
};

const DEFAULT_DATA_DIR: &str = "./data";
/// Within this a gateway has seen a change of its store: it looks a little more often.
const SEEN_WITHIN: Duration = LOOK_EVERY.saturating_add(Duration::from_millis(50));

/// The flags by which every command finds the same stores as the gateway.
#[derive(Args, Clone, Debug)]
pub(super) struct StoreLocation {
    /// Configuration file (YAML, or a LiteLLM `config.yaml`)
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Folder for all that must last [default: ./data]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// Database: sqlite:///srv/synapse.db or postgres://user:password@host/database [default: synapse.db in the data
    /// folder]
    #[arg(long, global = true, value_name = "URL")]
    pub(super) database_url: Option<SecretString>,
}

/// What all management commands share.
#[derive(Args, Debug)]
pub(super) struct SharedArgs {
    #[command(flatten)]
    pub(super) location: StoreLocation,
    /// Print one JSON document
    #[arg(long, global = true)]
    pub(super) json: bool,
}

impl StoreLocation {
    /// Opens the store, which must exist: a wrong folder should not pass for an empty store.
    pub(super) async fn open(&self) -> anyhow::Result<Box<dyn Stores>> {
        Ok(self.database()?.open_existing().await?)
    }

    /// Opens the store, or makes it.
    pub(super) async fn open_or_create(&self) -> anyhow::Result<Box<dyn Stores>> {
        Ok(self.database()?.open().await?)
    }

    /// Ends the work on a store. What was changed becomes an entry of the audit log, and the command takes until a
    /// gateway that runs on the data folder has had time to see it, so that the next one of a script may count on it.
    pub(super) async fn finish(
        &self,
        store: Box<dyn Stores>,
        done: anyhow::Result<Option<Change>>,
    ) -> anyhow::Result<()> {
        let recorded = match &done {
            Ok(Some(change)) => self.record(&*store, change).await,
            _ => Ok(()),
        };
        store.close().await;
        if done?.is_some() {
            self.until_seen().await;
        }
        recorded.context("the change was made, but stands in no audit log")
    }

    async fn record(&self, store: &dyn Stores, change: &Change) -> anyhow::Result<()> {
        // Without a configuration, there is a log.
        let settings =
            self.config.as_ref().map(|_| self.snapshot()).transpose()?.map(|snapshot| snapshot.audit);
        if settings.as_ref().is_some_and(|settings| !settings.enabled) {
            return Ok(());
        }
        let sink = settings.and_then(|settings| settings.checkpoint_file);
        change.record(store, &Files::within(&self.data_dir()?, sink)).await
    }

    async fn until_seen(&self) {
        // What is done is done; a configuration that cannot be read is no reason to fail now.
        if self.data_dir().is_ok_and(|folder| DataDir::is_claimed(&folder)) {
            tokio::time::sleep(SEEN_WITHIN).await;
        }
    }

    /// The configuration; without one, the defaults.
    pub(super) fn snapshot(&self) -> anyhow::Result<Snapshot> {
        let settings = Settings { file: self.config.clone(), ..Settings::default() };
        Ok(settings.snapshot(&settings.text()?)?)
    }

    /// The data folder.
    pub(super) fn data_dir(&self) -> anyhow::Result<PathBuf> {
        match (&self.data_dir, &self.config) {
            (Some(folder), _) => Ok(folder.clone()),
            (None, Some(_)) => Ok(self.snapshot()?.data_dir),
            (None, None) => Ok(DEFAULT_DATA_DIR.into()),
        }
    }

    fn database(&self) -> anyhow::Result<Place> {
        match (&self.database_url, &self.data_dir, &self.config) {
            (Some(url), _, _) => Ok(Place::from_url(url)?),
            (None, Some(folder), _) => Ok(Place::in_folder(folder)),
            (None, None, Some(_)) => compose::database(&self.snapshot()?),
            (None, None, None) => Ok(Place::in_folder(Path::new(DEFAULT_DATA_DIR))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_takes_until_a_gateway_has_seen_it_and_no_time_where_none_runs() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = Some(folder.path().to_owned());
        let location = StoreLocation { config: None, data_dir, database_url: None };
        let start = Instant::now();
        location.until_seen().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        let _gateway = DataDir::claim(folder.path()).unwrap();
        location.until_seen().await;
        assert!(start.elapsed() > LOOK_EVERY);
    }
}
