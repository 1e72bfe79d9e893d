//! Administrators' tokens in PostgreSQL.

use async_trait::async_trait;
use synapse_core::{
    id::KeyId,
    key::AdminToken,
    store::{
        StoreError,
        admin_tokens::{AdminTokenInfo, AdminTokenStore, AdminTokenTable, check_description},
    },
};

use super::{Issued, PostgresStore, text::packed};
use crate::{
    records,
    rows::{backend, now, taken},
};

const TOKENS: Issued = Issued { table: "admin_tokens", kind: "administrator's token" };

#[async_trait]
impl AdminTokenStore for PostgresStore {
    async fn create_admin_token(
        &self,
        token: &AdminToken,
        description: Option<&str>,
    ) -> Result<AdminTokenInfo, StoreError> {
        check_description(description)?;
        let mut tx = self.write().await?;
        sqlx::query("INSERT INTO admin_tokens (id, description, created_at, hash) VALUES ($1, $2, $3, $4)")
            .bind(packed(token.id().as_str()))
            .bind(description.map(packed))
            .bind(now().as_microsecond())
            .bind(&token.hash().as_bytes()[..])
            .execute(&mut *tx)
            .await
            .map_err(|error| taken(error, TOKENS.kind, token.id()))?;
        let info = records::admin_token(&TOKENS.read(&mut *tx, token.id()).await?)?;
        tx.commit().await.map_err(backend)?;
        Ok(info)
    }

    async fn list_admin_tokens(&self) -> Result<Vec<AdminTokenInfo>, StoreError> {
        let rows = sqlx::query("SELECT * FROM admin_tokens ORDER BY created_at DESC, number DESC")
            .fetch_all(&self.pool)
            .await
            .map_err(backend)?;
        rows.iter().map(records::admin_token).collect()
    }

    async fn revoke_admin_token(&self, id: &KeyId) -> Result<AdminTokenInfo, StoreError> {
        records::admin_token(&TOKENS.revoke(self, id).await?)
    }

    async fn load_admin_tokens(&self) -> Result<AdminTokenTable, StoreError> {
        records::admin_token_table(&TOKENS.good(self).await?)
    }
}
