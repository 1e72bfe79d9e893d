//! Workers' keys in SQLite.

use async_trait::async_trait;
use sqlx::{Row, sqlite::SqliteRow};
use synapse_core::{
    id::{GroupName, KeyId},
    key::WorkerSecret,
    store::{
        StoreError,
        worker_keys::{NewWorkerKey, WorkerKeyInfo, WorkerKeyStore},
    },
    worker::WorkerKeyTable,
};

use super::{Issued, SqliteStore, backend, hash, moment, now, taken, timestamp};

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
        let info = from_row(&KEYS.read(&mut *tx, key.id()).await?)?;
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
        rows.iter().map(from_row).collect()
    }

    async fn get_worker_key(&self, id: &KeyId) -> Result<WorkerKeyInfo, StoreError> {
        from_row(&KEYS.read(&self.readers, id).await?)
    }

    async fn revoke_worker_key(&self, id: &KeyId) -> Result<WorkerKeyInfo, StoreError> {
        from_row(&KEYS.revoke(self, id).await?)
    }

    async fn load_worker_key_table(&self) -> Result<WorkerKeyTable, StoreError> {
        let mut table = WorkerKeyTable::default();
        for row in &KEYS.good(self).await? {
            if let (Some(hash), Some(key)) = (hash(row, "hash")?, from_row(row)?.good()) {
                table.insert(hash, key);
            }
        }
        Ok(table)
    }
}

fn from_row(row: &SqliteRow) -> Result<WorkerKeyInfo, StoreError> {
    Ok(WorkerKeyInfo {
        id: row.try_get::<&str, _>("id").map_err(backend)?.into(),
        group: row.try_get::<&str, _>("group_name").map_err(backend)?.into(),
        description: row.try_get("description").map_err(backend)?,
        allows_cloud: row.try_get("allows_cloud").map_err(backend)?,
        created_at: timestamp(row.try_get("created_at").map_err(backend)?)?,
        revoked_at: moment(row, "revoked_at")?,
    })
}
