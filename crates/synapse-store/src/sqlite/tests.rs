//! The store contract on SQLite, and what only a file can do wrong.

use std::path::Path;

use sqlx::{ConnectOptions, Connection, migrate::Migrator, sqlite::SqliteConnectOptions};
use synapse_core::{
    binding::Binding,
    id::GroupName,
    key::{ApiKey, WorkerSecret},
    limits::Limits,
    store::{
        StoreError,
        keys::KeyStore,
        teams::TeamStore,
        worker_keys::{NewWorkerKey, WorkerKeyStore},
    },
};
use tempfile::TempDir;

use super::{
    SqliteStore,
    open::{migrations, path_from_url},
};
use crate::contract::{Database, store_contract};

struct TempFile(TempDir);

impl Database for TempFile {
    type Store = SqliteStore;

    async fn create() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    async fn open(&self) -> SqliteStore {
        SqliteStore::open(self.0.path().join("data/synapse.db")).await.expect("a store")
    }
}

store_contract!(TempFile);

async fn refusal(path: &Path) -> String {
    let error = SqliteStore::open(path).await.expect_err("a refusal");
    assert!(matches!(error, StoreError::Unusable { .. }), "{error:?}");
    error.to_string()
}

/// A closed database file with one team.
async fn closed_file(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("synapse.db");
    let store = SqliteStore::open(&path).await.expect("a store");
    store.create_team(&"lab".into(), &Limits::default()).await.expect("a team");
    store.close().await;
    path
}

#[test]
fn a_url_names_a_file() {
    for (url, path) in [
        ("sqlite://data/synapse.db", "data/synapse.db"),
        ("sqlite:///srv/synapse.db", "/srv/synapse.db"),
        ("sqlite:synapse.db", "synapse.db"),
        ("sqlite:///srv/my%20data/synapse.db", "/srv/my data/synapse.db"),
    ] {
        assert_eq!(path_from_url(url).expect("a path"), Path::new(path), "{url}");
    }
}

#[test]
fn a_url_of_something_else_is_refused_and_not_repeated() {
    for url in ["postgres://user:hunter2@db/x", "sqlite::memory:", "sqlite://x.db?mode=ro", "sqlite://", ""] {
        let refusal = path_from_url(url).expect_err("a refusal").to_string();
        assert!(refusal.contains("sqlite://data/synapse.db") && !refusal.contains("hunter2"), "{refusal}");
    }
}

#[tokio::test]
async fn a_missing_file_is_made_only_by_open() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let path = temp.path().join("new/synapse.db");
    let refusal = SqliteStore::open_existing(&path).await.expect_err("a refusal").to_string();
    assert!(refusal.contains("no such database"), "{refusal}");
    assert!(!temp.path().join("new").exists());
    SqliteStore::open(&path).await.expect("a store");
    SqliteStore::open_existing(&path).await.expect("the same store");
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;

    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = temp.path().join("data");
    let store = SqliteStore::open(folder.join("synapse.db")).await.expect("a store");
    store.create_team(&"lab".into(), &Limits::default()).await.expect("a team");
    let mode = |path: &Path| path.metadata().expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<_> =
        folder.read_dir().expect("the folder").map(|entry| entry.expect("a file").path()).collect();
    assert!(files.len() > 1, "the database and its log: {files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{file:?}");
    }
}

#[tokio::test]
async fn no_file_holds_a_secret() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let store = SqliteStore::open(temp.path().join("synapse.db")).await.expect("a store");
    store.create_team(&"lab".into(), &Limits::default()).await.expect("a team");
    let key = ApiKey::generate().expect("randomness");
    let new = synapse_core::store::keys::NewKey {
        team: "lab".into(),
        group: GroupName::default(),
        name: None,
        models: vec![synapse_core::glob::Glob::new("*")],
        expires_at: None,
        binding: Binding::default(),
    };
    store.create_key(&key, &new).await.expect("a key");
    let worker = WorkerSecret::generate().expect("randomness");
    store.create_worker_key(&worker, &NewWorkerKey::default()).await.expect("a key");
    let contains =
        |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let mut id_seen = false;
    for entry in temp.path().read_dir().expect("the folder") {
        let bytes = std::fs::read(entry.expect("a file").path()).expect("its content");
        for secret in [&key.reveal()[13..], &worker.reveal()[14..]] {
            assert!(!contains(&bytes, secret));
        }
        id_seen |= contains(&bytes, key.id().as_str());
    }
    assert!(id_seen, "the search would find the id");
}

#[tokio::test]
async fn a_database_that_many_open_at_once_is_set_up_once() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let path = temp.path().join("synapse.db");
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        starts.spawn(SqliteStore::open(path.clone()));
    }
    for start in starts.join_all().await {
        start.expect("a store").list_teams().await.expect("teams");
    }
}

#[tokio::test]
async fn a_path_through_a_file_is_refused_with_a_remedy() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let refusal = refusal(&file.path().join("synapse.db")).await;
    assert!(refusal.contains("choose another `data_dir`"), "{refusal}");
}

#[tokio::test]
async fn a_folder_is_not_taken_for_a_file() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let refusal = refusal(temp.path()).await;
    assert!(refusal.contains("name a file in it"), "{refusal}");
}

#[tokio::test]
async fn a_file_of_another_kind_is_refused_and_left_alone() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let text = "server:\n  port: 8080\n".repeat(100);
    std::fs::write(file.path(), &text).expect("content");
    let refusal = refusal(file.path()).await;
    assert!(refusal.contains("not a SQLite database"), "{refusal}");
    assert_eq!(std::fs::read_to_string(file.path()).expect("content"), text);
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_a_remedy() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let path = closed_file(temp.path()).await;
    let mut bytes = std::fs::read(&path).expect("content");
    bytes[100..4096].fill(0xAA);
    std::fs::write(&path, bytes).expect("damage");
    let refusal = refusal(&path).await;
    assert!(refusal.contains("damaged; restore a backup"), "{refusal}");
}

#[tokio::test]
async fn keys_from_before_there_were_groups_are_in_the_default_one() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let path = temp.path().join("synapse.db");
    let mut before = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .connect()
        .await
        .expect("a connection");
    let steps: Vec<_> = migrations().iter().filter(|step| step.version == 1).cloned().collect();
    Migrator::with_migrations(steps).run_direct(None, &mut before, false).await.expect("the first schema");
    let key = ApiKey::generate().expect("randomness");
    sqlx::raw_sql("INSERT INTO teams (name, created_at) VALUES ('lab', 0)")
        .execute(&mut before)
        .await
        .expect("a team");
    sqlx::query("INSERT INTO keys (id, team, models, created_at, hash) VALUES (?1, 'lab', '[\"*\"]', 0, ?2)")
        .bind(key.id().as_str())
        .bind(&key.hash().as_bytes()[..])
        .execute(&mut before)
        .await
        .expect("a key");
    before.close().await.expect("closed");
    let store = SqliteStore::open(&path).await.expect("a store");
    let read = store.get_key(key.id()).await.expect("the key");
    assert_eq!((&read.group, &*read.binding), (&GroupName::default(), &Binding::default()));
    let table = store.load_key_table().await.expect("a table");
    assert!(table.authenticate(key.reveal(), jiff::Timestamp::now()).is_ok());
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let path = closed_file(temp.path()).await;
    let store = SqliteStore::open(&path).await.expect("a store");
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (999, 'the future', TRUE, x'00', 0)",
    )
    .execute(&store.writer)
    .await
    .expect("a migration of the future");
    store.close().await;
    let refusal = refusal(&path).await;
    assert!(refusal.contains("a newer Synapse has written it (schema 999)"), "{refusal}");
}
