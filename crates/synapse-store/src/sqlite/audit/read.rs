//! Reading the audit log across the files of its months.

use std::{collections::BTreeMap, sync::LazyLock};

use rusqlite::{
    Connection, Row, Rows, Statement, fallible_streaming_iterator::FallibleStreamingIterator, params,
    params_from_iter, types::ValueRef,
};
use synapse_core::{
    audit::{
        entry::{ColumnKind, Owned, Sealed, Value},
        stretch::Stretch,
    },
    store::{
        StoreError,
        audit::{AuditFilter, Head, StoredCheckpoint},
        retention::Aged,
    },
};
use uuid::Uuid;

use super::{
    AT, Cell,
    months::{Month, Months},
};
use crate::{
    audit::{self, Taken, listing},
    rows::backend,
};

static READ_CHAIN: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT {} FROM entries WHERE chain = ?1 AND seq >= ?2 ORDER BY seq", audit::names())
});
static HEADS: LazyLock<String> = LazyLock::new(|| audit::heads_statement("entries"));

/// Where the place stands in every row that is read.
const SEQ: usize = 1;

/// What a chain has from one place to another.
pub(super) fn taken(months: &Months, chain: Uuid, (first, last): (i64, i64)) -> Result<Taken, StoreError> {
    let mut taken = Taken::new();
    for month in months.all()? {
        months.write(&month, |connection| {
            let mut find = connection
                .prepare_cached("SELECT seq, hash FROM entries WHERE chain = ?1 AND seq BETWEEN ?2 AND ?3")?;
            let mut rows = find.query(params![chain.as_bytes().as_slice(), first, last])?;
            while let Some(row) = rows.next()? {
                let hash = row.get_ref(1)?.as_blob().unwrap_or_default().to_vec();
                taken.insert(row.get(0)?, hash);
            }
            Ok(())
        })?;
    }
    Ok(taken)
}

pub(super) fn heads(months: &Months) -> Result<Vec<(Uuid, Head)>, StoreError> {
    let mut heads = BTreeMap::<Uuid, Head>::new();
    for (_, reader) in months.readers()? {
        let mut find = reader.prepare(&HEADS).map_err(backend)?;
        let mut rows = find.query([]).map_err(backend)?;
        while let Some(row) = rows.next().map_err(backend)? {
            let bytes = |place| row.get_ref(place).ok().and_then(|value| value.as_blob().ok());
            let seq = row.get(SEQ).map_err(backend)?;
            let (chain, head) = audit::head(bytes(0).unwrap_or_default(), seq, bytes(2).unwrap_or_default())?;
            let known = heads.entry(chain).or_insert(head);
            if head.seq > known.seq {
                *known = head;
            }
        }
    }
    Ok(heads.into_iter().collect())
}

/// Reads a chain from all months at once: a later one usually goes on where the one before it ends, but clocks may
/// have been set back.
pub(super) fn chain(months: &Months, chain: Uuid, from: u64, limit: u32) -> Result<Stretch, StoreError> {
    let readers = months.readers()?;
    merged(&readers, chain, from, limit).map_err(backend)
}

fn merged(readers: &[(Month, Connection)], chain: Uuid, from: u64, limit: u32) -> rusqlite::Result<Stretch> {
    let mut statements = readers
        .iter()
        .map(|(_, reader)| reader.prepare(&READ_CHAIN))
        .collect::<Result<Vec<Statement<'_>>, _>>()?;
    // Places below 0 are none, but somebody may have made them.
    let lowest = if from == 0 { i64::MIN } else { audit::place_of(from) };
    let range = params![chain.as_bytes().as_slice(), lowest];
    let times: Vec<_> = readers.iter().map(|(month, _)| month.times()).collect();
    let mut months = statements
        .iter_mut()
        .map(|statement| Ok(Some(statement.query(range)?)))
        .collect::<rusqlite::Result<Vec<Option<Rows<'_>>>>>()?;
    // The place that each month has next.
    let mut next = months.iter_mut().map(advance).collect::<Result<Vec<Option<i64>>, _>>()?;
    let mut stretch = Stretch::new(chain);
    while let Some((month, seq)) = first(&next) {
        let place = u64::try_from(seq).unwrap_or(0);
        // Entries of one place are told together, so that none hides behind the other at the end of a page.
        if stretch.len() >= limit as usize && stretch.last() != Some(place) {
            break;
        }
        if let Some(row) = months[month].as_ref().and_then(Rows::get) {
            // In another month's file, an entry would go with that month, and not be found by its time.
            if seq >= 0 && row.get(AT).is_ok_and(|at| times[month].contains(&at)) {
                audit::push(&mut stretch, place, (0..).map_while(|at| row.get_ref(at).ok()).map(value));
            } else {
                stretch.push_unreadable(place);
            }
        }
        next[month] = advance(&mut months[month])?;
    }
    Ok(stretch)
}

/// The month whose next entry has the lowest place.
fn first(next: &[Option<i64>]) -> Option<(usize, i64)> {
    let there = next.iter().enumerate().filter_map(|(month, seq)| Some((month, (*seq)?)));
    there.min_by_key(|(_, seq)| *seq)
}

/// Goes on to the next entry; gives its place.
fn advance(rows: &mut Option<Rows<'_>>) -> rusqlite::Result<Option<i64>> {
    let Some(reading) = rows else { return Ok(None) };
    match reading.next()? {
        Some(row) => row.get(SEQ).map(Some),
        None => {
            *rows = None;
            Ok(None)
        }
    }
}

/// What a cell holds. For what none can, bytes stand that no cell has.
fn value(cell: ValueRef<'_>) -> Value<'_> {
    match cell {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Text(text) => std::str::from_utf8(text).map_or(Value::Bytes(text), Value::Text),
        ValueRef::Blob(bytes) => Value::Bytes(bytes),
        ValueRef::Real(_) => Value::Bytes(b"a fraction"),
    }
}

/// The chains with entries in months before this one, and what they have later.
pub(super) fn aged(months: &Months, month: &Month) -> Result<Vec<Aged>, StoreError> {
    let mut aged = BTreeMap::<Uuid, Aged>::new();
    for known in months.all()? {
        let reader = months.reader(&known)?;
        let ends = "SELECT chain, min(seq), max(seq) FROM entries GROUP BY chain";
        let mut find = reader.prepare(ends).map_err(backend)?;
        let rows = find.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).map_err(backend)?;
        for row in rows {
            let (chain, first, last): (Vec<u8>, i64, i64) = row.map_err(backend)?;
            let chain = Uuid::from_slice(&chain).map_err(|_| audit::unreadable(first))?;
            let (first, last) = (first.unsigned_abs(), last.unsigned_abs());
            // Months come in order: what is later of a chain that is not old does not matter.
            if known < *month {
                let of = aged.entry(chain).or_insert(Aged { chain, last, left: None });
                of.last = of.last.max(last);
            } else if let Some(of) = aged.get_mut(&chain) {
                of.left = Some(of.left.map_or(first, |left| left.min(first)));
            }
        }
    }
    Ok(aged.into_values().collect())
}

pub(super) fn listing(months: &Months, filter: &AuditFilter, limit: u32) -> Result<Vec<Sealed>, StoreError> {
    let first = filter.since.map(Month::of);
    let end = filter.until.into_iter().chain(filter.before.map(|(at, _)| at)).min().map(Month::of);
    let mut found = Vec::new();
    for month in months.all()?.into_iter().rev() {
        let is_asked_for = first.as_ref().is_none_or(|first| *first <= month)
            && end.as_ref().is_none_or(|end| month <= *end);
        let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        if is_asked_for && left > 0 {
            let reader = months.reader(&month)?;
            let select = format!("SELECT {} FROM entries", audit::names());
            let listing = listing::entries(select, filter, left, str::to_owned);
            let mut find = reader.prepare(&listing.sql).map_err(backend)?;
            let values = listing.values.iter().map(|value| Cell(value.as_value()));
            let mut rows = find.query(params_from_iter(values)).map_err(backend)?;
            while let Some(row) = rows.next().map_err(backend)? {
                found.push(sealed(row)?);
            }
        }
    }
    Ok(found)
}

fn sealed(row: &Row<'_>) -> Result<Sealed, StoreError> {
    let owned = |place: usize, kind: ColumnKind| match (row.get_ref(place).ok()?, kind) {
        (ValueRef::Null, _) => Some(Owned::Null),
        (ValueRef::Integer(number), ColumnKind::Integer) => Some(Owned::Integer(number)),
        (ValueRef::Text(text), ColumnKind::Text) => String::from_utf8(text.to_vec()).ok().map(Owned::Text),
        (ValueRef::Blob(bytes), ColumnKind::Bytes) => Some(Owned::Bytes(bytes.to_vec())),
        _ => None,
    };
    audit::sealed(owned).ok_or_else(|| audit::unreadable(row.get(SEQ).unwrap_or_default()))
}

pub(super) fn checkpoints(
    months: &Months,
    chain: Uuid,
    from: u64,
    limit: u32,
) -> Result<Vec<StoredCheckpoint>, StoreError> {
    let mut found = Vec::new();
    for (_, reader) in months.readers()? {
        let select =
            "SELECT seq, at, note FROM checkpoints WHERE chain = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3";
        let mut find = reader.prepare(select).map_err(backend)?;
        let range = params![chain.as_bytes().as_slice(), audit::place_of(from), limit];
        let rows = find.query_map(range, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        for row in rows.map_err(backend)? {
            let (seq, at, note) = row.map_err(backend)?;
            found.push(audit::checkpoint(chain, seq, at, note)?);
        }
    }
    found.sort_by_key(|checkpoint| checkpoint.seq);
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found)
}
