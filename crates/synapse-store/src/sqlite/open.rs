//! Opening a database file: its place, its connections, its schema, and words for all that can be
//! wrong with it.

use std::{
    io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, SqlSafeStr, SqlitePool,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use synapse_core::store::StoreError;
use tokio::sync::Mutex;

use super::{SqliteStore, audit::Months};
use crate::private::{self, unusable};

/// How long a statement waits for another process's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call waits for a free connection; longer than one busy statement.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);
const READERS: u32 = 4;

/// A step of a schema. One that was released never changes; a new one is added.
pub(super) fn step(version: i64, name: &'static str, sql: &'static str) -> Migration {
    Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
}

/// The schema, step by step.
pub(super) fn migrations() -> Migrator {
    Migrator::with_migrations(vec![
        step(1, "teams and keys", include_str!("../../migrations/sqlite/0001_teams_and_keys.sql")),
        step(
            2,
            "groups and worker keys",
            include_str!("../../migrations/sqlite/0002_groups_and_worker_keys.sql"),
        ),
        step(3, "administrators' tokens", include_str!("../../migrations/sqlite/0003_admin_tokens.sql")),
        step(4, "bindings", include_str!("../../migrations/sqlite/0004_bindings.sql")),
        step(5, "incidents", include_str!("../../migrations/sqlite/0005_incidents.sql")),
        step(6, "alerts", include_str!("../../migrations/sqlite/0006_alerts.sql")),
        step(8, "retention", include_str!("../../migrations/sqlite/0008_retention.sql")),
    ])
}

/// The file that a `sqlite:` URL names: `sqlite://data/synapse.db` is relative, `sqlite:///srv/synapse.db`
/// absolute.
///
/// # Errors
/// [`StoreError::Unusable`] for any other scheme, for parameters and for `:memory:`.
pub fn path_from_url(url: &str) -> Result<PathBuf, StoreError> {
    let unusable = |problem: &str| StoreError::Unusable {
        // Another scheme's URL may carry a password.
        place: "the database URL".into(),
        problem: problem.into(),
        source: None,
    };
    let Some(path) = url.strip_prefix("sqlite:") else {
        return Err(unusable(
            "write sqlite://data/synapse.db, or postgres://user:password@host:5432/database",
        ));
    };
    if path.contains('?') || path.contains(":memory:") {
        return Err(unusable("it names a file and takes no parameters: write sqlite://data/synapse.db"));
    }
    if path.trim_start_matches('/').is_empty() {
        return Err(unusable("it names no file: write sqlite://data/synapse.db"));
    }
    let options = SqliteConnectOptions::from_str(url).map_err(|error| unusable(&error.to_string()))?;
    Ok(options.get_filename().to_owned())
}

pub(super) fn create_file(path: &Path) -> Result<(), StoreError> {
    if let Some(folder) = path.parent() {
        private::create_dir(folder)?;
    }
    // SQLite gives its own files the mode of this one.
    private::open_file(path).map(drop)
}

pub(super) fn require_file(path: &Path) -> Result<(), StoreError> {
    match path.metadata() {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unusable(
            path,
            "there is no such database; start the gateway once, create a team, or name another place",
            None,
        )),
        Err(error) => Err(private::refused(path, error)),
    }
}

pub(super) async fn connect(path: &Path) -> Result<SqliteStore, StoreError> {
    // A revocation survives a power failure. Writes are rare here, so the fsync is no burden.
    let writer = writer(path, SqliteSynchronous::Full, migrations()).await?;
    let reading = options(path)?.pragma("query_only", "ON");
    let watcher = reading.connect().await.map_err(|error| explain(path, error))?;
    let readers = pool(READERS).connect_lazy_with(reading);
    let months = Arc::new(Months::new(folder_of(path)?));
    Ok(SqliteStore { writer, readers, watcher: Mutex::new(watcher), months })
}

/// The folder of a file, also of one that is named without any.
fn folder_of(path: &Path) -> Result<PathBuf, StoreError> {
    let file = std::path::absolute(path).map_err(|error| private::refused(path, error))?;
    Ok(file.parent().map(Path::to_owned).unwrap_or_default())
}

fn options(path: &Path) -> Result<SqliteConnectOptions, StoreError> {
    // Absolute, because readers connect later, and a relative path could look like a `file:` URI.
    let file = std::path::absolute(path).map_err(|error| private::refused(path, error))?;
    let options = SqliteConnectOptions::new().filename(file).busy_timeout(BUSY_TIMEOUT);
    Ok(options.foreign_keys(true).disable_statement_logging())
}

/// The one writing connection to a file whose schema is brought up to date.
pub(super) async fn writer(
    path: &Path,
    synchronous: SqliteSynchronous,
    schema: Migrator,
) -> Result<SqlitePool, StoreError> {
    let writing = options(path)?.journal_mode(SqliteJournalMode::Wal).synchronous(synchronous);
    let writer = pool(1).connect_with(writing).await.map_err(|error| explain(path, error))?;
    migrate(&writer, schema).await.map_err(|error| explain_migration(path, error))?;
    Ok(writer)
}

/// A connection that changes nothing.
pub(super) fn reader(path: &Path) -> Result<SqlitePool, StoreError> {
    Ok(pool(1).connect_lazy_with(options(path)?.pragma("query_only", "ON")))
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // Where SQLite ends a transaction by itself (a full disk), the library takes it to go on, for good: such a
        // connection is replaced.
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
}

/// In one write transaction, so that of two processes that start together the second finds the work
/// of the first.
async fn migrate(writer: &SqlitePool, schema: Migrator) -> Result<(), MigrateError> {
    let mut connection = writer.acquire().await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    // `run` would do the same, in a future that is not `Send`.
    schema.run_direct(None, &mut *transaction, false).await?;
    Ok(transaction.commit().await?)
}

fn explain_migration(path: &Path, error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => explain(path, error),
        MigrateError::VersionMissing(version) => unusable(
            path,
            format!(
                "a newer Synapse has written it (schema {version}); \
                 run that version or a newer one, or restore a backup"
            ),
            None,
        ),
        other => StoreError::Unusable {
            place: path.display().to_string(),
            problem: "its schema is not the one that this version writes; restore a backup".into(),
            source: Some(other.into()),
        },
    }
}

fn explain(path: &Path, error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|e| e.code()).and_then(|code| code.parse::<u32>().ok());
    explain_code(path, code, error)
}

/// Words for the result codes of SQLite (<https://www.sqlite.org/rescode.html>) that an operator can act on.
pub(super) fn explain_code(
    path: &Path,
    code: Option<u32>,
    source: impl std::error::Error + Send + Sync + 'static,
) -> StoreError {
    // The low byte is the primary code.
    let problem = match code.map(|code| code & 0xff) {
        Some(5 | 6) => "another process keeps it locked; stop that process, or try again",
        Some(8) => "it cannot be written; correct the permissions of the file and its folder",
        Some(10) => "the disk fails to read or write it",
        Some(11) => "the file is damaged; restore a backup",
        Some(13) => "the disk is full; make room",
        Some(14) => "it cannot be opened; correct the permissions of the file and its folder",
        Some(26) => "the file is not a SQLite database; name another file, or restore a backup",
        _ => "SQLite refuses it",
    };
    StoreError::Unusable {
        place: path.display().to_string(),
        problem: problem.into(),
        source: Some(source.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_named_alone_has_a_folder() {
        assert_eq!(folder_of(Path::new("synapse.db")).ok(), std::env::current_dir().ok());
        assert_eq!(folder_of(Path::new("/srv/synapse.db")).ok(), Some("/srv".into()));
    }
}
