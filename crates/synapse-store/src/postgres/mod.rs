//! PostgreSQL: what several gateways share. All of it lives in a schema named `synapse`. The gateway works with the
//! rights of the role `synapse_app` where it may take it on, so that it can append to the audit log and nothing else.

mod admin_tokens;
mod alerts;
mod audit;
mod copy;
mod incidents;
mod keys;
mod open;
mod retention;
mod teams;
#[cfg(test)]
mod tests;
pub(crate) mod text;
mod watch;
mod worker_keys;

use std::{
    sync::atomic::{AtomicI64, AtomicU32},
    time::Duration,
};

use sqlx::{AssertSqlSafe, Executor, PgPool, Postgres, Transaction, postgres::PgRow};
use synapse_core::{id::KeyId, store::StoreError};
use tokio::time::timeout;

pub use open::Server;

use crate::rows::{backend, not_found, now};

/// All stores in one database.
#[derive(Debug)]
pub struct PostgresStore {
    pool: PgPool,
    watch: watch::Watch,
    /// When to see next that there are partitions for the months to come, in microseconds since 1970.
    look_ahead_at: AtomicI64,
    /// For how many months there were none then.
    months_without_place: AtomicU32,
}

impl PostgresStore {
    /// Waits for running statements and ends all connections.
    pub async fn close(self) {
        self.watch.close().await;
        self.pool.close().await;
    }

    /// A transaction that changes teams, keys or tokens: one after the other, so that what it reads stays so until
    /// it ends.
    async fn write(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        let mut tx = self.pool.begin().await.map_err(backend)?;
        sqlx::query("SELECT mark FROM changes FOR UPDATE").execute(&mut *tx).await.map_err(backend)?;
        Ok(tx)
    }
}

/// A server that takes longer to write is as good as none; whoever writes tries again, and nothing stands there twice.
const WRITE_WITHIN: Duration = Duration::from_secs(30);

/// The outcome of writing what goes on by itself, so that a server that vanished holds nobody up for ever.
async fn written<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| Err(backend(format!("PostgreSQL did not answer within {} s", WRITE_WITHIN.as_secs())));
    timeout(WRITE_WITHIN, work).await.unwrap_or_else(late)
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
        from: impl Executor<'c, Database = Postgres>,
        id: &KeyId,
    ) -> Result<PgRow, StoreError> {
        let row = sqlx::query(AssertSqlSafe(format!("SELECT * FROM {} WHERE id = $1", self.table)))
            .bind(text::packed(id.as_str()))
            .fetch_optional(from)
            .await
            .map_err(backend)?;
        row.ok_or_else(|| not_found(self.kind, id))
    }

    /// Revokes one, and reads it as it is then. The first time counts.
    async fn revoke(&self, store: &PostgresStore, id: &KeyId) -> Result<PgRow, StoreError> {
        let mut tx = store.write().await?;
        let revoke = format!("UPDATE {} SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1", self.table);
        sqlx::query(AssertSqlSafe(revoke))
            .bind(text::packed(id.as_str()))
            .bind(now().as_microsecond())
            .execute(&mut *tx)
            .await
            .map_err(backend)?;
        let row = self.read(&mut *tx, id).await?;
        tx.commit().await.map_err(backend)?;
        Ok(row)
    }

    /// Those that are good.
    async fn good(&self, store: &PostgresStore) -> Result<Vec<PgRow>, StoreError> {
        sqlx::query(AssertSqlSafe(format!("SELECT * FROM {} WHERE revoked_at IS NULL", self.table)))
            .fetch_all(&store.pool)
            .await
            .map_err(backend)
    }
}
