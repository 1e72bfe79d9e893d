//! What both databases make of the audit log: the columns of a row and their values, once for all statements.

use std::collections::{BTreeMap, HashSet};

use synapse_core::{
    audit::entry::{Column, ColumnKind, Digest, Entry, Owned, Sealed, Value},
    store::{
        StoreError,
        audit::{Head, StoredCheckpoint},
    },
};
use uuid::Uuid;

use crate::rows::{Cells, backend, time};

/// An entry's place in its chain, before what it says.
const PLACE: [Column; 4] = [
    Column { name: "chain", kind: ColumnKind::Bytes },
    Column { name: "seq", kind: ColumnKind::Integer },
    Column { name: "prev", kind: ColumnKind::Bytes },
    Column { name: "hash", kind: ColumnKind::Bytes },
];

/// All columns of a row.
pub(crate) fn columns() -> impl Iterator<Item = &'static Column> {
    PLACE.iter().chain(Entry::COLUMNS)
}

/// Their names, as they stand in a statement.
pub(crate) fn names() -> String {
    columns().map(|column| column.name).collect::<Vec<_>>().join(", ")
}

/// The values of an entry's row.
pub(crate) fn values(sealed: &Sealed) -> impl Iterator<Item = Value<'_>> {
    let place = [
        Value::Bytes(sealed.chain.as_bytes()),
        Value::Integer(place_of(sealed.seq)),
        Value::Bytes(&sealed.prev),
        Value::Bytes(&sealed.hash),
    ];
    place.into_iter().chain(sealed.entry.values())
}

/// A place in a chain as databases count.
pub(crate) fn place_of(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// The entry of a row that was selected by [`names`]; `None` where that is none any more.
pub(crate) fn sealed(row: &impl Cells) -> Option<Sealed> {
    let mut values = columns().enumerate().map(|(place, column)| row.owned(place, column.kind));
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
    let entry = Entry::from_values(values.collect::<Option<Vec<_>>>()?).ok()?;
    Some(Sealed { chain, seq: u64::try_from(seq).ok()?, prev, hash, entry })
}

/// Rows of a chain, each with its place.
pub(crate) fn places(rows: &[impl Cells]) -> Result<Vec<(u64, Option<Sealed>)>, StoreError> {
    let place = |row| Ok((u64::try_from(Cells::number(row, "seq")?).map_err(backend)?, sealed(row)));
    rows.iter().map(place).collect()
}

/// Rows that are all to be entries.
pub(crate) fn entries(rows: &[impl Cells]) -> Result<Vec<Sealed>, StoreError> {
    let entry = |row| {
        sealed(row).ok_or_else(|| {
            let seq = Cells::number(row, "seq").unwrap_or_default();
            backend(format!("entry {seq} of the audit log cannot be read: run `synapse audit verify`"))
        })
    };
    rows.iter().map(entry).collect()
}

/// A row that has a `chain`, and the `seq` and `hash` of its last entry.
pub(crate) fn head(row: &impl Cells) -> Result<(Uuid, Head), StoreError> {
    let damaged = || backend("the last entry of a chain cannot be read: run `synapse audit verify`");
    let chain = row.optional_bytes("chain")?.and_then(|bytes| Uuid::from_slice(&bytes).ok());
    let seq = u64::try_from(row.number("seq")?).ok();
    let hash = row.optional_bytes("hash")?.and_then(|bytes| Digest::try_from(bytes).ok());
    let (chain, seq, hash) =
        (chain.ok_or_else(damaged)?, seq.ok_or_else(damaged)?, hash.ok_or_else(damaged)?);
    Ok((chain, Head { seq, hash }))
}

/// The row of a checkpoint.
pub(crate) fn checkpoint(chain: Uuid, row: &impl Cells) -> Result<StoredCheckpoint, StoreError> {
    let seq = u64::try_from(row.number("seq")?).map_err(backend)?;
    Ok(StoredCheckpoint { chain, seq, at: time(row, "at")?, note: row.text("note")? })
}

/// One entry for each place, the first that claims it, without those `taken`.
pub(crate) fn first_claims<'e>(entries: &'e [Sealed], taken: &HashSet<(Uuid, i64)>) -> Vec<&'e Sealed> {
    let mut claimed = HashSet::with_capacity(entries.len());
    let is_first = |sealed: &&Sealed| {
        let place = (sealed.chain, place_of(sealed.seq));
        !taken.contains(&place) && claimed.insert(place)
    };
    entries.iter().filter(is_first).collect()
}

/// The places that entries claim in a chain: from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) chain: Uuid,
    pub(crate) first: i64,
    pub(crate) last: i64,
}

/// What these entries claim, chain by chain, always in the same order of chains.
pub(crate) fn claims(entries: &[Sealed]) -> Vec<Claim> {
    let mut claims = BTreeMap::<Uuid, Claim>::new();
    for sealed in entries {
        let (chain, seq) = (sealed.chain, place_of(sealed.seq));
        let claim = claims.entry(chain).or_insert(Claim { chain, first: seq, last: seq });
        (claim.first, claim.last) = (seq.min(claim.first), seq.max(claim.last));
    }
    claims.into_values().collect()
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
