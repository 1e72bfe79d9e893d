//! Reading many entries of the audit log out of PostgreSQL with `COPY`, in its binary form
//! (<https://www.postgresql.org/docs/current/sql-copy.html>): several times faster than rows of a query.

use futures_util::TryStreamExt;
use sqlx::{PgPool, postgres::PgPoolCopyExt};
use synapse_core::audit::{
    entry::{ColumnKind, Value},
    stretch::Stretch,
};
use uuid::Uuid;

use super::text::{is_packed, strictly_unpacked};
use crate::audit;

/// Before the flags and the length of an extension, of which there is none.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const HEADER: usize = SIGNATURE.len() + 4 + 4;
/// In place of the number of a row's columns, at the end.
const TRAILER: i16 = -1;

/// The rows of a chain from place `from` on. Two entries of one place are both told, so that none hides behind the
/// other at the end of a page.
pub(super) async fn stretch(pool: &PgPool, chain: Uuid, from: u64, limit: u32) -> sqlx::Result<Stretch> {
    // `COPY` takes no parameters: here are two numbers and hexadecimal digits.
    let statement = format!(
        "COPY (SELECT {} FROM audit_entries WHERE chain = '\\x{}' AND seq >= {}
         ORDER BY seq FETCH FIRST {limit} ROWS WITH TIES) TO STDOUT (FORMAT binary)",
        audit::names(),
        chain.simple(),
        if from == 0 { i64::MIN } else { audit::place_of(from) },
    );
    let mut stretch = Stretch::new(chain);
    let mut texts = Vec::new();
    let mut messages = pool.copy_out_raw(&statement).await?;
    let mut is_first = true;
    while let Some(message) = messages.try_next().await? {
        let mut rest = &message[..];
        if std::mem::take(&mut is_first) {
            rest = rest.get(HEADER..).ok_or_else(malformed)?;
        }
        while !rest.is_empty() {
            if !row(&mut rest, &mut stretch, &mut texts).ok_or_else(malformed)? {
                break;
            }
        }
    }
    Ok(stretch)
}

fn malformed() -> sqlx::Error {
    sqlx::Error::Protocol("what PostgreSQL copies is not in its binary form".to_owned())
}

/// Reads a row; tells whether it was one, not the end. `texts` has what was packed, as far as it was; it is kept from
/// row to row for its memory.
fn row(rest: &mut &[u8], stretch: &mut Stretch, texts: &mut Vec<Option<Option<String>>>) -> Option<bool> {
    let columns = i16::from_be_bytes(fixed(rest)?);
    if columns == TRAILER {
        return Some(false);
    }
    let mut cells: [Option<&[u8]>; 64] = [None; 64];
    let cells = cells.get_mut(..usize::try_from(columns).ok()?)?;
    for cell in cells.iter_mut() {
        *cell = match usize::try_from(i32::from_be_bytes(fixed(rest)?)) {
            Ok(length) => {
                let (bytes, after) = rest.split_at_checked(length)?;
                *rest = after;
                Some(bytes)
            }
            // A length of -1 stands for nothing.
            Err(_) => None,
        };
    }
    let seq = i64::from_be_bytes(cells.get(1).copied().flatten()?.try_into().ok()?);
    texts.clear();
    texts.extend(audit::columns().zip(cells.iter()).map(|(column, cell)| {
        let bytes = cell.filter(|_| column.kind == ColumnKind::Text)?;
        let text = std::str::from_utf8(bytes).ok().filter(|text| is_packed(text))?;
        Some(strictly_unpacked(text))
    }));
    let values = audit::columns().zip(cells.iter()).zip(texts.iter()).map(|((column, cell), text)| {
        let Some(bytes) = *cell else { return Value::Null };
        // What is no value of its column is told as bytes, which no text and no number is sealed as.
        match column.kind {
            ColumnKind::Integer => bytes
                .try_into()
                .map_or(Value::Bytes(bytes), |bytes| Value::Integer(i64::from_be_bytes(bytes))),
            ColumnKind::Text => match text {
                Some(Some(text)) => Value::Text(text),
                Some(None) => Value::Bytes(bytes),
                None => std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Text),
            },
            ColumnKind::Bytes => Value::Bytes(bytes),
        }
    });
    match u64::try_from(seq) {
        Ok(seq) => audit::push(stretch, seq, values),
        // Places below 0 are none, but somebody may have made them.
        Err(_) => stretch.push_unreadable(0),
    }
    Some(true)
}

fn fixed<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}
