//! Opening a database: where it is, its schema, the rights to work with, and words for all that can be wrong with it.

use std::{
    fmt, io,
    str::FromStr,
    sync::atomic::{AtomicI64, AtomicU32},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    ConnectOptions, Connection, PgConnection, Row, SqlSafeStr,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use synapse_core::store::StoreError;
use tokio::time::timeout;

use super::{PostgresStore, watch::Watch};

/// All of Synapse's tables are here, whatever else the database has.
const SCHEMA: &str = "synapse";
/// The role that a gateway works with.
const APP: &str = "synapse_app";
/// The oldest release whose features are relied upon.
const OLDEST: i32 = 15;
const CONNECTIONS: u32 = 8;
/// A server that takes longer to answer is as good as none.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long a call waits for a free connection, or a server that comes back.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Who migrates holds this, so that of two that start together the second finds the work of the first.
const MIGRATION_LOCK: i64 = 0x0053_796e_6170_7365;
const EXAMPLE: &str = "postgres://user:password@host:5432/database";
/// What a URL may say besides. Others, misspelt ones too, would do nothing without a word.
const PARAMETERS: [&str; 10] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
    "host",
    "port",
    "dbname",
    "user",
    "password",
];

const ROLES: &str = include_str!("../../migrations/postgres/roles.sql");
const GRANTS: &str = include_str!("../../migrations/postgres/grants.sql");

/// The schema, step by step. A step that was released never changes; a new one is added.
pub(super) fn migrations() -> Migrator {
    let step = |version, name: &'static str, sql: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(vec![
        step(
            1,
            "teams, keys and incidents",
            include_str!("../../migrations/postgres/0001_teams_keys_and_incidents.sql"),
        ),
        step(2, "audit", include_str!("../../migrations/postgres/0002_audit.sql")),
        step(3, "alerts", include_str!("../../migrations/postgres/0003_alerts.sql")),
        step(5, "retention", include_str!("../../migrations/postgres/0005_retention.sql")),
    ]);
    // Whoever migrates has a lock already.
    migrator.set_locking(false);
    migrator
}

/// A database on a server.
#[derive(Clone)]
pub struct Server {
    options: PgConnectOptions,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.place()).finish()
    }
}

impl Server {
    /// The database that a URL names.
    ///
    /// # Errors
    /// [`StoreError::Unusable`], which repeats nothing of the URL.
    pub fn from_url(url: &SecretString) -> Result<Self, StoreError> {
        let url = url.expose_secret();
        let unusable = |problem: String| StoreError::Unusable {
            place: "the database URL".to_owned(),
            problem,
            source: None,
        };
        let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
        let mut names = parameters.split('&').filter(|text| !text.is_empty());
        if names.any(|text| !PARAMETERS.contains(&text.split('=').next().unwrap_or_default())) {
            let known = PARAMETERS.join(", ");
            return Err(unusable(format!(
                "it has a parameter that is none of {known}; write {EXAMPLE}, and `%3F` for a `?` in a password"
            )));
        }
        let options = PgConnectOptions::from_str(url).map_err(|_| {
            unusable(format!(
                "it cannot be read as {EXAMPLE}; write special characters of a password as `%40` and the like"
            ))
        })?;
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("synapse"),
        };
        Ok(Self { options: options.options([("search_path", SCHEMA)]).disable_statement_logging() })
    }

    /// Opens the database and brings its schema up to date, or makes it.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] with the remedy: no server, wrong credentials, no right, an old server, or a schema
    /// of a newer Synapse.
    pub async fn open(&self) -> Result<PostgresStore, StoreError> {
        self.connect(true).await
    }

    /// Like [`Self::open`], where there is a schema already.
    ///
    /// # Errors
    /// As [`Self::open`], and when there is none.
    pub async fn open_existing(&self) -> Result<PostgresStore, StoreError> {
        self.connect(false).await
    }

    async fn connect(&self, may_make: bool) -> Result<PostgresStore, StoreError> {
        let explain = |error| self.explain(error);
        let connecting = timeout(CONNECT_WITHIN, self.options.connect()).await;
        let mut first = connecting.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map_err(explain)?;
        self.check_server(&mut first).await?;
        match applied(&mut first).await.map_err(explain)? {
            None if !may_make => {
                return Err(self.unusable(
                    "there is no Synapse in this database; start the gateway once, create a team, or name another \
                     database",
                ));
            }
            Some(steps) => {
                let ours = migrations();
                let newest = ours.iter().map(|step| step.version).max();
                if let Some((version, _)) = steps.iter().find(|(version, _)| Some(*version) > newest) {
                    return Err(self.newer(*version));
                }
                let is_ours = ours.iter().map(|step| (step.version, &*step.checksum));
                if !is_ours.eq(steps.iter().map(|(version, checksum)| (*version, checksum.as_slice()))) {
                    self.migrate(&mut first).await?;
                }
            }
            None => self.migrate(&mut first).await?,
        }
        let options = match may_act_as_app(&mut first).await.map_err(explain)? {
            true => self.options.clone().options([("role", APP)]),
            false => self.options.clone(),
        };
        first.close().await.map_err(explain)?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options.clone());
        Ok(PostgresStore {
            pool,
            watch: Watch::new(options),
            look_ahead_at: AtomicI64::new(0),
            months_without_place: AtomicU32::new(0),
        })
    }

    async fn check_server(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let row = sqlx::query(
            "SELECT current_setting('server_version_num')::int4 / 10000 AS release,
                    current_setting('server_encoding') AS encoding",
        )
        .fetch_one(connection)
        .await
        .map_err(|error| self.explain(error))?;
        let (release, encoding): (i32, String) = (row.get(0), row.get(1));
        if release < OLDEST {
            return Err(
                self.unusable(format!("the server is PostgreSQL {release}; Synapse needs {OLDEST} or newer"))
            );
        }
        if encoding != "UTF8" {
            return Err(self.unusable(format!(
                "the database's encoding is {encoding}; make one with `CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0`"
            )));
        }
        Ok(())
    }

    async fn migrate(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let migrate = async {
            let mut tx = connection.begin().await?;
            sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK).execute(&mut *tx).await?;
            sqlx::raw_sql(ROLES).execute(&mut *tx).await?;
            migrations().run_direct(None, &mut *tx, false).await?;
            sqlx::raw_sql(GRANTS).execute(&mut *tx).await?;
            sqlx::query("SELECT make_audit_partitions()").execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(())
        };
        migrate.await.map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => self.explain(error),
            MigrateError::VersionMissing(version) => self.newer(version),
            other => StoreError::Unusable {
                place: self.place(),
                problem: "its schema is not the one that this version writes; restore a backup".to_owned(),
                source: Some(other.into()),
            },
        })
    }

    fn place(&self) -> String {
        let options = &self.options;
        let host = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => options.get_host().to_owned(),
        };
        let database = options.get_database().unwrap_or(options.get_username());
        format!("the PostgreSQL database {database} at {host}:{}", options.get_port())
    }

    fn unusable(&self, problem: impl Into<String>) -> StoreError {
        StoreError::Unusable { place: self.place(), problem: problem.into(), source: None }
    }

    fn newer(&self, version: i64) -> StoreError {
        self.unusable(format!(
            "a newer Synapse has written it (schema {version}); run that version or a newer one, or restore a backup"
        ))
    }

    /// Words for what an operator can act on (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
    fn explain(&self, error: sqlx::Error) -> StoreError {
        let code = error.as_database_error().and_then(|cause| cause.code());
        let problem = match (&error, code.as_deref()) {
            (_, Some("28P01" | "28000")) => {
                "the server refuses the user or the password; correct them in the URL, or what `pg_hba.conf` allows"
            }
            (_, Some("3D000")) => {
                "there is no such database; create it with `CREATE DATABASE`, or name another one"
            }
            (_, Some("42501")) => {
                "the user lacks a right; a gateway's user is a member of the role synapse_app, and one that makes or \
                 updates the schema of synapse_migrator, or the database's owner"
            }
            (_, Some("53300")) => "the server takes no more connections; raise `max_connections` there",
            (_, Some("57P03")) => "the server is starting or going down; try again",
            (_, Some("53100")) => "the server's disk is full; make room",
            (_, Some(_)) => "the server refuses it",
            (sqlx::Error::Io(error), _) if is_about_a_file(error) => {
                "a file that the URL names cannot be read; correct `sslrootcert`, `sslcert` and `sslkey` in it"
            }
            (error, _) if is_about_tls(error) => {
                "the connection cannot be secured; correct `sslmode` and `sslrootcert` in the URL"
            }
            _ => "no PostgreSQL answers there; start it, or correct host and port in the URL",
        };
        StoreError::Unusable { place: self.place(), problem: problem.to_owned(), source: Some(error.into()) }
    }
}

fn is_about_a_file(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

/// What goes wrong with certificates and handshakes comes as data that make no sense.
fn is_about_tls(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// The steps of the schema that were done, with their checksums; `None` where there is no schema.
async fn applied(connection: &mut PgConnection) -> sqlx::Result<Option<Vec<(i64, Vec<u8>)>>> {
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass('synapse._sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !is_there {
        return Ok(None);
    }
    let rows = sqlx::query("SELECT version, checksum FROM _sqlx_migrations ORDER BY version")
        .fetch_all(connection)
        .await?;
    Ok(Some(rows.iter().map(|row| (row.get(0), row.get(1))).collect()))
}

/// Whether the user may take on the gateway's role, and that has been given its rights here.
async fn may_act_as_app(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT FROM pg_roles
             WHERE rolname = $1 AND pg_has_role(oid, 'MEMBER') AND has_schema_privilege(oid, 'synapse', 'USAGE')
                 AND has_table_privilege(oid, 'synapse.audit_entries', 'INSERT')
         )",
    )
    .bind(APP)
    .fetch_one(connection)
    .await
}
