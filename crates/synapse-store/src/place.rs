//! Where the stores are, whichever database keeps them.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use synapse_core::store::{
    StoreError, admin_tokens::AdminTokenStore, alerts::AlertStore, audit::AuditStore,
    incidents::IncidentStore, keys::KeyStore, retention::RetentionStore, teams::TeamStore,
    worker_keys::WorkerKeyStore,
};

use crate::{
    postgres::{PostgresStore, Server},
    sqlite::{self, SqliteStore},
};

/// All stores of one database.
#[async_trait]
pub trait Stores:
    TeamStore
    + KeyStore
    + WorkerKeyStore
    + AdminTokenStore
    + IncidentStore
    + AlertStore
    + AuditStore
    + RetentionStore
{
    /// Waits for running statements and lets go of the database.
    async fn close(self: Box<Self>);
}

#[async_trait]
impl Stores for SqliteStore {
    async fn close(self: Box<Self>) {
        Self::close(*self).await;
    }
}

#[async_trait]
impl Stores for PostgresStore {
    async fn close(self: Box<Self>) {
        Self::close(*self).await;
    }
}

/// Where the stores are.
#[derive(Clone, Debug)]
pub enum Place {
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL database.
    Server(Box<Server>),
}

impl Place {
    /// The place that a URL names: `sqlite://FILE` or `postgres://…`.
    ///
    /// # Errors
    /// [`StoreError::Unusable`], which repeats nothing of the URL.
    pub fn from_url(url: &SecretString) -> Result<Self, StoreError> {
        match url.expose_secret().split_once(':') {
            Some(("postgres" | "postgresql", _)) => Ok(Self::Server(Box::new(Server::from_url(url)?))),
            _ => Ok(Self::File(sqlite::path_from_url(url.expose_secret())?)),
        }
    }

    /// The SQLite file of a data folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self::File(folder.join(sqlite::FILE_NAME))
    }

    /// Opens the stores, or makes them.
    ///
    /// # Errors
    /// As [`SqliteStore::open`] and [`Server::open`].
    pub async fn open(&self) -> Result<Box<dyn Stores>, StoreError> {
        Ok(match self {
            Self::File(path) => Box::new(SqliteStore::open(path).await?),
            Self::Server(server) => Box::new(server.open().await?),
        })
    }

    /// Opens stores that exist: a wrong place should not pass for an empty store.
    ///
    /// # Errors
    /// As [`Self::open`], and when there are none.
    pub async fn open_existing(&self) -> Result<Box<dyn Stores>, StoreError> {
        Ok(match self {
            Self::File(path) => Box::new(SqliteStore::open_existing(path).await?),
            Self::Server(server) => Box::new(server.open_existing().await?),
        })
    }
}
