//! The audit log in SQLite files of their own. They are read and written with the plain library on threads that may
//! block: entries have many columns, and handing each value from thread to thread would cost more than SQLite does.

mod months;
mod read;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{
    Connection, ToSql, TransactionBehavior, params,
    types::{ToSqlOutput, ValueRef},
};
use synapse_core::{
    audit::{
        entry::{Sealed, Value},
        stretch::Stretch,
    },
    store::{
        StoreError,
        audit::{AuditFilter, AuditStore, Head, StoredCheckpoint},
        retention::Aged,
    },
};
use uuid::Uuid;

use self::months::Month;
pub(super) use self::months::Months;
use super::SqliteStore;
use crate::{
    audit,
    rows::{backend, timestamp},
};

/// Where the time stands in a row.
const AT: usize = 5;

static INSERT: LazyLock<String> = LazyLock::new(|| {
    let values = vec!["?"; audit::columns().count()].join(", ");
    format!("INSERT INTO entries ({}) VALUES ({values}) ON CONFLICT DO NOTHING", audit::names())
});

/// Does what blocks where it may.
async fn block<T: Send + 'static>(
    months: &Arc<Months>,
    work: impl FnOnce(&Months) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let months = Arc::clone(months);
    tokio::task::spawn_blocking(move || work(&months)).await.map_err(backend)?
}

pub(super) async fn close(months: Arc<Months>) {
    // Where the runtime ends, the files are closed with the last owner.
    let _closed = block(&months, |months| {
        months.close();
        Ok(())
    })
    .await;
}

/// A value on its way into a statement.
struct Cell<'v>(Value<'v>);

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(number) => ValueRef::Integer(number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// Appends entries to the files of their months.
fn append(months: &Months, entries: &Stretch) -> Result<(), StoreError> {
    let Some(claim) = audit::claim(entries) else { return Ok(()) };
    let taken = read::taken(months, entries.chain(), claim)?;
    let standing = audit::fresh(entries, taken)?;
    let mut by_month = BTreeMap::<Month, Vec<[Value<'_>; audit::WIDTH]>>::new();
    for standing in &standing {
        let row = audit::row(standing)?;
        let Value::Integer(at) = row[AT] else {
            return Err(audit::unreadable(audit::place_of(standing.link.seq)));
        };
        by_month.entry(Month::of(timestamp(at)?)).or_default().push(row);
    }
    // Where a month's end lies between two entries, an earlier month may have its entries when a later one fails;
    // sent again, they are passed over.
    for (month, rows) in by_month {
        months.write(&month, |writer| {
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut insert = transaction.prepare_cached(&INSERT)?;
            for row in rows {
                // What is not bound is empty, as half of the columns are.
                insert.clear_bindings();
                for (at, value) in row.iter().enumerate().filter(|(_, value)| **value != Value::Null) {
                    insert.raw_bind_parameter(at + 1, Cell(*value))?;
                }
                insert.raw_execute()?;
            }
            drop(insert);
            transaction.commit()
        })?;
    }
    Ok(())
}

fn add_checkpoint(months: &Months, checkpoint: &StoredCheckpoint) -> Result<(), StoreError> {
    let place = read::checkpoints(months, checkpoint.chain, checkpoint.seq, 1)?;
    if place.first().is_some_and(|known| known.seq == checkpoint.seq) {
        return Ok(());
    }
    months.write(&Month::of(checkpoint.at), |writer| {
        let values = params![
            checkpoint.chain.as_bytes().as_slice(),
            audit::place_of(checkpoint.seq),
            checkpoint.at.as_microsecond(),
            checkpoint.note,
        ];
        let insert =
            "INSERT INTO checkpoints (chain, seq, at, note) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING";
        writer.execute(insert, values).map(drop)
    })
}

#[async_trait]
impl AuditStore for SqliteStore {
    async fn append_entries(&self, entries: Arc<Stretch>) -> Result<(), StoreError> {
        block(&self.months, move |months| append(months, &entries)).await
    }

    async fn audit_heads(&self) -> Result<Vec<(Uuid, Head)>, StoreError> {
        block(&self.months, read::heads).await
    }

    async fn read_chain(&self, chain: Uuid, from: u64, limit: u32) -> Result<Stretch, StoreError> {
        block(&self.months, move |months| read::chain(months, chain, from, limit)).await
    }

    async fn list_entries(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<Sealed>, StoreError> {
        let filter = filter.clone();
        block(&self.months, move |months| read::listing(months, &filter, limit)).await
    }

    async fn add_checkpoint(&self, checkpoint: &StoredCheckpoint) -> Result<(), StoreError> {
        let checkpoint = checkpoint.clone();
        block(&self.months, move |months| add_checkpoint(months, &checkpoint)).await
    }

    async fn list_checkpoints(
        &self,
        chain: Uuid,
        from: u64,
        limit: u32,
    ) -> Result<Vec<StoredCheckpoint>, StoreError> {
        block(&self.months, move |months| read::checkpoints(months, chain, from, limit)).await
    }
}

/// The chains with entries in months before this one.
pub(super) async fn aged(months: &Arc<Months>, month: Timestamp) -> Result<Vec<Aged>, StoreError> {
    block(months, move |months| read::aged(months, &Month::of(month))).await
}

/// Removes the files of months before this one.
pub(super) async fn retire(months: &Arc<Months>, month: Timestamp) -> Result<u64, StoreError> {
    block(months, move |months| {
        let mut gone = 0;
        for old in months.all()?.range(..Month::of(month)) {
            let count = |file: &mut Connection| {
                file.query_row("SELECT count(*) FROM entries", [], |row| row.get::<_, i64>(0))
            };
            gone += months.write(old, count)?.unsigned_abs();
            months.remove(old)?;
        }
        Ok(gone)
    })
    .await
}
