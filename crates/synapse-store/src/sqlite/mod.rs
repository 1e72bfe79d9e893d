//! SQLite: one writer and a few readers on one file in WAL mode. The command line may write beside a
//! running gateway.

mod admin_tokens;
mod alerts;
mod audit;
mod counters;
mod incidents;
mod keys;
mod open;
mod retention;
mod teams;
#[cfg(test)]
mod tests;
mod worker_keys;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{AssertSqlSafe, Executor, Sqlite, SqliteConnection, SqlitePool, Transaction, sqlite::SqliteRow};
use synapse_core::{id::KeyId, store::StoreError};
use tokio::sync::Mutex;

use crate::rows::{backend, not_found, now};

/// Between two looks for changes: SQLite tells nobody of them.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

pub use counters::{COUNTERS_FILE, SqliteCounters};
pub use open::path_from_url;

/// The database's name within a data folder.
pub const FILE_NAME: &str = "synapse.db";

/// All stores on one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    /// A pool of one: SQLite takes one writer at a time, so they queue here rather than at the file.
    writer: SqlitePool,
    readers: SqlitePool,
    /// Asked several times a second, and never busy with anything else.
    watcher: Mutex<SqliteConnection>,
    months: Arc<audit::Months>,
}

impl SqliteStore {
    /// Opens the file and brings its schema up to date. A missing file is made, with mode 0600, and
    /// so is its folder, with 0700.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] with the remedy: no permission, not a database, damaged, locked, or
    /// of a newer Synapse.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        open::create_file(&path)?;
        open::connect(&path).await
    }

    /// Like [`Self::open`], for an existing file only.
    ///
    /// # Errors
    /// As [`Self::open`], and when there is no such file.
    pub async fn open_existing(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        open::require_file(path)?;
        open::connect(path).await
    }

    /// Waits for running statements and closes the file, so that its log is merged into it.
    pub async fn close(self) {
        self.readers.close().await;
        drop(self.watcher);
        self.writer.close().await;
        audit::close(self.months).await;
    }

    /// A transaction that is a writer from its start: one that began as a reader could not wait for
    /// its turn, only fail.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(backend)
    }
}

/// A table of issued credentials: it has an `id`, `created_at`, `revoked_at` and a `hash`.
struct Issued {
    table: &'static str,
    /// What one row is called.
    kind: &'static str,
}

impl Issued {
    /// One row.
    async fn read<'c>(
        &self,
        from: impl Executor<'c, Database = Sqlite>,
        id: &KeyId,
    ) -> Result<SqliteRow, StoreError> {
        let row = sqlx::query(AssertSqlSafe(format!("SELECT * FROM {} WHERE id = ?1", self.table)))
            .bind(id.as_str())
            .fetch_optional(from)
            .await
            .map_err(backend)?;
        row.ok_or_else(|| not_found(self.kind, id))
    }

    /// Revokes one, and reads it as it is then. The first time counts.
    async fn revoke(&self, store: &SqliteStore, id: &KeyId) -> Result<SqliteRow, StoreError> {
        let mut tx = store.write().await?;
        let revoke = format!("UPDATE {} SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1", self.table);
        sqlx::query(AssertSqlSafe(revoke))
            .bind(id.as_str())
            .bind(now().as_microsecond())
            .execute(&mut *tx)
            .await
            .map_err(backend)?;
        let row = self.read(&mut *tx, id).await?;
        tx.commit().await.map_err(backend)?;
        Ok(row)
    }

    /// Those that are good.
    async fn good(&self, store: &SqliteStore) -> Result<Vec<SqliteRow>, StoreError> {
        sqlx::query(AssertSqlSafe(format!("SELECT * FROM {} WHERE revoked_at IS NULL", self.table)))
            .fetch_all(&store.readers)
            .await
            .map_err(backend)
    }
}
