//! Counters in a SQLite file of their own: they change every second, and whoever watches the store of keys is
//! not to be told of that, nor is an operator's backup of keys to be out of date at once.

use std::path::PathBuf;

use async_trait::async_trait;
use sqlx::{
    Row, SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteRow, SqliteSynchronous},
};
use synapse_core::{
    ledger::{Measure, Scope},
    store::{
        StoreError,
        counters::{Counter, CounterStore},
    },
};

use super::open::{create_file, reader, step, writer};
use crate::{private, rows::backend};

/// The counters' name within a data folder.
pub const COUNTERS_FILE: &str = "counters.db";

/// Counters on one SQLite file.
#[derive(Debug)]
pub struct SqliteCounters {
    pool: SqlitePool,
}

impl SqliteCounters {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// As [`super::SqliteStore::open`].
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        create_file(&path)?;
        let schema = Migrator::with_migrations(vec![step(
            1,
            "counters",
            include_str!("../../migrations/sqlite-counters/0001_counters.sql"),
        )]);
        // A power failure may take the last seconds; nothing is damaged, and no second waits for a disk.
        let pool = writer(&path, SqliteSynchronous::Normal, schema).await?;
        Ok(Self { pool })
    }

    /// Opens the file of a gateway that may run, to look at it; `None` where there is none.
    ///
    /// # Errors
    /// When the system refuses it.
    pub async fn open_existing(path: impl Into<PathBuf>) -> Result<Option<Self>, StoreError> {
        let path = path.into();
        match path.try_exists() {
            Ok(true) => Ok(Some(Self { pool: reader(&path)? })),
            Ok(false) => Ok(None),
            Err(error) => Err(private::refused(&path, error)),
        }
    }
}

#[async_trait]
impl CounterStore for SqliteCounters {
    async fn load_counters(&self) -> Result<Vec<Counter>, StoreError> {
        let rows = sqlx::query("SELECT level, name, measure, bucket, used FROM counters")
            .fetch_all(&self.pool)
            .await
            .map_err(backend)?;
        // What a newer Synapse counts is not known here.
        Ok(rows.iter().map(from_row).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    async fn save_counters(&self, counters: &[Counter]) -> Result<(), StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(backend)?;
        for counter in counters {
            sqlx::query(
                "INSERT INTO counters (level, name, measure, bucket, used) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET bucket = excluded.bucket, used = excluded.used",
            )
            .bind(counter.scope.level())
            .bind(counter.scope.name())
            .bind(counter.measure.name())
            .bind(integer(counter.bucket))
            .bind(integer(counter.used))
            .execute(&mut *tx)
            .await
            .map_err(backend)?;
        }
        tx.commit().await.map_err(backend)
    }

    async fn forget_counters(&self, measure: Measure, bucket: u64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM counters WHERE measure = ?1 AND bucket < ?2")
            .bind(measure.name())
            .bind(integer(bucket))
            .execute(&self.pool)
            .await
            .map_err(backend)?;
        Ok(())
    }
}

/// SQLite's largest number is enough for any limit.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_row(row: &SqliteRow) -> Result<Option<Counter>, StoreError> {
    let name: &str = row.try_get("name").map_err(backend)?;
    let scope = match row.try_get("level").map_err(backend)? {
        "key" => Scope::Key(name.into()),
        "team" => Scope::Team(name.into()),
        _ => return Ok(None),
    };
    let Some(measure) = Measure::from_name(row.try_get("measure").map_err(backend)?) else { return Ok(None) };
    let number = |column: &str| row.try_get::<i64, _>(column).map_err(backend).map(i64::unsigned_abs);
    Ok(Some(Counter { scope, measure, bucket: number("bucket")?, used: number("used")? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(scope: Scope, measure: Measure, bucket: u64, used: u64) -> Counter {
        Counter { scope, measure, bucket, used }
    }

    #[tokio::test]
    async fn the_last_count_of_each_is_there_after_reopening_and_old_ones_can_be_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("data").join(COUNTERS_FILE);
        let store = SqliteCounters::open(&file).await.expect("a store");
        let (key, team) = (Scope::Key("'; --".into()), Scope::Team("'; --".into()));
        let first = counter(key.clone(), Measure::CostPerDay, 7, 10);
        store
            .save_counters(&[first, counter(team.clone(), Measure::CostPerMonth, 8, 20)])
            .await
            .expect("saved");
        let last = counter(key, Measure::CostPerDay, 7, u64::MAX >> 1);
        store.save_counters(std::slice::from_ref(&last)).await.expect("saved");
        assert!(SqliteCounters::open_existing(folder.path().join("none")).await.expect("no file").is_none());
        let beside = SqliteCounters::open_existing(&file).await.expect("a reader").expect("a file");
        assert_eq!(beside.load_counters().await.expect("counters").len(), 2);
        beside.save_counters(std::slice::from_ref(&last)).await.expect_err("nothing is changed so");
        drop(store);
        let store = SqliteCounters::open(&file).await.expect("a store");
        let mut found = store.load_counters().await.expect("counters");
        found.sort_by_key(|counter| counter.used);
        assert_eq!(found, [counter(team, Measure::CostPerMonth, 8, 20), last.clone()]);
        store.forget_counters(Measure::CostPerMonth, 9).await.expect("forgotten");
        store.forget_counters(Measure::CostPerDay, 7).await.expect("kept");
        assert_eq!(store.load_counters().await.expect("counters"), [last]);
    }
}
