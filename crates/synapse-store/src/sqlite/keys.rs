//! Keys in SQLite.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{Executor, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};
use synapse_core::{
    id::{KeyId, TeamName},
    key::ApiKey,
    principal::KeyTable,
    store::{
        StoreError,
        keys::{KeyChange, KeyInfo, KeyStore, NewKey},
    },
};

use super::{SqliteStore, backend, hash, moment, not_found, now, timestamp};

const KIND: &str = "key";

/// Every query that reads a [`KeyInfo`] reads these columns.
macro_rules! select_keys {
    ($rest:literal) => {
        concat!(
            "SELECT id, team, group_name, name, models, created_at, expires_at, revoked_at, disabled,
             previous_until ",
            $rest
        )
    };
}

#[async_trait]
impl KeyStore for SqliteStore {
    async fn create_key(&self, key: &ApiKey, new: &NewKey) -> Result<KeyInfo, StoreError> {
        new.check()?;
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO keys (id, team, group_name, name, models, created_at, expires_at, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )
        .bind(key.id().as_str())
        .bind(new.team.as_str())
        .bind(new.group.as_str())
        .bind(&new.name)
        .bind(serde_json::to_string(&new.models).map_err(backend)?)
        .bind(now().as_microsecond())
        .bind(new.expires_at.map(Timestamp::as_microsecond))
        .bind(&key.hash().as_bytes()[..])
        .execute(&mut *tx)
        .await
        .map_err(|error| match error.as_database_error() {
            Some(cause) if cause.is_foreign_key_violation() => not_found("team", &new.team),
            Some(cause) if cause.is_unique_violation() => {
                StoreError::AlreadyExists { kind: KIND, name: key.id().to_string() }
            }
            _ => backend(error),
        })?;
        let info = read_key(&mut *tx, key.id()).await?;
        tx.commit().await.map_err(backend)?;
        Ok(info)
    }

    async fn list_keys(&self, team: Option<&TeamName>) -> Result<Vec<KeyInfo>, StoreError> {
        // The row number settles which of two keys of one microsecond is newer.
        let rows = sqlx::query(select_keys!(
            "FROM keys WHERE ?1 IS NULL OR team = ?1 ORDER BY created_at DESC, rowid DESC"
        ))
        .bind(team.map(TeamName::as_str))
        .fetch_all(&self.readers)
        .await
        .map_err(backend)?;
        rows.iter().map(key_from_row).collect()
    }

    async fn get_key(&self, id: &KeyId) -> Result<KeyInfo, StoreError> {
        read_key(&self.readers, id).await
    }

    async fn update_key(&self, id: &KeyId, change: &KeyChange) -> Result<KeyInfo, StoreError> {
        let mut tx = self.write().await?;
        let info = change.apply(read_key(&mut *tx, id).await?)?;
        sqlx::query("UPDATE keys SET name = ?2, models = ?3, expires_at = ?4, disabled = ?5 WHERE id = ?1")
            .bind(id.as_str())
            .bind(&info.name)
            .bind(serde_json::to_string(&info.models).map_err(backend)?)
            .bind(info.expires_at.map(Timestamp::as_microsecond))
            .bind(info.disabled)
            .execute(&mut *tx)
            .await
            .map_err(backend)?;
        let info = read_key(&mut *tx, id).await?;
        tx.commit().await.map_err(backend)?;
        Ok(info)
    }

    async fn rotate_key(&self, key: &ApiKey, overlap: Duration) -> Result<KeyInfo, StoreError> {
        let until = now()
            .checked_add(overlap)
            .map_err(|_| StoreError::Invalid("the overlap of a rotation is too long".into()))?;
        let mut tx = self.write().await?;
        read_key(&mut *tx, key.id()).await?.check_not_revoked()?;
        sqlx::query(
            "UPDATE keys
             SET previous_hash = iif(?3 IS NULL, NULL, hash), previous_until = ?3, hash = ?2
             WHERE id = ?1",
        )
        .bind(key.id().as_str())
        .bind(&key.hash().as_bytes()[..])
        .bind((!overlap.is_zero()).then(|| until.as_microsecond()))
        .execute(&mut *tx)
        .await
        .map_err(backend)?;
        let info = read_key(&mut *tx, key.id()).await?;
        tx.commit().await.map_err(backend)?;
        Ok(info)
    }

    async fn revoke_key(&self, id: &KeyId) -> Result<KeyInfo, StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE keys SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1")
            .bind(id.as_str())
            .bind(now().as_microsecond())
            .execute(&mut *tx)
            .await
            .map_err(backend)?;
        let info = read_key(&mut *tx, id).await?;
        tx.commit().await.map_err(backend)?;
        Ok(info)
    }

    async fn load_key_table(&self) -> Result<KeyTable, StoreError> {
        let rows = sqlx::query(
            "SELECT k.id, k.team, k.group_name, k.name, k.models, k.created_at, k.expires_at, k.revoked_at,
                    k.disabled, k.previous_until, k.hash, k.previous_hash, t.disabled AS team_disabled
             FROM keys AS k JOIN teams AS t ON t.name = k.team",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(backend)?;
        let mut table = KeyTable::default();
        for row in &rows {
            let info = key_from_row(row)?;
            let mut secrets = Vec::with_capacity(2);
            secrets.extend(hash(row, "hash")?.map(|hash| (hash, None)));
            secrets.extend(hash(row, "previous_hash")?.map(|hash| (hash, info.previous_secret_until)));
            table.insert_issued(info.principal(row.try_get("team_disabled").map_err(backend)?), secrets);
        }
        Ok(table)
    }

    async fn change_mark(&self) -> Result<i64, StoreError> {
        let mut watcher = self.watcher.lock().await;
        let watcher: &mut SqliteConnection = &mut watcher;
        sqlx::query_scalar("SELECT mark FROM changes").fetch_one(watcher).await.map_err(backend)
    }
}

async fn read_key<'c>(from: impl Executor<'c, Database = Sqlite>, id: &KeyId) -> Result<KeyInfo, StoreError> {
    let row = sqlx::query(select_keys!("FROM keys WHERE id = ?1"))
        .bind(id.as_str())
        .fetch_optional(from)
        .await
        .map_err(backend)?;
    key_from_row(&row.ok_or_else(|| not_found(KIND, id))?)
}

fn key_from_row(row: &SqliteRow) -> Result<KeyInfo, StoreError> {
    Ok(KeyInfo {
        id: row.try_get::<&str, _>("id").map_err(backend)?.into(),
        team: row.try_get::<&str, _>("team").map_err(backend)?.into(),
        group: row.try_get::<&str, _>("group_name").map_err(backend)?.into(),
        name: row.try_get("name").map_err(backend)?,
        models: serde_json::from_str(row.try_get("models").map_err(backend)?).map_err(backend)?,
        created_at: timestamp(row.try_get("created_at").map_err(backend)?)?,
        expires_at: moment(row, "expires_at")?,
        revoked_at: moment(row, "revoked_at")?,
        disabled: row.try_get("disabled").map_err(backend)?,
        previous_secret_until: moment(row, "previous_until")?,
    })
}
