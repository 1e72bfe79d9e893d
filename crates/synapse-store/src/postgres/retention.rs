//! Putting old months of the audit log away in PostgreSQL: a month is a partition.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::Row;
use synapse_core::store::{
    StoreError,
    retention::{Aged, Hold, RetentionStore, StoredAnchor},
};
use uuid::Uuid;

use super::{PostgresStore, text::packed};
use crate::{
    audit::place_of,
    records,
    rows::{backend, not_found, now},
};

#[async_trait]
impl RetentionStore for PostgresStore {
    async fn aged_chains(&self, month: Timestamp) -> Result<Vec<Aged>, StoreError> {
        let rows = sqlx::query(
            "SELECT a.chain, a.last,
                    (SELECT min(e.seq) FROM audit_entries AS e WHERE e.chain = a.chain AND e.at >= $1) AS rest
             FROM (SELECT chain, max(seq) AS last FROM audit_entries WHERE at < $1 GROUP BY chain) AS a
             ORDER BY a.chain",
        )
        .bind(month.as_microsecond())
        .fetch_all(&self.pool)
        .await
        .map_err(backend)?;
        rows.iter()
            .map(|row| {
                let chain = Uuid::from_slice(row.get("chain")).map_err(backend)?;
                let last = row.get::<i64, _>("last").unsigned_abs();
                Ok(Aged { chain, last, left: row.get::<Option<i64>, _>("rest").map(i64::unsigned_abs) })
            })
            .collect()
    }

    async fn add_anchor(&self, anchor: &StoredAnchor) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO audit_anchors (chain, next, at, note) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(&anchor.chain.as_bytes()[..])
        .bind(place_of(anchor.next))
        .bind(anchor.at.as_microsecond())
        .bind(packed(&anchor.note))
        .execute(&self.pool)
        .await
        .map_err(backend)?;
        Ok(())
    }

    async fn anchors(&self) -> Result<Vec<StoredAnchor>, StoreError> {
        let rows = sqlx::query(records::ANCHORS).fetch_all(&self.pool).await.map_err(backend)?;
        rows.iter().map(records::anchor).collect()
    }

    async fn retire_months(&self, month: Timestamp) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT retire_audit_months($1) AS gone")
            .bind(month.as_microsecond())
            .fetch_one(&self.pool)
            .await
            .map_err(backend)?;
        Ok(row.get::<i64, _>("gone").unsigned_abs())
    }

    async fn add_hold(&self, hold: &Hold) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO audit_holds (id, since, reason, at, released_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&hold.id)
        .bind(hold.since.map(Timestamp::as_microsecond))
        .bind(packed(&hold.reason))
        .bind(hold.at.as_microsecond())
        .bind(hold.released_at.map(Timestamp::as_microsecond))
        .execute(&self.pool)
        .await
        .map_err(backend)?;
        Ok(())
    }

    async fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        let rows = sqlx::query("SELECT * FROM audit_holds ORDER BY at DESC, id DESC")
            .fetch_all(&self.pool)
            .await
            .map_err(backend)?;
        rows.iter().map(records::hold).collect()
    }

    async fn release_hold(&self, id: &str) -> Result<Hold, StoreError> {
        let row = sqlx::query(
            "UPDATE audit_holds SET released_at = coalesce(released_at, $2) WHERE id = $1 RETURNING *",
        )
        .bind(packed(id))
        .bind(now().as_microsecond())
        .fetch_optional(&self.pool)
        .await
        .map_err(backend)?;
        records::hold(&row.ok_or_else(|| not_found("hold", &id))?)
    }
}
