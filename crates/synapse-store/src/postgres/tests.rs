//! The store contract on a real PostgreSQL, and what only a server can do wrong.

use std::sync::atomic::Ordering;

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use synapse_core::{
    audit::entry::{ColumnKind, Entry, EntryKind},
    limits::Limits,
    store::{
        StoreError,
        audit::{AuditFilter, AuditStore},
        keys::KeyStore,
        teams::TeamStore,
    },
};
use synapse_testkit::{Postgres, within};
use uuid::Uuid;

use super::{PostgresStore, Server};
use crate::{
    audit::{self, listing},
    contract::{Database, append, full, sealed, store_contract},
};

struct OnServer(String);

impl Database for OnServer {
    type Store = PostgresStore;

    async fn create() -> Self {
        Self(Postgres::shared().await.database().await)
    }

    async fn open(&self) -> PostgresStore {
        server(&self.0).open().await.expect("a store")
    }
}

store_contract!(OnServer);

fn server(url: &str) -> Server {
    Server::from_url(&url.to_owned().into()).expect("a URL")
}

async fn refusal(url: &str) -> String {
    let error = server(url).open().await.expect_err("a refusal");
    assert!(matches!(error, StoreError::Unusable { .. }), "{error:?}");
    error.to_string()
}

/// A new database, its store, and its superuser.
async fn opened() -> (OnServer, PostgresStore, PgConnection) {
    let db = OnServer::create().await;
    let store = db.open().await;
    let superuser = PgConnection::connect(&db.0).await.expect("a connection");
    (db, store, superuser)
}

/// A user who may log in and no more, and a URL for it.
async fn login(db: &OnServer, name: &str, extra: &str) -> String {
    let database = database(&db.0);
    let make = format!("CREATE ROLE {name} LOGIN PASSWORD 'swordfish' {extra}");
    let shared = Postgres::shared().await;
    shared.tell(database, &make).await;
    shared.url(name, "swordfish", database)
}

fn database(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}

async fn code(to: impl Executor<'_, Database = sqlx::Postgres>, statement: &str) -> String {
    match to.execute(AssertSqlSafe(statement)).await {
        Ok(_) => "done".to_owned(),
        Err(error) => error.as_database_error().and_then(|e| e.code()).expect("a code").into_owned(),
    }
}

const CHANGES: [&str; 5] = [
    "UPDATE synapse.audit_entries SET seq = seq + 1",
    "DELETE FROM synapse.audit_entries",
    "TRUNCATE synapse.audit_entries",
    "UPDATE synapse.audit_checkpoints SET note = ''",
    "TRUNCATE synapse.audit_checkpoints",
];

#[tokio::test]
async fn whoever_appends_can_do_nothing_else_to_the_audit_log() {
    let (_db, store, mut superuser) = opened().await;
    let chain = Uuid::now_v7();
    append(&store, &[sealed(chain, 0, full(Timestamp::now()))]).await.expect("appended");
    store
        .add_checkpoint(&synapse_core::store::audit::StoredCheckpoint {
            chain,
            seq: 0,
            at: Timestamp::now(),
            note: "signed".to_owned(),
        })
        .await
        .expect("kept");
    let user: String =
        sqlx::query_scalar("SELECT current_user::text").fetch_one(&store.pool).await.expect("a user");
    assert_eq!(user, "synapse_app");
    let more = [
        "ALTER TABLE synapse.audit_entries DISABLE TRIGGER ALL",
        "DROP TABLE synapse.audit_entries",
        "DROP TABLE synapse.audit_entries_other",
        "TRUNCATE synapse.audit_entries_other",
    ];
    for change in CHANGES.iter().chain(&more) {
        assert_eq!(code(&store.pool, change).await, "42501", "{change}");
    }
    // Those who have all rights are refused as well, as long as they do not mean it.
    let parts = ["TRUNCATE synapse.audit_entries_other", "DELETE FROM synapse.audit_checkpoints"];
    for change in CHANGES.iter().chain(&parts) {
        assert_eq!(code(&mut superuser, change).await, "42501", "{change}");
    }
    for statement in
        ["INSERT INTO synapse.audit_entries SELECT * FROM synapse.audit_entries ON CONFLICT DO NOTHING"]
    {
        assert_eq!(code(&store.pool, statement).await, "done");
    }
}

#[tokio::test]
async fn an_entry_that_was_tampered_with_is_told_by_its_place() {
    let (_db, store, mut superuser) = opened().await;
    let chain = Uuid::now_v7();
    let entries: Vec<_> = (0..3).map(|seq| sealed(chain, seq, full(Timestamp::now()))).collect();
    append(&store, &entries).await.expect("appended");
    for change in [
        "SET session_replication_role = replica",
        "UPDATE synapse.audit_entries SET hash = '\\x00' WHERE seq = 1",
        // A second entry in a place that is taken, of another month.
        "INSERT INTO synapse.audit_entries (chain, seq, prev, hash, id, at, kind)
         SELECT chain, seq, prev, hash, id, 0, kind FROM synapse.audit_entries WHERE seq = 0",
    ] {
        assert_eq!(code(&mut superuser, change).await, "done", "{change}");
    }
    let read = store.read_chain(chain, 0, 1).await.expect("entries");
    assert_eq!(read.iter().map(|(seq, _)| seq).collect::<Vec<_>>(), [0, 0], "none hides behind the other");
    let read = store.read_chain(chain, 1, 10).await.expect("entries");
    let read: Vec<_> = read.iter().map(|(seq, standing)| (seq, standing.map(|s| s.link))).collect();
    assert_eq!(read, [(1, None), (2, Some(entries[2].link()))]);
}

#[tokio::test]
async fn entries_are_in_the_partition_of_their_month_or_in_the_default_one() {
    let (_db, store, _) = opened().await;
    let chain = Uuid::now_v7();
    let long_ago = "1999-12-31T23:59:59Z".parse().expect("a time");
    let entries = [Timestamp::now(), long_ago].map(|at| Entry::new(EntryKind::ChainBegun, at));
    let entries: Vec<_> = (0..).zip(entries).map(|(seq, entry)| sealed(chain, seq, entry)).collect();
    append(&store, &entries).await.expect("appended");
    let places: Vec<String> =
        sqlx::query_scalar("SELECT tableoid::regclass::text FROM audit_entries ORDER BY seq")
            .fetch_all(&store.pool)
            .await
            .expect("places");
    let this_month: String =
        sqlx::query_scalar("SELECT 'audit_entries_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')")
            .fetch_one(&store.pool)
            .await
            .expect("a month");
    assert_eq!(places, [this_month, "audit_entries_other".to_owned()]);
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit_entries'::regclass")
            .fetch_one(&store.pool)
            .await
            .expect("a count");
    assert_eq!(count, 4, "this month, two to come, and the default one");
}

#[tokio::test]
async fn a_month_without_a_partition_is_told_and_mended_as_the_manual_says() {
    let (_db, store, mut superuser) = opened().await;
    let chain = Uuid::now_v7();
    let entry = |seq| sealed(chain, seq, full(Timestamp::now()));
    let this_month = "'audit_entries_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')";
    // A clock that was wrong for a while comes to this.
    let misplace = format!("DO $$ BEGIN EXECUTE 'DROP TABLE synapse.' || {this_month}; END $$");
    assert_eq!(code(&mut superuser, &misplace).await, "done");
    store.look_ahead_at.store(i64::MAX, Ordering::Relaxed);
    append(&store, &[entry(0)]).await.expect("appended");
    store.look_ahead_at.store(0, Ordering::Relaxed);
    assert_eq!(store.months_without_place(), 0);
    append(&store, &[entry(1)]).await.expect("appended");
    assert_eq!(store.months_without_place(), 1);
    let manual = include_str!("../../../../docs/databases.md");
    let (_, remedy) = manual.split_once("```sql\nBEGIN;").expect("a remedy");
    let (remedy, _) = remedy.split_once("```").expect("its end");
    for owner in ["SET ROLE synapse_migrator", &format!("BEGIN;{remedy}")] {
        sqlx::raw_sql(AssertSqlSafe(owner.to_owned())).execute(&mut superuser).await.expect(owner);
    }
    store.look_ahead_at.store(0, Ordering::Relaxed);
    append(&store, &[entry(2)]).await.expect("appended");
    assert_eq!(store.months_without_place(), 0);
    let places: Vec<bool> = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT tableoid::regclass::text = {this_month} FROM audit_entries ORDER BY seq"
    )))
    .fetch_all(&store.pool)
    .await
    .expect("places");
    assert_eq!(places, [true; 3]);
    for change in ["TRUNCATE synapse.audit_entries_other", "DELETE FROM synapse.audit_entries"] {
        assert_eq!(code(&mut superuser, change).await, "42501", "{change}: what guards them is back");
    }
}

#[tokio::test]
async fn the_columns_of_the_table_are_those_of_an_entry() {
    let (_db, store, _) = opened().await;
    let rows = sqlx::query(
        "SELECT column_name::text, data_type::text FROM information_schema.columns
         WHERE table_name = 'audit_entries' ORDER BY ordinal_position",
    )
    .fetch_all(&store.pool)
    .await
    .expect("columns");
    let found: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let kind = |kind| match kind {
        ColumnKind::Integer => "bigint",
        ColumnKind::Text => "text",
        ColumnKind::Bytes => "bytea",
    };
    let ours: Vec<_> =
        audit::columns().map(|column| (column.name.to_owned(), kind(column.kind).to_owned())).collect();
    assert_eq!(found, ours);
}

#[tokio::test]
async fn every_listing_is_read_in_order_from_the_index_that_serves_it() {
    let (_db, store, _) = opened().await;
    let mut connection = store.pool.acquire().await.expect("a connection");
    // What the planner does with many rows, it is to do with none.
    for setting in ["SET enable_seqscan = off", "SET enable_sort = off", "SET enable_bitmapscan = off"] {
        assert_eq!(code(&mut *connection, setting).await, "done");
    }
    let any = AuditFilter::default;
    let text = || Some("lab".to_owned());
    let before = Some((Timestamp::UNIX_EPOCH, Uuid::nil()));
    for (filter, index) in [
        (any(), "_at_id_idx"),
        (AuditFilter { before, ..any() }, "_at_id_idx"),
        (AuditFilter { team: Some("lab".into()), before, ..any() }, "_team_at_id_idx"),
        (
            AuditFilter { key: Some("lab".into()), since: Some(Timestamp::UNIX_EPOCH), ..any() },
            "_key_at_id_idx",
        ),
        (AuditFilter { actor: text(), ..any() }, "_actor_at_id_idx"),
        (AuditFilter { outcome: text(), ..any() }, "_outcome_at_id_idx"),
        (AuditFilter { model: text(), ..any() }, "_model_asked_at_id_idx"),
    ] {
        let explain = format!("EXPLAIN SELECT {} FROM audit_entries", audit::names());
        let listing = listing::entries(explain, &filter, 50, str::to_owned);
        let rows = super::audit::bound(listing).fetch_all(&mut *connection).await.expect("a plan");
        let plan: String = rows.iter().map(|row| row.get::<String, _>(0) + "\n").collect();
        assert!(plan.contains(index) && !plan.contains("Sort  ("), "{filter:?}: {plan}");
    }
}

#[tokio::test]
async fn a_reader_sees_the_audit_log_and_no_hashes_of_keys() {
    let (_db, _store, mut superuser) = opened().await;
    assert_eq!(code(&mut superuser, "SET ROLE synapse_reader").await, "done");
    for (table, outcome) in [
        ("audit_entries", "done"),
        ("audit_checkpoints", "done"),
        ("incidents", "done"),
        ("keys", "42501"),
        ("worker_keys", "42501"),
        ("admin_tokens", "42501"),
    ] {
        assert_eq!(code(&mut superuser, &format!("SELECT * FROM synapse.{table}")).await, outcome, "{table}");
    }
}

#[tokio::test]
async fn a_gateways_user_needs_no_more_than_its_role() {
    let (db, _store, _) = opened().await;
    let url = login(&db, "gateway_only", "IN ROLE synapse_app").await;
    let store = server(&url).open().await.expect("a store");
    store.create_team(&"lab".into(), &Limits::default()).await.expect("a team");
    append(&store, &[sealed(Uuid::now_v7(), 0, full(Timestamp::now()))]).await.expect("appended");
    // Where there is no schema yet, it cannot make one.
    let empty = OnServer::create().await;
    let url = Postgres::shared().await.url("gateway_only", "swordfish", database(&empty.0));
    let refusal = refusal(&url).await;
    assert!(refusal.contains("synapse_migrator") && !refusal.contains("swordfish"), "{refusal}");
}

#[tokio::test]
async fn the_owner_of_a_database_needs_no_roles() {
    let db = OnServer::create().await;
    let url = login(&db, "plain_owner", "").await;
    let give = format!("ALTER DATABASE {} OWNER TO plain_owner", database(&db.0));
    Postgres::shared().await.tell("postgres", &give).await;
    let store = server(&url).open().await.expect("a store");
    store.create_team(&"lab".into(), &Limits::default()).await.expect("a team");
    append(&store, &[sealed(Uuid::now_v7(), 0, full(Timestamp::now()))]).await.expect("appended");
    for change in CHANGES {
        let outcome = code(&store.pool, change).await;
        // Of checkpoints there are none that could be changed.
        assert!(
            outcome == "42501" || change.starts_with("UPDATE synapse.audit_checkpoints"),
            "{change}: {outcome}"
        );
    }
}

#[tokio::test]
async fn a_database_that_many_open_at_once_is_set_up_once() {
    let db = OnServer::create().await;
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let server = server(&db.0);
        starts.spawn(async move { server.open().await });
    }
    for start in starts.join_all().await {
        start.expect("a store").list_teams().await.expect("teams");
    }
}

#[tokio::test]
async fn an_empty_database_does_not_pass_for_an_empty_store() {
    let db = OnServer::create().await;
    let refusal = server(&db.0).open_existing().await.expect_err("a refusal").to_string();
    assert!(refusal.contains("there is no Synapse in this database"), "{refusal}");
    db.open().await;
    server(&db.0).open_existing().await.expect("a store");
}

#[tokio::test]
async fn what_is_wrong_is_said_with_a_remedy_and_without_the_password() {
    let shared = Postgres::shared().await;
    for (url, remedy) in [
        (shared.url("synapse", "swordfish", "postgres"), "correct them in the URL"),
        (shared.url("nobody_here", "swordfish", "postgres"), "correct them in the URL"),
        (shared.url("synapse", "open-sesame", "none"), "create it with `CREATE DATABASE`"),
        ("postgres://synapse:swordfish@127.0.0.1:1/x".to_owned(), "no PostgreSQL answers there; start it"),
        ("postgres://synapse:swordfish@host.invalid/x".to_owned(), "correct host and port"),
    ] {
        let error = server(&url).open().await.expect_err("a refusal");
        let said = format!("{error} {error:?} {:?}", server(&url));
        assert!(said.contains(remedy), "{said}");
        assert!(!said.contains("swordfish") && !said.contains("open-sesame"), "{said}");
    }
}

#[tokio::test]
async fn connections_are_secured_as_the_url_says() {
    let shared = Postgres::shared().await;
    let url = shared.database().await;
    let trusted = shared.certificate();
    let trusted = trusted.display();
    let store =
        server(&format!("{url}?sslmode=verify-full&sslrootcert={trusted}")).open().await.expect("a store");
    store.list_teams().await.expect("teams");
    store.watch.hear().await.expect("it listens");
    let count = "SELECT bool_and(ssl) AND count(*) >= 2 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                 WHERE application_name = 'synapse' AND datname = current_database()";
    assert_eq!(shared.tell(database(&url), count).await, "t");
    for (parameters, remedy) in [
        ("sslmode=verify-full", "the connection cannot be secured"),
        ("sslmode=verify-ca&sslrootcert=/none.pem", "correct `sslrootcert`"),
    ] {
        let refusal = refusal(&format!("{url}?{parameters}")).await;
        assert!(refusal.contains(remedy), "{refusal}");
    }
}

#[test]
fn a_url_that_cannot_be_used_is_not_repeated() {
    for url in [
        "postgres://u:hunter2@host:port/db",
        "postgres://u:hunter2@host/db?sslmode=yes",
        "postgres://u:hunter2@host/db?sslmod=require",
        "postgres://u:hun?ter2@host/db",
        "postgres://u:hunter2@[/db",
    ] {
        let refusal = Server::from_url(&url.to_owned().into()).expect_err("a refusal").to_string();
        assert!(refusal.contains("postgres://user:password@host:5432/database"), "{refusal}");
        assert!(!refusal.contains("hun") && !refusal.contains("ter2"), "{refusal}");
    }
    for url in ["postgres://u@host", "postgresql://u:p@[::1]:5433/db?sslmode=verify-full&sslrootcert=/ca.pem"]
    {
        Server::from_url(&url.to_owned().into()).expect("a URL");
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let (db, _store, mut superuser) = opened().await;
    let future =
        "INSERT INTO synapse._sqlx_migrations (version, description, success, checksum, execution_time)
                  VALUES (999, 'the future', TRUE, '', 0)";
    assert_eq!(code(&mut superuser, future).await, "done");
    let refusal = refusal(&db.0).await;
    assert!(refusal.contains("a newer Synapse has written it (schema 999)"), "{refusal}");
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let shared = Postgres::shared().await;
    let make = "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'";
    shared.tell("postgres", make).await;
    let refusal = refusal(&shared.url("synapse", "open-sesame", "latin")).await;
    assert!(refusal.contains("ENCODING 'UTF8'"), "{refusal}");
}

#[tokio::test]
async fn changes_are_told_to_whoever_listens() {
    let (db, store, _) = opened().await;
    let other = db.open().await;
    store.watch.hear().await.expect("it listens");
    let mark = store.change_mark().await.expect("a mark");
    let told = async {
        tokio::join!(store.watch.hear(), async {
            other.create_team(&"lab".into(), &Limits::default()).await.expect("a team");
        })
    };
    within("the change to be told", told).await.0.expect("told");
    assert_ne!(store.change_mark().await.expect("a mark"), mark);
}

#[tokio::test]
async fn a_server_that_goes_away_is_found_again() {
    let mut postgres = Postgres::start().await;
    let url = postgres.database().await;
    let (store, other) =
        (server(&url).open().await.expect("a store"), server(&url).open().await.expect("another"));
    store.watch.hear().await.expect("it listens");
    let chain = Uuid::now_v7();
    let entries: Vec<_> = (0..2).map(|seq| sealed(chain, seq, full(Timestamp::now()))).collect();
    append(&store, &entries[..1]).await.expect("appended");
    let mark = store.change_mark().await.expect("a mark");
    postgres.die();
    store.change_mark().await.expect_err("nobody answers");
    append(&store, &entries).await.expect_err("nobody answers");
    postgres.start_again().await;
    within("the server to be found", async {
        while other.create_team(&"lab".into(), &Limits::default()).await.is_err() {}
        while !matches!(store.change_mark().await, Ok(now) if now != mark) {
            store.next_look().await;
        }
        while append(&store, &entries).await.is_err() {}
        // Told again, not only seen.
        while store.watch.hear().await.is_err() {}
    })
    .await;
    let read = store.read_chain(chain, 0, 10).await.expect("entries");
    let read: Vec<_> = read.iter().filter_map(|(_, standing)| Some(standing?.link)).collect();
    let sent: Vec<_> = entries.iter().map(|sealed| sealed.link()).collect();
    assert_eq!(read, sent, "what was sent twice stands there once");
}
