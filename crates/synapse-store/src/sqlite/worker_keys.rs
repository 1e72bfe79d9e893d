//! Workers' keys in SQLite.

use async_trait::async_trait;
use synapse_core::{
    id::{GroupName, KeyId},
    key::WorkerSecret,
    store::{
        StoreError,
        worker_keys::{NewWorkerKey, WorkerKeyInfo, WorkerKeyStore},
    },
    worker::WorkerKeyTable,
};

use super::{Issued, SqliteStore};
use crate::{
    records,
    rows::{backend, now, taken},
};

const KEYS: Issued = Issued { table: "worker_keys", kind: "worker key" };

#[async_trait]
impl WorkerKeyStore for SqliteStore {
    async fn create_worker_key(
        &self,
        key: &WorkerSecret,
        new: &NewWorkerKey,
    ) -> Result<WorkerKeyInfo, StoreError> {
        new.check()?;
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO worker_keys (id, group_name, description, allows_cloud, created_at, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(key.id().as_str())
        .bind(new.group.as_str())
        .bind(&new.description)
        .bind(new.allows_cloud)
        .bind(now().as_microsecond())
        .bind(&key.hash().as_bytes()[..])
        .execute(&mut *tx)
        .await
        .map_err(|error| taken(error, KEYS.kind, key.id()))?;
        let info = records::worker_key(&KEYS.read(&mut *tx, key.id()).await?)?;
        tx.commit().await.map_err(backend)?;
        Ok(info)
    }

    async fn list_worker_keys(&self, group: Option<&GroupName>) -> Result<Vec<WorkerKeyInfo>, StoreError> {
        // The row number settles which of two keys of one microsecond is newer.
        let rows = sqlx::query(
            "SELECT * FROM worker_keys WHERE ?1 IS NULL OR group_name = ?1 ORDER BY created_at DESC, rowid DESC",
        )
        .bind(group.map(GroupName::as_str))
        .fetch_all(&self.readers)
        .await
        .map_err(backend)?;
        rows.iter().map(records::worker_key).collect()
    }

    async fn get_worker_key(&self, id: &KeyId) -> Result<WorkerKeyInfo, StoreError> {
        records::worker_key(&KEYS.read(&self.readers, id).await?)
    }

    async fn revoke_worker_key(&self, id: &KeyId) -> Result<WorkerKeyInfo, StoreError> {
        records::worker_key(&KEYS.revoke(self, id).await?)
    }

    async fn load_worker_key_table(&self) -> Result<WorkerKeyTable, StoreError> {
        records::worker_key_table(&KEYS.good(self).await?)
    }
}
