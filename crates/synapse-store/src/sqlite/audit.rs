//! The audit log in SQLite files of their own, one for each month, so that old months can be put away as they are.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs, io,
    path::PathBuf,
    sync::LazyLock,
};

use async_trait::async_trait;
use jiff::{Timestamp, tz::TimeZone};
use sqlx::{AssertSqlSafe, Row, SqlitePool, migrate::Migrator, sqlite::SqliteSynchronous};
use synapse_core::{
    audit::entry::{Sealed, Value},
    store::{
        StoreError,
        audit::{AuditFilter, AuditStore, Head, StoredCheckpoint},
    },
};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{
    SqliteStore,
    open::{create_file, reader, step, writer},
};
use crate::{audit, listing, private, rows::backend};

/// Rows of one statement; more are hardly faster, and it is prepared once for each number of them.
const ROWS_AT_ONCE: usize = 16;
static READ_CHAIN: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {} FROM entries WHERE chain = ?1 AND seq >= ?2 AND seq <= ?3 ORDER BY seq LIMIT ?4",
        audit::names()
    )
});
static HEADS: LazyLock<String> = LazyLock::new(|| audit::heads_statement("entries"));

/// A month of the log, such as `2026-11`. Its order is that of time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Month(String);

impl Month {
    fn of(at: Timestamp) -> Self {
        let date = at.to_zoned(TimeZone::UTC).date();
        Self(format!("{:04}-{:02}", date.year(), date.month()))
    }

    /// The month of a file, if it is one.
    fn of_file(name: &str) -> Option<Self> {
        let month = name.strip_prefix("audit-")?.strip_suffix(".db")?;
        let (year, number) = month.rsplit_once('-')?;
        let is_month = year.parse::<i16>().is_ok() && number.len() == 2 && number.parse::<u8>().is_ok();
        is_month.then(|| Self(month.to_owned()))
    }

    fn file_name(&self) -> String {
        format!("audit-{}.db", self.0)
    }
}

/// A month's file, opened.
#[derive(Clone, Debug)]
struct File {
    writer: SqlitePool,
    reader: SqlitePool,
}

/// The files of a folder, each opened when it is first needed.
#[derive(Debug)]
pub(super) struct Months {
    folder: PathBuf,
    open: Mutex<BTreeMap<Month, File>>,
}

impl Months {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, open: Mutex::default() }
    }

    pub(super) async fn close(self) {
        for (_, File { writer, reader }) in self.open.into_inner() {
            reader.close().await;
            writer.close().await;
        }
    }

    /// Those that there are.
    fn all(&self) -> Result<BTreeSet<Month>, StoreError> {
        let refused = |error| private::refused(&self.folder, error);
        let files = match fs::read_dir(&self.folder) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(refused(error)),
        };
        let names = files.map(|file| file.map(|file| file.file_name())).collect::<io::Result<Vec<_>>>();
        Ok(names.map_err(refused)?.iter().filter_map(|name| Month::of_file(name.to_str()?)).collect())
    }

    /// Opens a month's file, or makes it. Who only reads does so as well: another may have made it this instant,
    /// and not be done with its tables.
    async fn open(&self, month: &Month) -> Result<File, StoreError> {
        let mut open = self.open.lock().await;
        if let Some(file) = open.get(month) {
            return Ok(file.clone());
        }
        let path = self.folder.join(month.file_name());
        create_file(&path)?;
        let sql = include_str!("../../migrations/sqlite-audit/0001_audit.sql");
        let schema = Migrator::with_migrations(vec![step(1, "audit", sql)]);
        let writer = writer(&path, SqliteSynchronous::Full, schema).await?;
        let file = File { writer, reader: reader(&path)? };
        open.insert(month.clone(), file.clone());
        Ok(file)
    }

    /// Every place that these entries claim and that is taken, in whichever month.
    async fn taken(&self, entries: &[Sealed]) -> Result<HashSet<(Uuid, i64)>, StoreError> {
        let mut taken = HashSet::new();
        for month in self.all()? {
            let pool = self.open(&month).await?.reader;
            for claim in audit::claims(entries) {
                let rows = sqlx::query("SELECT seq FROM entries WHERE chain = ?1 AND seq BETWEEN ?2 AND ?3")
                    .bind(&claim.chain.as_bytes()[..])
                    .bind(claim.first)
                    .bind(claim.last)
                    .fetch_all(&pool)
                    .await
                    .map_err(backend)?;
                taken.extend(rows.iter().map(|row| (claim.chain, row.get(0))));
            }
        }
        Ok(taken)
    }

    /// Appends to one month.
    async fn append(&self, month: &Month, entries: &[&Sealed]) -> Result<(), StoreError> {
        let pool = self.open(month).await?.writer;
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.map_err(backend)?;
        for rows in entries.chunks(ROWS_AT_ONCE) {
            let mut query = sqlx::query(AssertSqlSafe(insertion(rows.len())));
            for value in rows.iter().flat_map(|sealed| audit::values(sealed)) {
                query = match value {
                    Value::Null => query.bind(None::<i64>),
                    Value::Integer(number) => query.bind(number),
                    Value::Text(text) => query.bind(text),
                    Value::Bytes(bytes) => query.bind(bytes),
                };
            }
            query.execute(&mut *tx).await.map_err(backend)?;
        }
        tx.commit().await.map_err(backend)
    }
}

fn insertion(rows: usize) -> String {
    let row = format!("({})", vec!["?"; audit::columns().count()].join(", "));
    format!("INSERT INTO entries ({}) VALUES {}", audit::names(), vec![row; rows].join(", "))
}

#[async_trait]
impl AuditStore for SqliteStore {
    async fn append_entries(&self, entries: &[Sealed]) -> Result<(), StoreError> {
        let taken = self.months.taken(entries).await?;
        let mut by_month = BTreeMap::<Month, Vec<&Sealed>>::new();
        for sealed in audit::first_claims(entries, &taken) {
            by_month.entry(Month::of(sealed.entry.at)).or_default().push(sealed);
        }
        // Where a month's end lies between two entries, an earlier month may have its entries when a later one
        // fails; sent again, they are passed over.
        for (month, entries) in by_month {
            self.months.append(&month, &entries).await?;
        }
        Ok(())
    }

    async fn audit_heads(&self) -> Result<Vec<(Uuid, Head)>, StoreError> {
        let mut heads = BTreeMap::<Uuid, Head>::new();
        for month in self.months.all()? {
            let pool = self.months.open(&month).await?.reader;
            for row in sqlx::query(HEADS.as_str()).fetch_all(&pool).await.map_err(backend)? {
                let (chain, head) = audit::head(&row)?;
                let known = heads.entry(chain).or_insert(head);
                if head.seq > known.seq {
                    *known = head;
                }
            }
        }
        Ok(heads.into_iter().collect())
    }

    async fn read_chain(
        &self,
        chain: Uuid,
        from: u64,
        limit: u32,
    ) -> Result<Vec<(u64, Option<Sealed>)>, StoreError> {
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        // Later months usually go on where earlier ones end: no more is read of them than can be of use.
        let mut last = i64::MAX;
        for month in self.months.all()? {
            let rows = sqlx::query(READ_CHAIN.as_str())
                .bind(&chain.as_bytes()[..])
                .bind(audit::place_of(from))
                .bind(last)
                .bind(limit)
                .fetch_all(&self.months.open(&month).await?.reader)
                .await
                .map_err(backend)?;
            found.extend(audit::places(&rows)?);
            found.sort_by_key(|(seq, _)| *seq);
            if let Some(end) = wanted.checked_sub(1).and_then(|place| found.get(place)).map(|(seq, _)| *seq) {
                // Two entries of one place are both told, so that none hides behind the other.
                found.retain(|(seq, _)| *seq <= end);
                last = audit::place_of(end);
            }
        }
        Ok(found)
    }

    async fn list_entries(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<Sealed>, StoreError> {
        let first = filter.since.map(Month::of);
        let end = filter.until.into_iter().chain(filter.before.map(|(at, _)| at)).min().map(Month::of);
        let mut found = Vec::new();
        for month in self.months.all()?.into_iter().rev() {
            let is_asked_for = first.as_ref().is_none_or(|first| *first <= month)
                && end.as_ref().is_none_or(|end| month <= *end);
            let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            if is_asked_for && left > 0 {
                let select = format!("SELECT {} FROM entries", audit::names());
                let mut query = listing::entries(select, filter, left, str::to_owned);
                let pool = self.months.open(&month).await?.reader;
                found.extend(audit::entries(&query.build().fetch_all(&pool).await.map_err(backend)?)?);
            }
        }
        Ok(found)
    }

    async fn add_checkpoint(&self, checkpoint: &StoredCheckpoint) -> Result<(), StoreError> {
        let place = self.list_checkpoints(checkpoint.chain, checkpoint.seq, 1).await?;
        if place.first().is_some_and(|known| known.seq == checkpoint.seq) {
            return Ok(());
        }
        sqlx::query("INSERT INTO checkpoints (chain, seq, at, note) VALUES (?1, ?2, ?3, ?4)")
            .bind(&checkpoint.chain.as_bytes()[..])
            .bind(audit::place_of(checkpoint.seq))
            .bind(checkpoint.at.as_microsecond())
            .bind(&checkpoint.note)
            .execute(&self.months.open(&Month::of(checkpoint.at)).await?.writer)
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
        let mut found = Vec::new();
        for month in self.months.all()? {
            let rows = sqlx::query(
                "SELECT seq, at, note FROM checkpoints WHERE chain = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3",
            )
            .bind(&chain.as_bytes()[..])
            .bind(audit::place_of(from))
            .bind(limit)
            .fetch_all(&self.months.open(&month).await?.reader)
            .await
            .map_err(backend)?;
            for row in &rows {
                found.push(audit::checkpoint(chain, row)?);
            }
        }
        found.sort_by_key(|checkpoint| checkpoint.seq);
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::SqliteConnection;
    use synapse_core::audit::entry::{ColumnKind, Entry, EntryKind};

    use super::*;
    use crate::contract::{full, sealed};

    /// A folder with a store, one entry of a month gone by, and its file.
    async fn month() -> (tempfile::TempDir, SqliteStore, Sealed, SqlitePool) {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let store = SqliteStore::open(temp.path().join("synapse.db")).await.expect("a store");
        let entry = sealed(Uuid::now_v7(), 0, full("2026-02-28T23:59:59Z".parse().expect("a time")));
        store.append_entries(std::slice::from_ref(&entry)).await.expect("appended");
        let pool = store.months.open(&Month("2026-02".to_owned())).await.expect("a file").writer;
        (temp, store, entry, pool)
    }

    async fn run(pool: &SqlitePool, statement: &'static str) -> Result<(), String> {
        sqlx::query(statement).execute(pool).await.map(drop).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_month_has_a_file_of_its_own_that_only_the_owner_reads() {
        let (temp, _store, ..) = month().await;
        let file = temp.path().join("audit-2026-02.db");
        assert!(file.is_file());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(file.metadata().expect("metadata").permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn only_files_of_months_are_taken_for_such() {
        assert_eq!(Month::of_file("audit-2026-02.db"), Some(Month("2026-02".to_owned())));
        for other in ["audit-2026-02.db-wal", "audit-.db", "audit-copy.db", "audit-2026-2.db", "synapse.db"] {
            assert_eq!(Month::of_file(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn what_stands_in_the_log_is_neither_changed_nor_deleted_nor_replaced() {
        let (_temp, store, entry, pool) = month().await;
        for change in ["UPDATE entries SET seq = 7", "DELETE FROM entries"] {
            let refusal = run(&pool, change).await.expect_err("a refusal");
            assert!(refusal.contains("the audit log is never changed"), "{change}: {refusal}");
        }
        let replace = "INSERT OR REPLACE INTO entries (chain, seq, prev, hash, id, at, kind)
                       SELECT chain, seq, prev, hash, id, at, 'other' FROM entries";
        run(&pool, replace).await.expect("passed over");
        let read = store.read_chain(entry.chain, 0, 10).await.expect("entries");
        assert_eq!(read, [(0, Some(entry))]);
    }

    #[tokio::test]
    async fn an_entry_that_was_tampered_with_is_told_by_its_place() {
        let (_temp, store, entry, pool) = month().await;
        run(&pool, "DROP TRIGGER entries_are_not_changed").await.expect("done");
        run(&pool, "UPDATE entries SET hash = x'00'").await.expect("done");
        assert_eq!(store.read_chain(entry.chain, 0, 10).await.expect("entries"), [(0, None)]);
        let refusal = store.list_entries(&AuditFilter::default(), 10).await.expect_err("a refusal");
        assert!(format!("{refusal:?}").contains("synapse audit verify"), "{refusal:?}");
    }

    #[tokio::test]
    async fn a_transaction_that_sqlite_ended_by_itself_stops_no_later_one() {
        let (_temp, store, entry, pool) = month().await;
        let next = sealed(
            entry.chain,
            1,
            Entry { at: entry.entry.at, ..Entry::new(EntryKind::RequestAccepted, Timestamp::now()) },
        );
        // As it does where the disk is full.
        let full = "CREATE TRIGGER full BEFORE INSERT ON entries BEGIN SELECT RAISE(ROLLBACK, 'full'); END";
        run(&pool, full).await.expect("a trigger");
        for _ in 0..3 {
            let refusal = store.append_entries(std::slice::from_ref(&next)).await.expect_err("no room");
            assert!(format!("{refusal:?}").contains("full"), "{refusal:?}");
        }
        run(&pool, "DROP TRIGGER full").await.expect("gone");
        store.append_entries(std::slice::from_ref(&next)).await.expect("room");
        assert_eq!(store.audit_heads().await.expect("heads")[0].1.seq, 1);
    }

    #[tokio::test]
    async fn the_columns_of_the_table_are_those_of_an_entry() {
        let (.., pool) = month().await;
        let rows = sqlx::query("SELECT name, type FROM pragma_table_info('entries')")
            .fetch_all(&pool)
            .await
            .expect("columns");
        let found: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let kind = |kind| match kind {
            ColumnKind::Integer => "INTEGER",
            ColumnKind::Text => "TEXT",
            ColumnKind::Bytes => "BLOB",
        };
        let ours: Vec<_> =
            audit::columns().map(|column| (column.name.to_owned(), kind(column.kind).to_owned())).collect();
        assert_eq!(found, ours);
    }

    #[tokio::test]
    async fn every_listing_is_read_in_order_from_the_index_that_serves_it() {
        let (.., pool) = month().await;
        let mut connection = pool.acquire().await.expect("a connection");
        let connection: &mut SqliteConnection = &mut connection;
        let any = AuditFilter::default;
        let text = || Some("lab".to_owned());
        let before = Some((Timestamp::UNIX_EPOCH, Uuid::nil()));
        for (filter, index) in [
            (any(), "SCAN entries USING INDEX entries_by_time"),
            (AuditFilter { before, ..any() }, "INDEX entries_by_time ((at,id)<(?,?))"),
            (
                AuditFilter { team: Some("lab".into()), before, ..any() },
                "INDEX entries_by_team (team=? AND (at,id)<(?,?))",
            ),
            (AuditFilter { key: Some("lab".into()), ..any() }, "INDEX entries_by_key (key=?)"),
            (AuditFilter { actor: text(), ..any() }, "INDEX entries_by_actor (actor=?)"),
            (AuditFilter { outcome: text(), ..any() }, "INDEX entries_by_outcome (outcome=?)"),
            (AuditFilter { model: text(), ..any() }, "INDEX entries_by_model (model_asked=?)"),
        ] {
            let plan = plan(&mut *connection, &filter).await;
            assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{filter:?}: {plan}");
        }
        // What only few entries have is sorted when it is found.
        for (filter, index) in [
            (AuditFilter { request: text(), ..any() }, "INDEX entries_by_request (request=?)"),
            (AuditFilter { incident: text(), ..any() }, "INDEX entries_by_incident (incident=?)"),
            (
                AuditFilter { digest: Some([7; 32]), ..any() },
                "INDEX entries_by_reply_digest (reply_digest=?)",
            ),
        ] {
            let plan = plan(&mut *connection, &filter).await;
            assert!(plan.contains(index), "{filter:?}: {plan}");
        }
    }

    /// How SQLite goes about a listing, step by step.
    async fn plan(connection: &mut SqliteConnection, filter: &AuditFilter) -> String {
        let explain = format!("EXPLAIN QUERY PLAN SELECT {} FROM entries", audit::names());
        let mut query = listing::entries::<sqlx::Sqlite>(explain, filter, 50, str::to_owned);
        let rows = query.build().fetch_all(connection).await.expect("a plan");
        rows.iter().map(|row| row.get::<String, _>("detail") + "\n").collect()
    }
}
