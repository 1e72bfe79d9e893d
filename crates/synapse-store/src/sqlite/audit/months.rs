//! The files of the audit log, one for each month, so that old months can be put away as they are. They are written by
//! one connection each, in large transactions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use rusqlite::{Connection, OpenFlags};
use synapse_core::store::StoreError;

use super::super::open::{create_file, explain_code};
use crate::{private, rows::backend};

/// How long a statement waits for another process's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The schema that this version writes, by `PRAGMA user_version`.
const SCHEMA: i64 = 1;

/// A month of the log, such as `2026-11`. Its order is that of time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Month(pub(super) String);

impl Month {
    pub(super) fn of(at: Timestamp) -> Self {
        let date = at.to_zoned(TimeZone::UTC).date();
        Self(format!("{:04}-{:02}", date.year(), date.month()))
    }

    /// The month of a file, if it is one.
    pub(super) fn of_file(name: &str) -> Option<Self> {
        let month = name.strip_prefix("audit-")?.strip_suffix(".db")?;
        let (year, number) = month.rsplit_once('-')?;
        let is_month = year.parse::<i16>().is_ok() && number.len() == 2 && number.parse::<u8>().is_ok();
        is_month.then(|| Self(month.to_owned()))
    }

    /// The times of its entries, in microseconds since 1970. What is no month has none.
    pub(super) fn times(&self) -> Range<i64> {
        let first = format!("{}-01", self.0).parse::<Date>().ok();
        let start =
            |date: Date| date.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp().as_microsecond());
        let times = first.and_then(|first| {
            let next = first.last_of_month().tomorrow().ok();
            // The last month that there is ends with time itself.
            Some(start(first)?..next.and_then(start).unwrap_or(i64::MAX))
        });
        times.unwrap_or(0..0)
    }

    fn file_name(&self) -> String {
        format!("audit-{}.db", self.0)
    }
}

/// The files of a folder, each opened for writing when it is first needed. Its calls block.
#[derive(Debug)]
pub(in super::super) struct Months {
    folder: PathBuf,
    writers: Mutex<BTreeMap<Month, Connection>>,
}

impl Months {
    pub(in super::super) fn new(folder: PathBuf) -> Self {
        Self { folder, writers: Mutex::default() }
    }

    /// Closes the files, so that their logs are merged into them.
    pub(super) fn close(&self) {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Those that there are.
    pub(super) fn all(&self) -> Result<BTreeSet<Month>, StoreError> {
        let refused = |error| private::refused(&self.folder, error);
        let files = match fs::read_dir(&self.folder) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(refused(error)),
        };
        let names = files.map(|file| file.map(|file| file.file_name())).collect::<io::Result<Vec<_>>>();
        Ok(names.map_err(refused)?.iter().filter_map(|name| Month::of_file(name.to_str()?)).collect())
    }

    /// Does something with the one connection that writes to a month's file, which is made where there is none.
    pub(super) fn write<T>(
        &self,
        month: &Month,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if !writers.contains_key(month) {
            let path = self.folder.join(month.file_name());
            create_file(&path)?;
            writers.insert(month.clone(), writer(&path)?);
        }
        let Some(connection) = writers.get_mut(month) else {
            return Err(backend("the file of a month was closed"));
        };
        work(connection).map_err(backend)
    }

    /// Removes a month's file.
    pub(super) fn remove(&self, month: &Month) -> Result<(), StoreError> {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        writers.remove(month);
        let path = self.folder.join(month.file_name());
        // Its own files first: without it, they would be taken for those of a new one.
        for ending in ["-wal", "-shm", ""] {
            let mut name = path.clone().into_os_string();
            name.push(ending);
            match fs::remove_file(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(private::refused(&path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A connection to read a month's file with. Its tables are seen to first: another may have made the file this
    /// instant, and not be done with them.
    pub(super) fn reader(&self, month: &Month) -> Result<Connection, StoreError> {
        self.write(month, |_| Ok(()))?;
        let path = self.folder.join(month.file_name());
        let reading = || {
            let reader = Connection::open_with_flags(
                &path,
                OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            )?;
            reader.busy_timeout(BUSY_TIMEOUT)?;
            reader.execute_batch("PRAGMA query_only = ON")?;
            Ok(reader)
        };
        reading().map_err(|error| explain(&path, error))
    }

    /// The same for all months that there are, in the order of time.
    pub(super) fn readers(&self) -> Result<Vec<(Month, Connection)>, StoreError> {
        self.all()?.into_iter().map(|month| Ok((month.clone(), self.reader(&month)?))).collect()
    }
}

/// The connection that writes to a file, whose schema is brought up to date. Its log of changes goes to the disk with
/// each transaction, and its cache has room for the parts of indices that are written all over: 32 MiB.
fn writer(path: &Path) -> Result<Connection, StoreError> {
    let opening = || {
        let mut writer = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        writer.busy_timeout(BUSY_TIMEOUT)?;
        writer.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -32768;",
        )?;
        // Of two processes that start together, the second finds the work of the first.
        let transaction = writer.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let schema: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if schema == 0 {
            transaction.execute_batch(include_str!("../../../migrations/sqlite-audit/0001_audit.sql"))?;
            transaction.pragma_update(None, "user_version", SCHEMA)?;
        }
        transaction.commit()?;
        Ok((writer, schema))
    };
    let (writer, schema) = opening().map_err(|error| explain(path, error))?;
    if schema > SCHEMA {
        return Err(private::unusable(
            path,
            format!(
                "a newer Synapse has written it (schema {schema}); run that version or a newer one, or restore a backup"
            ),
            None,
        ));
    }
    Ok(writer)
}

fn explain(path: &Path, error: rusqlite::Error) -> StoreError {
    let code = error.sqlite_error().map(|error| error.extended_code.unsigned_abs());
    explain_code(path, code, error)
}
