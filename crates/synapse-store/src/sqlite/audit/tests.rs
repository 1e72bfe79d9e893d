//! What SQLite's own way of keeping the audit log promises.

use jiff::Timestamp;
use rusqlite::{Connection, params_from_iter};
use synapse_core::audit::{
    canonical::decode,
    entry::{ColumnKind, Entry, EntryKind},
};

use super::*;
use crate::{
    audit::listing,
    contract::{append, full, sealed},
};

/// A folder with a store, one entry of a month gone by, and its file.
async fn month() -> (tempfile::TempDir, SqliteStore, Sealed, Connection) {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let store = SqliteStore::open(temp.path().join("synapse.db")).await.expect("a store");
    let entry = sealed(Uuid::now_v7(), 0, full("2026-02-28T23:59:59Z".parse().expect("a time")));
    append(&store, std::slice::from_ref(&entry)).await.expect("appended");
    let file = Connection::open(temp.path().join("audit-2026-02.db")).expect("a file");
    (temp, store, entry, file)
}

fn run(file: &Connection, statement: &str) -> Result<(), String> {
    file.execute_batch(statement).map_err(|error| error.to_string())
}

/// What the store has of a chain: the places, and the entries that can be read.
async fn read(store: &SqliteStore, chain: Uuid) -> Vec<(u64, Option<Entry>)> {
    let stretch = store.read_chain(chain, 0, 10).await.expect("entries");
    stretch
        .iter()
        .map(|(seq, standing)| {
            (seq, standing.and_then(|s| decode(s.canonical).ok()).map(|(.., entry)| entry))
        })
        .collect()
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
async fn what_stands_in_the_log_is_neither_changed_nor_deleted() {
    let (_temp, store, entry, file) = month().await;
    for change in ["UPDATE entries SET seq = 7", "DELETE FROM entries"] {
        let refusal = run(&file, change).expect_err("a refusal");
        assert!(refusal.contains("the audit log is never changed"), "{change}: {refusal}");
    }
    assert_eq!(read(&store, entry.chain).await, [(0, Some(entry.entry))]);
}

#[tokio::test]
async fn an_entry_that_was_tampered_with_is_told_by_its_place() {
    let (_temp, store, entry, file) = month().await;
    run(&file, "DROP TRIGGER entries_are_not_changed").expect("done");
    run(&file, "UPDATE entries SET hash = x'00'").expect("done");
    assert_eq!(read(&store, entry.chain).await, [(0, None)]);
    let refusal = store.list_entries(&AuditFilter::default(), 10).await.expect_err("a refusal");
    assert!(format!("{refusal:?}").contains("synapse audit verify"), "{refusal:?}");
}

#[tokio::test]
async fn an_entry_in_the_file_of_another_month_is_told_by_its_place() {
    let (temp, store, entry, file) = month().await;
    let other = sealed(Uuid::now_v7(), 0, full("2001-01-31T23:59:59Z".parse().expect("a time")));
    append(&store, std::slice::from_ref(&other)).await.expect("appended");
    // Its time lies so far back that it would go with that month at once.
    run(&file, "DROP TRIGGER entries_are_not_deleted").expect("done");
    let path = temp.path().join("audit-2001-01.db");
    let attach = format!("ATTACH '{}' AS old", path.display());
    run(&file, &attach).expect("attached");
    run(&file, "INSERT INTO old.entries SELECT * FROM entries; DELETE FROM entries").expect("moved");
    assert_eq!(read(&store, entry.chain).await, [(0, None)]);
    assert_eq!(read(&store, other.chain).await, [(0, Some(other.entry))]);
}

#[tokio::test]
async fn a_place_below_the_first_is_told() {
    let (_temp, store, entry, file) = month().await;
    let below = "INSERT INTO entries (chain, seq, prev, hash, id, at, kind)
                 SELECT chain, -7, prev, hash, id, at, kind FROM entries";
    run(&file, below).expect("done");
    assert_eq!(read(&store, entry.chain).await, [(0, None), (0, Some(entry.entry))]);
}

#[tokio::test]
async fn a_cell_of_a_type_that_no_column_has_is_read_as_something_else() {
    let (_temp, store, entry, file) = month().await;
    run(&file, "DROP TRIGGER entries_are_not_changed").expect("done");
    // SQLite lets who may write to the schema lift the types of columns.
    let lax = "PRAGMA writable_schema = ON;
               UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE name = 'entries';
               PRAGMA writable_schema = RESET;
               UPDATE entries SET team = x'ff00', status = 1.5, stream = 'x';";
    run(&file, lax).expect("done");
    let stretch = store.read_chain(entry.chain, 0, 10).await.expect("entries");
    let mut as_sealed = Vec::new();
    synapse_core::audit::canonical::encode(entry.chain, 0, &entry.entry, &mut as_sealed);
    let canonical: Vec<_> = stretch.iter().filter_map(|(_, standing)| Some(standing?.canonical)).collect();
    assert_eq!(canonical.len(), 1);
    assert_ne!(canonical[0], as_sealed);
    store.list_entries(&AuditFilter::default(), 10).await.expect_err("no entry");
}

#[tokio::test]
async fn a_transaction_that_sqlite_ended_by_itself_stops_no_later_one() {
    let (_temp, store, entry, file) = month().await;
    let next = sealed(
        entry.chain,
        1,
        Entry { at: entry.entry.at, ..Entry::new(EntryKind::RequestAccepted, Timestamp::now()) },
    );
    // As it does where the disk is full.
    let full = "CREATE TRIGGER full BEFORE INSERT ON entries BEGIN SELECT RAISE(ROLLBACK, 'full'); END";
    run(&file, full).expect("a trigger");
    for _ in 0..3 {
        let refusal = append(&store, std::slice::from_ref(&next)).await.expect_err("no room");
        assert!(format!("{refusal:?}").contains("full"), "{refusal:?}");
    }
    run(&file, "DROP TRIGGER full").expect("gone");
    append(&store, &[next]).await.expect("room");
    assert_eq!(store.audit_heads().await.expect("heads")[0].1.seq, 1);
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone() {
    let (temp, store, entry, file) = month().await;
    let path = temp.path().join("synapse.db");
    store.close().await;
    run(&file, "PRAGMA user_version = 7").expect("done");
    let store = SqliteStore::open(path).await.expect("a store");
    let refusal = append(&store, &[entry]).await.expect_err("a refusal");
    assert!(refusal.to_string().contains("newer Synapse"), "{refusal}");
}

#[tokio::test]
async fn the_columns_of_the_table_are_those_of_an_entry() {
    let (_temp, .., file) = month().await;
    let mut find = file.prepare("SELECT name, type FROM pragma_table_info('entries')").expect("a statement");
    let rows = find.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("columns");
    let found: Vec<(String, String)> = rows.map(|row| row.expect("a column")).collect();
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
    let (_temp, .., file) = month().await;
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
        (
            AuditFilter {
                digest: Some([7; 32]),
                team: Some("lab".into()),
                since: Some(Timestamp::UNIX_EPOCH),
                ..any()
            },
            "INDEX entries_by_team (team=? AND at>?)",
        ),
    ] {
        let plan = plan(&file, &filter);
        assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{filter:?}: {plan}");
    }
    // What only few entries have is sorted when it is found.
    for (filter, index) in [
        (AuditFilter { request: text(), accepted: true, ..any() }, "INDEX entries_by_request (request=?)"),
        (AuditFilter { incident: text(), ..any() }, "INDEX entries_by_incident (incident=?)"),
    ] {
        let plan = plan(&file, &filter);
        assert!(plan.contains(index), "{filter:?}: {plan}");
    }
}

/// How SQLite goes about a listing, step by step.
fn plan(file: &Connection, filter: &AuditFilter) -> String {
    let explain = format!("EXPLAIN QUERY PLAN SELECT {} FROM entries", audit::names());
    let listing = listing::entries(explain, filter, 50, str::to_owned);
    let mut find = file.prepare(&listing.sql).expect("a statement");
    let values = listing.values.iter().map(|value| Cell(value.as_value()));
    let rows = find.query_map(params_from_iter(values), |row| row.get("detail")).expect("a plan");
    rows.map(|step| step.expect("a step")).map(|step: String| step + "\n").collect()
}
