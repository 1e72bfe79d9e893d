//! Keys in SQLite.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::SqliteConnection;
use synapse_core::{
    binding::SystemPrompt,
    id::{KeyId, TeamName},
    key::ApiKey,
    principal::KeyTable,
    store::{
        StoreError,
        keys::{KeyChange, KeyInfo, KeyStore, NewKey, PromptVersion},
    },
};

use super::{Issued, LOOK_EVERY, SqliteStore};
use crate::{
    records,
    rows::{backend, not_found, now, taken, to_json},
};

const KEYS: Issued = Issued { table: "keys", kind: "key" };

#[async_trait]
impl KeyStore for SqliteStore {
    async fn create_key(&self, key: &ApiKey, new: &NewKey) -> Result<KeyInfo, StoreError> {
        new.check()?;
        let mut binding = new.binding.clone();
        if let Some(prompt) = &mut binding.system_prompt {
            Arc::make_mut(prompt).version = 1;
        }
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO keys (id, team, group_name, name, models, created_at, expires_at, hash, binding)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )
        .bind(key.id().as_str())
        .bind(new.team.as_str())
        .bind(new.group.as_str())
        .bind(&new.name)
        .bind(to_json(&new.models)?)
        .bind(now().as_microsecond())
        .bind(new.expires_at.map(Timestamp::as_microsecond))
        .bind(&key.hash().as_bytes()[..])
        .bind(to_json(&binding)?)
        .execute(&mut *tx)
        .await
        .map_err(|error| match error.as_database_error() {
            Some(cause) if cause.is_foreign_key_violation() => not_found("team", &new.team),
            _ => taken(error, KEYS.kind, key.id()),
        })?;
        keep_prompt(&mut tx, key.id(), binding.system_prompt.as_deref()).await?;
        let info = records::key(&KEYS.read(&mut *tx, key.id()).await?)?;
        tx.commit().await.map_err(backend)?;
        Ok(info)
    }

    async fn list_keys(&self, team: Option<&TeamName>) -> Result<Vec<KeyInfo>, StoreError> {
        // The row number settles which of two keys of one microsecond is newer.
        let rows = sqlx::query(
            "SELECT * FROM keys WHERE ?1 IS NULL OR team = ?1 ORDER BY created_at DESC, rowid DESC",
        )
        .bind(team.map(TeamName::as_str))
        .fetch_all(&self.readers)
        .await
        .map_err(backend)?;
        rows.iter().map(records::key).collect()
    }

    async fn get_key(&self, id: &KeyId) -> Result<KeyInfo, StoreError> {
        records::key(&KEYS.read(&self.readers, id).await?)
    }

    async fn update_key(&self, id: &KeyId, change: &KeyChange) -> Result<KeyInfo, StoreError> {
        let mut tx = self.write().await?;
        let before = records::key(&KEYS.read(&mut *tx, id).await?)?;
        let info = change.apply(before, latest_prompt(&mut tx, id).await?)?;
        sqlx::query(
            "UPDATE keys SET name = ?2, models = ?3, expires_at = ?4, disabled = ?5, binding = ?6 WHERE id = ?1",
        )
        .bind(id.as_str())
        .bind(&info.name)
        .bind(to_json(&info.models)?)
        .bind(info.expires_at.map(Timestamp::as_microsecond))
        .bind(info.disabled)
        .bind(to_json(&info.binding)?)
        .execute(&mut *tx)
        .await
        .map_err(backend)?;
        keep_prompt(&mut tx, id, info.binding.system_prompt.as_deref()).await?;
        let info = records::key(&KEYS.read(&mut *tx, id).await?)?;
        tx.commit().await.map_err(backend)?;
        Ok(info)
    }

    async fn rotate_key(&self, key: &ApiKey, overlap: Duration) -> Result<KeyInfo, StoreError> {
        let until = now()
            .checked_add(overlap)
            .map_err(|_| StoreError::Invalid("the overlap of a rotation is too long".into()))?;
        let mut tx = self.write().await?;
        records::key(&KEYS.read(&mut *tx, key.id()).await?)?.check_not_revoked()?;
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
        let info = records::key(&KEYS.read(&mut *tx, key.id()).await?)?;
        tx.commit().await.map_err(backend)?;
        Ok(info)
    }

    async fn list_prompts(&self, id: &KeyId) -> Result<Vec<PromptVersion>, StoreError> {
        KEYS.read(&self.readers, id).await?;
        let rows = sqlx::query("SELECT * FROM system_prompts WHERE key_id = ?1 ORDER BY version DESC")
            .bind(id.as_str())
            .fetch_all(&self.readers)
            .await
            .map_err(backend)?;
        rows.iter().map(records::prompt).collect()
    }

    async fn revoke_key(&self, id: &KeyId) -> Result<KeyInfo, StoreError> {
        records::key(&KEYS.revoke(self, id).await?)
    }

    async fn load_key_table(&self) -> Result<KeyTable, StoreError> {
        let rows = sqlx::query(
            "SELECT k.*, t.disabled AS team_disabled, t.limits AS team_limits
             FROM keys AS k JOIN teams AS t ON t.name = k.team",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(backend)?;
        records::key_table(&rows)
    }

    async fn change_mark(&self) -> Result<i64, StoreError> {
        let mut watcher = self.watcher.lock().await;
        let watcher: &mut SqliteConnection = &mut watcher;
        sqlx::query_scalar("SELECT mark FROM changes").fetch_one(watcher).await.map_err(backend)
    }

    async fn next_look(&self) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The latest version that a key's system prompt ever had.
async fn latest_prompt(tx: &mut SqliteConnection, id: &KeyId) -> Result<u32, StoreError> {
    sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM system_prompts WHERE key_id = ?1")
        .bind(id.as_str())
        .fetch_one(tx)
        .await
        .map_err(backend)
}

/// Keeps a prompt's version for good; one that is known stays as it is.
async fn keep_prompt(
    tx: &mut SqliteConnection,
    id: &KeyId,
    prompt: Option<&SystemPrompt>,
) -> Result<(), StoreError> {
    let Some(prompt) = prompt else { return Ok(()) };
    sqlx::query(
        "INSERT INTO system_prompts (key_id, version, text, created_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO NOTHING",
    )
    .bind(id.as_str())
    .bind(prompt.version)
    .bind(&prompt.text)
    .bind(now().as_microsecond())
    .execute(tx)
    .await
    .map_err(backend)?;
    Ok(())
}
