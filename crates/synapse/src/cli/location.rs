//! Where state lives: the flags that say it, and the store behind them.

use std::path::{Path, PathBuf};

use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use synapse_store::sqlite::{self, SqliteStore};

use crate::{compose, settings::Settings};

const DEFAULT_DATA_DIR: &str = "./data";

/// The flags by which every command finds the same stores as the gateway.
#[derive(Args, Clone, Debug)]
pub(super) struct StoreLocation {
    /// Configuration file (YAML, or a LiteLLM `config.yaml`)
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Folder for all that must last [default: ./data]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// Database, such as sqlite:///srv/synapse.db [default: synapse.db in the data folder]
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
    pub(super) async fn open(&self) -> anyhow::Result<SqliteStore> {
        Ok(SqliteStore::open_existing(self.database_file()?).await?)
    }

    /// Opens the store, or makes it.
    pub(super) async fn open_or_create(&self) -> anyhow::Result<SqliteStore> {
        Ok(SqliteStore::open(self.database_file()?).await?)
    }

    fn database_file(&self) -> anyhow::Result<PathBuf> {
        match (&self.database_url, &self.data_dir, &self.config) {
            (Some(url), _, _) => Ok(sqlite::path_from_url(url.expose_secret())?),
            (None, Some(folder), _) => Ok(folder.join(sqlite::FILE_NAME)),
            (None, None, Some(file)) => configured_database_file(file),
            (None, None, None) => Ok(Path::new(DEFAULT_DATA_DIR).join(sqlite::FILE_NAME)),
        }
    }
}

fn configured_database_file(file: &Path) -> anyhow::Result<PathBuf> {
    let settings = Settings { file: Some(file.to_owned()), ..Settings::default() };
    compose::database_file(&settings.snapshot(&settings.text()?)?)
}
