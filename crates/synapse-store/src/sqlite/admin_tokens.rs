//! Administrators' tokens in SQLite.

use async_trait::async_trait;
use sqlx::{Executor, Row, Sqlite, sqlite::SqliteRow};
use synapse_core::{
    id::KeyId,
    key::AdminToken,
    store::{
        StoreError,
        admin_tokens::{AdminTokenInfo, AdminTokenStore, AdminTokenTable, check_description},
    },
};

use super::{SqliteStore, backend, hash, moment, not_found, now, timestamp};

const KIND: &str = "administrator's token";

#[async_trait]
impl AdminTokenStore for SqliteStore {
    async fn create_admin_token(
        &self,
        token: &AdminToken,
        description: Option<&str>,
    ) -> Result<AdminTokenInfo, StoreError> {
        check_description(description)?;
        let mut tx = self.write().await?;
        sqlx::query("INSERT INTO admin_tokens (id, description, created_at, hash) VALUES (?1, ?2, ?3, ?4)")
            .bind(token.id().as_str())
            .bind(description)
            .bind(now().as_microsecond())
            .bind(&token.hash().as_bytes()[..])
            .execute(&mut *tx)
            .await
            .map_err(|error| match error.as_database_error() {
                Some(cause) if cause.is_unique_violation() => {
                    StoreError::AlreadyExists { kind: KIND, name: token.id().to_string() }
                }
                _ => backend(error),
            })?;
        let info = read(&mut *tx, token.id()).await?;
        tx.commit().await.map_err(backend)?;
        Ok(info)
    }

    async fn list_admin_tokens(&self) -> Result<Vec<AdminTokenInfo>, StoreError> {
        // The row number settles which of two tokens of one microsecond is newer.
        let rows = sqlx::query("SELECT * FROM admin_tokens ORDER BY created_at DESC, rowid DESC")
            .fetch_all(&self.readers)
            .await
            .map_err(backend)?;
        rows.iter().map(from_row).collect()
    }

    async fn revoke_admin_token(&self, id: &KeyId) -> Result<AdminTokenInfo, StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE admin_tokens SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1")
            .bind(id.as_str())
            .bind(now().as_microsecond())
            .execute(&mut *tx)
            .await
            .map_err(backend)?;
        let info = read(&mut *tx, id).await?;
        tx.commit().await.map_err(backend)?;
        Ok(info)
    }

    async fn load_admin_tokens(&self) -> Result<AdminTokenTable, StoreError> {
        let rows = sqlx::query("SELECT * FROM admin_tokens WHERE revoked_at IS NULL")
            .fetch_all(&self.readers)
            .await
            .map_err(backend)?;
        let mut table = AdminTokenTable::default();
        for row in &rows {
            if let Some(hash) = hash(row, "hash")? {
                table.insert(hash, from_row(row)?.id);
            }
        }
        Ok(table)
    }
}

async fn read<'c>(
    from: impl Executor<'c, Database = Sqlite>,
    id: &KeyId,
) -> Result<AdminTokenInfo, StoreError> {
    let row = sqlx::query("SELECT * FROM admin_tokens WHERE id = ?1")
        .bind(id.as_str())
        .fetch_optional(from)
        .await
        .map_err(backend)?;
    from_row(&row.ok_or_else(|| not_found(KIND, id))?)
}

fn from_row(row: &SqliteRow) -> Result<AdminTokenInfo, StoreError> {
    Ok(AdminTokenInfo {
        id: row.try_get::<&str, _>("id").map_err(backend)?.into(),
        description: row.try_get("description").map_err(backend)?,
        created_at: timestamp(row.try_get("created_at").map_err(backend)?)?,
        revoked_at: moment(row, "revoked_at")?,
    })
}
