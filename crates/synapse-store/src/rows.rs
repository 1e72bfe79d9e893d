//! Rows of either database, read alike: what a column holds, and words for what goes wrong.

use std::error::Error;

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row, postgres::PgRow, sqlite::SqliteRow};
use synapse_core::{key::SecretHash, store::StoreError};

use crate::postgres::text::unpacked;

/// A row, column by column.
pub(crate) trait Cells {
    /// A text.
    fn text(&self, column: &str) -> Result<String, StoreError>;
    /// A text, or nothing.
    fn optional_text(&self, column: &str) -> Result<Option<String>, StoreError>;
    /// A number.
    fn number(&self, column: &str) -> Result<i64, StoreError>;
    /// A number, or nothing.
    fn optional_number(&self, column: &str) -> Result<Option<i64>, StoreError>;
    /// Yes or no.
    fn flag(&self, column: &str) -> Result<bool, StoreError>;
    /// Bytes, or nothing.
    fn optional_bytes(&self, column: &str) -> Result<Option<Vec<u8>>, StoreError>;
}

/// Reads a kind of row; `unpack` undoes what was done to a text to store it.
macro_rules! cells {
    ($row:ty, $unpack:expr) => {
        impl Cells for $row {
            fn text(&self, column: &str) -> Result<String, StoreError> {
                self.try_get::<String, _>(column).map($unpack).map_err(backend)
            }

            fn optional_text(&self, column: &str) -> Result<Option<String>, StoreError> {
                Ok(self.try_get::<Option<String>, _>(column).map_err(backend)?.map($unpack))
            }

            fn number(&self, column: &str) -> Result<i64, StoreError> {
                self.try_get(column).map_err(backend)
            }

            fn optional_number(&self, column: &str) -> Result<Option<i64>, StoreError> {
                self.try_get(column).map_err(backend)
            }

            fn flag(&self, column: &str) -> Result<bool, StoreError> {
                self.try_get(column).map_err(backend)
            }

            fn optional_bytes(&self, column: &str) -> Result<Option<Vec<u8>>, StoreError> {
                self.try_get(column).map_err(backend)
            }
        }
    };
}

cells!(SqliteRow, |text| text);
cells!(PgRow, unpacked);

/// The present in the stores' resolution, so that what a call returns is what the next one reads.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

pub(crate) fn timestamp(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(backend)
}

/// A column that holds a time.
pub(crate) fn time(row: &impl Cells, column: &str) -> Result<Timestamp, StoreError> {
    timestamp(row.number(column)?)
}

/// A column that may hold a time.
pub(crate) fn moment(row: &impl Cells, column: &str) -> Result<Option<Timestamp>, StoreError> {
    row.optional_number(column)?.map(timestamp).transpose()
}

/// A column that may hold a secret's hash.
pub(crate) fn hash(row: &impl Cells, column: &str) -> Result<Option<SecretHash>, StoreError> {
    row.optional_bytes(column)?
        .map(|bytes| <[u8; 32]>::try_from(bytes).map(SecretHash::from_bytes))
        .transpose()
        .map_err(|_| backend("a stored hash does not have 32 bytes"))
}

/// A column that holds a JSON document.
pub(crate) fn from_json<T: DeserializeOwned>(row: &impl Cells, column: &str) -> Result<T, StoreError> {
    serde_json::from_str(&row.text(column)?).map_err(backend)
}

pub(crate) fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(backend)
}

pub(crate) fn backend(error: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    StoreError::Backend(error.into())
}

pub(crate) fn not_found(kind: &'static str, name: &impl ToString) -> StoreError {
    StoreError::NotFound { kind, name: name.to_string() }
}

/// What a failed insertion of `name` means.
pub(crate) fn taken(error: sqlx::Error, kind: &'static str, name: &impl ToString) -> StoreError {
    match error.as_database_error() {
        Some(cause) if cause.is_unique_violation() => {
            StoreError::AlreadyExists { kind, name: name.to_string() }
        }
        _ => backend(error),
    }
}
