//! The canonical bytes of an entry in its place: what is hashed, kept in the journal and handed out as evidence.
//!
//! One byte of version, the chain, the place, then the value of every column in order: a tag, and what the tag
//! calls for. Empty columns at the end are left out, so that columns can be added without changing what older
//! entries hash to. Of every entry there is one such form, and nothing else is read.

use uuid::Uuid;

use super::entry::{ColumnKind, Entry, Misfit, Value};

/// The version of the form, in front of everything.
pub const VERSION: u8 = 1;

/// Version, chain and place.
const HEAD: usize = 1 + 16 + 8;

const NULL: u8 = 0;
const INTEGER: u8 = 1;
const TEXT: u8 = 2;
const BYTES: u8 = 3;

/// Bytes are not those of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They are of a version that this build does not know.
    #[error("it is written in a form that this version of Synapse does not know")]
    Version,
    /// They end too early, go on after the end, or are not in the one form that an entry has.
    #[error("it is not in the one form that an entry has")]
    Form,
    /// It has columns that this build does not know.
    #[error("it has columns that this version of Synapse does not know")]
    Columns,
    /// A column holds what it cannot.
    #[error(transparent)]
    Column(#[from] Misfit),
}

/// Appends the canonical bytes of an entry at place `seq` of a chain.
pub fn encode(chain: Uuid, seq: u64, entry: &Entry, into: &mut Vec<u8>) {
    encode_values(chain, seq, entry.values(), into);
}

/// The same from the values of its columns, in order.
pub fn encode_values<'v>(
    chain: Uuid,
    seq: u64,
    values: impl IntoIterator<Item = Value<'v>>,
    into: &mut Vec<u8>,
) {
    into.push(VERSION);
    into.extend_from_slice(chain.as_bytes());
    into.extend_from_slice(&seq.to_be_bytes());
    let mut filled = into.len();
    for value in values {
        match value {
            Value::Null => {
                into.push(NULL);
                continue;
            }
            Value::Integer(number) => {
                into.push(INTEGER);
                into.extend_from_slice(&number.to_be_bytes());
            }
            Value::Text(text) => sized(TEXT, text.as_bytes(), into),
            Value::Bytes(bytes) => sized(BYTES, bytes, into),
        }
        filled = into.len();
    }
    into.truncate(filled);
}

/// A value behind its tag and length. No column comes near 4 GiB; one that did would be cut, which keeps the form
/// readable.
fn sized(tag: u8, bytes: &[u8], into: &mut Vec<u8>) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    into.push(tag);
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(&bytes[..length as usize]);
}

/// How many columns an entry has.
const COLUMNS: usize = Entry::COLUMNS.len();

/// Reads canonical bytes: the chain, the place, the entry.
///
/// # Errors
/// [`Malformed`], when they are not what [`encode`] makes of an entry.
pub fn decode(bytes: &[u8]) -> Result<(Uuid, u64, Entry), Malformed> {
    let (chain, seq) = place(bytes).ok_or(Malformed::Form)?;
    let entry = Entry::from_values(values(bytes)?.map(Value::into_owned))?;
    Ok((chain, seq, entry))
}

/// The value of every column, in order, as it stands in canonical bytes.
///
/// # Errors
/// [`Malformed`], when they are not in the one form that an entry has, or a column holds what it cannot.
pub fn values(bytes: &[u8]) -> Result<[Value<'_>; COLUMNS], Malformed> {
    if bytes.first().is_some_and(|version| *version != VERSION) {
        return Err(Malformed::Version);
    }
    let mut rest = bytes.get(HEAD..).ok_or(Malformed::Form)?;
    let mut values = [Value::Null; COLUMNS];
    let mut columns = values.iter_mut().zip(Entry::COLUMNS);
    let mut last = None;
    while !rest.is_empty() {
        let (into, column) = columns.next().ok_or(Malformed::Columns)?;
        let read = value(&mut rest)?;
        let fits = match read {
            Value::Null => true,
            Value::Integer(_) => column.kind == ColumnKind::Integer,
            Value::Text(_) => column.kind == ColumnKind::Text,
            Value::Bytes(_) => column.kind == ColumnKind::Bytes,
        };
        if !fits {
            return Err(Misfit(column.name).into());
        }
        *into = read;
        last = Some(read);
    }
    if last == Some(Value::Null) {
        return Err(Malformed::Form);
    }
    Ok(values)
}

/// The chain and the place alone.
pub fn place(bytes: &[u8]) -> Option<(Uuid, u64)> {
    let mut rest = bytes.get(1..HEAD)?;
    Some((Uuid::from_bytes(fixed(&mut rest).ok()?), u64::from_be_bytes(fixed(&mut rest).ok()?)))
}

/// Puts another place into canonical bytes.
pub fn set_place(canonical: &mut [u8], seq: u64) {
    if let Some(place) = canonical.get_mut(HEAD - 8..HEAD) {
        place.copy_from_slice(&seq.to_be_bytes());
    }
}

fn value<'b>(rest: &mut &'b [u8]) -> Result<Value<'b>, Malformed> {
    let [tag] = fixed(rest)?;
    Ok(match tag {
        NULL => Value::Null,
        INTEGER => Value::Integer(i64::from_be_bytes(fixed(rest)?)),
        TEXT => Value::Text(std::str::from_utf8(variable(rest)?).map_err(|_| Malformed::Form)?),
        BYTES => Value::Bytes(variable(rest)?),
        _ => return Err(Malformed::Form),
    })
}

fn fixed<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (bytes, after) = rest.split_first_chunk().ok_or(Malformed::Form)?;
    *rest = after;
    Ok(*bytes)
}

fn variable<'b>(rest: &mut &'b [u8]) -> Result<&'b [u8], Malformed> {
    let length = u32::from_be_bytes(fixed(rest)?) as usize;
    let (bytes, after) = rest.split_at_checked(length).ok_or(Malformed::Form)?;
    *rest = after;
    Ok(bytes)
}
