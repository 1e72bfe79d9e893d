//! What both databases make of the audit log: the columns of a row and their values, once for all statements.

pub(crate) mod listing;

use std::collections::{HashMap, hash_map::Entry};

use synapse_core::{
    audit::{
        canonical,
        entry::{self, Column, ColumnKind, Digest, Link, Owned, Sealed, Value},
        stretch::{Standing, Stretch},
    },
    store::{
        StoreError,
        audit::{Head, StoredCheckpoint},
    },
};
use uuid::Uuid;

use crate::rows::{backend, timestamp};

/// An entry's place in its chain, before what it says.
const PLACE: [Column; 4] = [
    Column { name: "chain", kind: ColumnKind::Bytes },
    Column { name: "seq", kind: ColumnKind::Integer },
    Column { name: "prev", kind: ColumnKind::Bytes },
    Column { name: "hash", kind: ColumnKind::Bytes },
];

/// All columns of a row.
pub(crate) fn columns() -> impl Iterator<Item = &'static Column> {
    PLACE.iter().chain(entry::Entry::COLUMNS)
}

/// Their names, as they stand in a statement.
pub(crate) fn names() -> String {
    columns().map(|column| column.name).collect::<Vec<_>>().join(", ")
}

/// How many columns a row has.
pub(crate) const WIDTH: usize = PLACE.len() + entry::Entry::COLUMNS.len();

/// The values of an entry's row.
pub(crate) fn row<'s>(standing: &'s Standing<'_>) -> Result<[Value<'s>; WIDTH], StoreError> {
    let Standing { link, canonical } = standing;
    let mut row = [Value::Null; WIDTH];
    let (place, rest) = row.split_at_mut(PLACE.len());
    place.copy_from_slice(&[
        Value::Bytes(link.chain.as_bytes()),
        Value::Integer(place_of(link.seq)),
        Value::Bytes(&link.prev),
        Value::Bytes(&link.hash),
    ]);
    rest.copy_from_slice(&canonical::values(canonical).map_err(backend)?);
    Ok(row)
}

/// A place in a chain as databases count.
pub(crate) fn place_of(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// The entry of a row that was selected by [`names`], from a reader of its columns by place; `None` where that is
/// none any more.
pub(crate) fn sealed(read: impl Fn(usize, ColumnKind) -> Option<Owned>) -> Option<Sealed> {
    let mut values = columns().enumerate().map(|(place, column)| read(place, column.kind));
    let mut bytes = || match values.next() {
        Some(Some(Owned::Bytes(bytes))) => Some(bytes),
        _ => None,
    };
    let chain = Uuid::from_slice(&bytes()?).ok()?;
    let Some(Some(Owned::Integer(seq))) = values.next() else { return None };
    let mut digest = || match values.next() {
        Some(Some(Owned::Bytes(bytes))) => Digest::try_from(bytes).ok(),
        _ => None,
    };
    let (prev, hash) = (digest()?, digest()?);
    let entry = entry::Entry::from_values(values.collect::<Option<Vec<_>>>()?).ok()?;
    Some(Sealed { chain, seq: u64::try_from(seq).ok()?, prev, hash, entry })
}

/// What to say of a row that is to be an entry and is none.
pub(crate) fn unreadable(seq: i64) -> StoreError {
    backend(format!("entry {seq} of the audit log cannot be read: run `synapse audit verify`"))
}

/// Adds a row of [`names`] to a stretch, by the values that it has.
pub(crate) fn push<'v>(stretch: &mut Stretch, seq: u64, values: impl Iterator<Item = Value<'v>>) {
    // Before what it says, the chain and the place, which are known.
    let mut values = values.skip(2);
    let mut digest = || match values.next() {
        Some(Value::Bytes(bytes)) => Digest::try_from(bytes).ok(),
        _ => None,
    };
    match (digest(), digest()) {
        (Some(prev), Some(hash)) => stretch.push(seq, prev, hash, values),
        _ => stretch.push_unreadable(seq),
    }
}

/// The last entry of a chain.
pub(crate) fn head(chain: &[u8], seq: i64, hash: &[u8]) -> Result<(Uuid, Head), StoreError> {
    // What else is wrong with it, verification tells.
    let hash = Digest::try_from(hash).unwrap_or_default();
    let chain = Uuid::from_slice(chain).map_err(|_| unreadable(seq))?;
    Ok((chain, Head { seq: u64::try_from(seq).unwrap_or(0), hash }))
}

/// A checkpoint of a chain.
pub(crate) fn checkpoint(
    chain: Uuid,
    seq: i64,
    at: i64,
    note: String,
) -> Result<StoredCheckpoint, StoreError> {
    Ok(StoredCheckpoint { chain, seq: u64::try_from(seq).map_err(backend)?, at: timestamp(at)?, note })
}

/// The hashes of entries by their places.
pub(crate) type Taken = HashMap<i64, Vec<u8>>;

/// The entries that are not there yet, of those that are.
///
/// # Errors
/// When another entry has the place of one: it must not be lost for that.
pub(crate) fn fresh<'s>(entries: &'s Stretch, mut taken: Taken) -> Result<Vec<Standing<'s>>, StoreError> {
    let mut fresh = Vec::with_capacity(entries.len());
    for standing in entries.iter().filter_map(|(_, standing)| standing) {
        let Link { chain, seq, hash, .. } = standing.link;
        match taken.entry(place_of(seq)) {
            Entry::Vacant(place) => {
                place.insert(hash.to_vec());
                fresh.push(standing);
            }
            Entry::Occupied(there) if *there.get() == hash => {}
            Entry::Occupied(_) => {
                return Err(backend(format!(
                    "another entry has place {seq} of chain {chain} in the audit log: two gateways share its data \
                     folder, or it was tampered with; run `synapse audit verify`"
                )));
            }
        }
    }
    Ok(fresh)
}

/// The places that entries claim in their chain: from the first to the last. Nothing where there are no entries.
pub(crate) fn claim(entries: &Stretch) -> Option<(i64, i64)> {
    let places = || entries.iter().map(|(seq, _)| place_of(seq));
    places().min().zip(places().max())
}

/// The statement that finds every chain's last entry without reading all of a table: it goes from chain to chain.
pub(crate) fn heads_statement(table: &str) -> String {
    format!(
        "WITH RECURSIVE chains (chain) AS (
             SELECT (SELECT e.chain FROM {table} AS e ORDER BY e.chain LIMIT 1)
             UNION ALL
             SELECT (SELECT e.chain FROM {table} AS e WHERE e.chain > c.chain ORDER BY e.chain LIMIT 1)
             FROM chains AS c WHERE c.chain IS NOT NULL
         )
         SELECT e.chain, e.seq, e.hash FROM chains AS c
         JOIN {table} AS e ON e.chain = c.chain
             AND e.seq = (SELECT l.seq FROM {table} AS l WHERE l.chain = c.chain ORDER BY l.seq DESC LIMIT 1)
         ORDER BY e.chain"
    )
}
