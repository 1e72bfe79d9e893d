//! The audit log in PostgreSQL: one table, partitioned by month.

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock, atomic::Ordering},
};

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{
    AssertSqlSafe, PgConnection, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use synapse_core::{
    audit::{
        entry::{ColumnKind, Owned, Sealed, Value},
        stretch::Stretch,
    },
    store::{
        StoreError,
        audit::{AuditFilter, AuditStore, Head, StoredCheckpoint},
    },
};
use uuid::Uuid;

use super::{
    PostgresStore, copy,
    text::{packed, strictly_unpacked, unpacked},
    written,
};
use crate::{
    audit::{
        self, Taken,
        listing::{self, Listing},
    },
    rows::backend,
};

/// Between two looks whether there are partitions for the months to come, in microseconds.
const LOOK_AHEAD_EVERY: i64 = 3_600_000_000;

/// Counts the months that should have a partition and have none.
const LACKING: &str = "SELECT count(*) FROM generate_series(0, 2) AS ahead
     WHERE to_regclass('audit_entries_' || to_char(
         date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead), 'YYYY_MM'
     )) IS NULL";

/// One array for each column, so that the statement is the same for any number of entries.
static INSERT: LazyLock<String> = LazyLock::new(|| {
    let array = |(place, column): (usize, &synapse_core::audit::entry::Column)| {
        let kind = match column.kind {
            ColumnKind::Integer => "bigint",
            ColumnKind::Text => "text",
            ColumnKind::Bytes => "bytea",
        };
        format!("${}::{kind}[]", place + 1)
    };
    let arrays = audit::columns().enumerate().map(array).collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO audit_entries ({}) SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING",
        audit::names()
    )
});
static HEADS: LazyLock<String> = LazyLock::new(|| audit::heads_statement("audit_entries"));

#[async_trait]
impl AuditStore for PostgresStore {
    async fn append_entries(&self, entries: Arc<Stretch>) -> Result<(), StoreError> {
        written(self.append(&entries)).await
    }

    async fn audit_heads(&self) -> Result<Vec<(Uuid, Head)>, StoreError> {
        let rows = sqlx::query(HEADS.as_str()).fetch_all(&self.pool).await.map_err(backend)?;
        let head = |row: &PgRow| audit::head(row.get("chain"), row.get("seq"), row.get("hash"));
        let mut heads = rows.iter().map(head).collect::<Result<Vec<_>, _>>()?;
        heads.dedup_by_key(|(chain, _)| *chain);
        Ok(heads)
    }

    async fn read_chain(&self, chain: Uuid, from: u64, limit: u32) -> Result<Stretch, StoreError> {
        copy::stretch(&self.pool, chain, from, limit).await.map_err(backend)
    }

    async fn list_entries(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<Sealed>, StoreError> {
        let select = format!("SELECT {} FROM audit_entries", audit::names());
        let listing = listing::entries(select, filter, limit, |text| packed(text).into_owned());
        bound(listing).fetch_all(&self.pool).await.map_err(backend)?.iter().map(sealed).collect()
    }

    async fn add_checkpoint(&self, checkpoint: &StoredCheckpoint) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO audit_checkpoints (chain, seq, at, note) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(&checkpoint.chain.as_bytes()[..])
        .bind(audit::place_of(checkpoint.seq))
        .bind(checkpoint.at.as_microsecond())
        .bind(packed(&checkpoint.note))
        .execute(&self.pool)
        .await
        .map_err(backend)?;
        Ok(())
    }

    async fn list_checkpoints(
        &self,
        chain: Uuid,
        from: u64,
        limit: u32,
    ) -> Result<Vec<StoredCheckpoint>, StoreError> {
        let rows = sqlx::query(
            "SELECT seq, at, note FROM audit_checkpoints WHERE chain = $1 AND seq >= $2 ORDER BY seq LIMIT $3",
        )
        .bind(&chain.as_bytes()[..])
        .bind(audit::place_of(from))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(backend)?;
        rows.iter()
            .map(|row| audit::checkpoint(chain, row.get("seq"), row.get("at"), unpacked(row.get("note"))))
            .collect()
    }

    fn months_without_place(&self) -> u32 {
        self.months_without_place.load(Ordering::Relaxed)
    }
}

/// The statement of a listing, with its values.
pub(super) fn bound(listing: Listing) -> Query<'static, Postgres, PgArguments> {
    let mut query = sqlx::query(AssertSqlSafe(listing.sql));
    for value in listing.values {
        query = match value {
            Owned::Null => query.bind(None::<i64>),
            Owned::Integer(number) => query.bind(number),
            Owned::Text(text) => query.bind(text),
            Owned::Bytes(bytes) => query.bind(bytes),
        };
    }
    query
}

fn sealed(row: &PgRow) -> Result<Sealed, StoreError> {
    let owned = |place, kind| {
        let owned = match kind {
            ColumnKind::Integer => row.try_get::<Option<i64>, _>(place).ok()?.map(Owned::Integer),
            ColumnKind::Text => {
                let text = row.try_get::<Option<&str>, _>(place).ok()?;
                return Some(match text {
                    Some(text) => Owned::Text(strictly_unpacked(text)?),
                    None => Owned::Null,
                });
            }
            ColumnKind::Bytes => row.try_get::<Option<Vec<u8>>, _>(place).ok()?.map(Owned::Bytes),
        };
        Some(owned.unwrap_or(Owned::Null))
    };
    audit::sealed(owned).ok_or_else(|| audit::unreadable(row.get("seq")))
}

impl PostgresStore {
    async fn append(&self, entries: &Stretch) -> Result<(), StoreError> {
        let Some(claim) = audit::claim(entries) else { return Ok(()) };
        self.look_ahead().await;
        let mut tx = self.pool.begin().await.map_err(backend)?;
        let taken = find_taken(&mut tx, entries.chain(), claim).await.map_err(backend)?;
        let fresh = audit::fresh(entries, taken)?;
        let rows = fresh.iter().map(audit::row).collect::<Result<Vec<_>, _>>()?;
        if !rows.is_empty() {
            insert(&mut tx, &rows).await.map_err(backend)?;
        }
        tx.commit().await.map_err(backend)
    }

    /// Sees from time to time that there are partitions for the months to come, and notes how many there are not.
    /// Where that fails, entries have the default partition, so it is no reason not to append.
    async fn look_ahead(&self) {
        let now = Timestamp::now().as_microsecond();
        if self.look_ahead_at.load(Ordering::Relaxed) > now {
            return;
        }
        self.look_ahead_at.store(now + LOOK_AHEAD_EVERY, Ordering::Relaxed);
        let _made = sqlx::query("SELECT make_audit_partitions()").execute(&self.pool).await;
        if let Ok(lacking) = sqlx::query_scalar::<_, i64>(LACKING).fetch_one(&self.pool).await {
            self.months_without_place.store(lacking.try_into().unwrap_or(u32::MAX), Ordering::Relaxed);
        }
    }
}

/// Finds what a chain has from one place to another. Until the transaction ends, nobody else appends to
/// the chain: an index over all months, which could see to that, is none that PostgreSQL has.
async fn find_taken(tx: &mut PgConnection, chain: Uuid, (first, last): (i64, i64)) -> sqlx::Result<Taken> {
    let (_, low) = chain.as_u64_pair();
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(low.cast_signed()).execute(&mut *tx).await?;
    let rows = sqlx::query("SELECT seq, hash FROM audit_entries WHERE chain = $1 AND seq BETWEEN $2 AND $3")
        .bind(&chain.as_bytes()[..])
        .bind(first)
        .bind(last)
        .fetch_all(tx)
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

async fn insert(tx: &mut PgConnection, rows: &[[Value<'_>; audit::WIDTH]]) -> sqlx::Result<()> {
    let mut query = sqlx::query(INSERT.as_str());
    for (place, column) in audit::columns().enumerate() {
        let cells = rows.iter().map(|row| row[place]);
        query = match column.kind {
            ColumnKind::Integer => query.bind(cells.map(number).collect::<Vec<_>>()),
            ColumnKind::Text => query.bind(cells.map(text).collect::<Vec<_>>()),
            ColumnKind::Bytes => query.bind(cells.map(bytes).collect::<Vec<_>>()),
        };
    }
    query.execute(tx).await?;
    Ok(())
}

fn number(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(number),
        _ => None,
    }
}

fn text(value: Value<'_>) -> Option<Cow<'_, str>> {
    match value {
        Value::Text(text) => Some(packed(text)),
        _ => None,
    }
}

fn bytes(value: Value<'_>) -> Option<&[u8]> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}
