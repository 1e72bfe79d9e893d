//! Putting old months of the audit log away in SQLite: a month is a file.

use async_trait::async_trait;
use jiff::Timestamp;
use synapse_core::store::{
    StoreError,
    retention::{Aged, Hold, RetentionStore, StoredAnchor},
};

use super::{SqliteStore, audit};
use crate::{
    records,
    rows::{backend, not_found, now},
};

#[async_trait]
impl RetentionStore for SqliteStore {
    async fn aged_chains(&self, month: Timestamp) -> Result<Vec<Aged>, StoreError> {
        audit::aged(&self.months, month).await
    }

    async fn add_anchor(&self, anchor: &StoredAnchor) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO audit_anchors (chain, next, at, note) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )
        .bind(&anchor.chain.as_bytes()[..])
        .bind(crate::audit::place_of(anchor.next))
        .bind(anchor.at.as_microsecond())
        .bind(&anchor.note)
        .execute(&self.writer)
        .await
        .map_err(backend)?;
        Ok(())
    }

    async fn anchors(&self) -> Result<Vec<StoredAnchor>, StoreError> {
        let rows = sqlx::query(records::ANCHORS).fetch_all(&self.readers).await.map_err(backend)?;
        rows.iter().map(records::anchor).collect()
    }

    async fn retire_months(&self, month: Timestamp) -> Result<u64, StoreError> {
        audit::retire(&self.months, month).await
    }

    async fn add_hold(&self, hold: &Hold) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO audit_holds (id, since, reason, at, released_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(&hold.id)
        .bind(hold.since.map(Timestamp::as_microsecond))
        .bind(&hold.reason)
        .bind(hold.at.as_microsecond())
        .bind(hold.released_at.map(Timestamp::as_microsecond))
        .execute(&self.writer)
        .await
        .map_err(backend)?;
        Ok(())
    }

    async fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        let rows = sqlx::query("SELECT * FROM audit_holds ORDER BY at DESC, id DESC")
            .fetch_all(&self.readers)
            .await
            .map_err(backend)?;
        rows.iter().map(records::hold).collect()
    }

    async fn release_hold(&self, id: &str) -> Result<Hold, StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE audit_holds SET released_at = coalesce(released_at, ?2) WHERE id = ?1")
            .bind(id)
            .bind(now().as_microsecond())
            .execute(&mut *tx)
            .await
            .map_err(backend)?;
        let row = sqlx::query("SELECT * FROM audit_holds WHERE id = ?1")
            .bind(id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(backend)?;
        let hold = records::hold(&row.ok_or_else(|| not_found("hold", &id))?)?;
        tx.commit().await.map_err(backend)?;
        Ok(hold)
    }
}
