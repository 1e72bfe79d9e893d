//! Verification: nothing that is done to a log goes unseen.

use jiff::{SignedDuration, Timestamp};
use proptest::{prelude::*, sample::Index};
use synapse_audit::{
    anchor::Anchor,
    chain::Chain,
    checkpoint::Checkpointer,
    note::SigningKey,
    proof::{self, ProofError},
    verify::{Damage, DamageKind, Report, Verifier},
};
use synapse_core::audit::{
    entry::{ColumnKind, Entry, Owned, Sealed},
    stretch::Stretch,
};
use uuid::Uuid;

use crate::texts::{change, closed, values};

/// A log as a database and a sink have it.
#[derive(Clone)]
struct Log {
    rows: Vec<Sealed>,
    store: Vec<String>,
    sink: Vec<String>,
}

fn key() -> SigningKey {
    SigningKey::generate("synapse-audit").expect("a key")
}

/// A chain of so many entries, with a checkpoint for every ten.
fn log(key: &SigningKey, chain: Uuid, entries: usize) -> Log {
    let mut chain = Chain::new(chain);
    let mut maker = Checkpointer::new(chain.id);
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    for n in 1..=entries {
        rows.push(chain.seal(closed(&n.to_string())));
        maker.push(rows[n - 1].link()).expect("the next one");
        if n % 10 == 0 {
            notes.extend(maker.checkpoint(Timestamp::now()).map(|made| made.sign(key).note));
        }
    }
    Log { rows, store: notes.clone(), sink: notes }
}

/// The rows as a database has them.
fn stretch(rows: &[Sealed]) -> Stretch {
    let mut stretch = Stretch::new(rows[0].chain);
    for row in rows {
        stretch.push(row.seq, row.prev, row.hash, row.entry.values());
    }
    stretch
}

/// As the command line does it, in pages of `page` entries.
fn verify_in(log: &Log, key: &SigningKey, chain: Uuid, page: usize) -> Report {
    let mut verifier = Verifier::new(chain, vec![key.public().clone()], &["the database", "the file"]);
    let mut notes = [log.store.iter(), log.sink.iter()];
    for rows in log.rows.chunks(page) {
        let last = rows[rows.len() - 1].seq;
        for (source, notes) in notes.iter_mut().enumerate() {
            while verifier.covered(source) <= last {
                let Some(note) = notes.next() else { break };
                verifier.checkpoint(source, note);
            }
        }
        stretch(rows).iter().for_each(|(seq, standing)| verifier.entry(seq, standing));
    }
    for (source, notes) in notes.into_iter().enumerate() {
        notes.for_each(|note| verifier.checkpoint(source, note));
    }
    verifier.finish()
}

fn found(log: &Log, key: &SigningKey) -> Vec<(DamageKind, u64)> {
    let chain = log.rows[0].chain;
    found_in(log, key, chain)
}

fn found_in(log: &Log, key: &SigningKey, chain: Uuid) -> Vec<(DamageKind, u64)> {
    let report = verify_in(log, key, chain, 7);
    assert_eq!(report.count, report.damages.len() as u64);
    report.damages.iter().map(|damage| (damage.kind, damage.seq)).collect()
}

/// Gives the rows from here on the places that they stand at.
fn renumber(rows: &mut [Sealed]) {
    rows.iter_mut().zip(0..).for_each(|(row, seq)| row.seq = seq);
}

/// Seals the rows from here on anew, as one does who knows how.
fn reseal(rows: &mut Vec<Sealed>, from: usize) {
    let first = &rows[from];
    let mut chain = Chain { id: first.chain, next: from as u64, head: first.prev };
    let resealed: Vec<_> = rows.drain(from..).map(|row| chain.seal(row.entry)).collect();
    rows.extend(resealed);
}

#[test]
fn a_log_that_nobody_touched_is_sound_however_it_is_read() {
    let key = key();
    let chain = Uuid::now_v7();
    let log = log(&key, chain, 47);
    for page in [1, 7, 10, 100] {
        let report = verify_in(&log, &key, chain, page);
        assert!(report.is_sound(), "{:?}", report.damages);
        assert_eq!(report.entries, 47);
        assert!(report.vouched.iter().all(|vouched| (vouched.checkpoints, vouched.before) == (4, 40)));
    }
}

/// One bit of one column, in whatever way the column can hold it.
fn flip(entry: &Entry, column: usize, bit: &Index) -> Option<Entry> {
    let mut values = values(entry);
    match &mut values[column] {
        empty @ Owned::Null => {
            let filled = match Entry::COLUMNS[column].kind {
                ColumnKind::Integer => Owned::Integer(0),
                ColumnKind::Text => Owned::Text(String::new()),
                ColumnKind::Bytes => Owned::Bytes(vec![0; 32]),
            };
            *empty = filled;
        }
        Owned::Integer(number) => *number ^= 1 << bit.index(50),
        Owned::Text(text) => {
            let mut bytes = std::mem::take(text).into_bytes();
            let at = bit.index(bytes.len() * 7);
            bytes[at / 7] ^= 1 << (at % 7);
            *text = String::from_utf8(bytes).expect("ASCII");
        }
        Owned::Bytes(bytes) => {
            let at = bit.index(bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
        }
    }
    Entry::from_values(values).ok()
}

/// Verifies the entries from `log.rows[from]` on behind this anchor, in pages of seven.
fn go_on(mut verifier: Verifier, log: &Log, from: usize) -> Verifier {
    let mut notes = [log.store.iter(), log.sink.iter()];
    for rows in log.rows[from..].chunks(7) {
        for (source, notes) in notes.iter_mut().enumerate() {
            while verifier.covered(source) <= rows[rows.len() - 1].seq {
                let Some(note) = notes.next() else { break };
                verifier.checkpoint(source, note);
            }
        }
        stretch(rows).iter().for_each(|(seq, standing)| verifier.entry(seq, standing));
    }
    verifier
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_anchor_stands_in_place_of_all_entries_before_it(size in 2..60_usize, at: Index, changed: Index) {
        let (key, sources) = (key(), ["the database", "the file"]);
        let keys = vec![key.public().clone()];
        let mut log = log(&key, Uuid::now_v7(), size);
        let at = 1 + at.index(size - 1);
        let mut first = log.clone();
        first.rows.truncate(at);
        let chain = log.rows[0].chain;
        let made = go_on(Verifier::new(chain, keys.clone(), &sources), &first, 0).anchor(Timestamp::now());
        let made = made.expect("an anchor");
        let anchor = Anchor::open(&made.sign(&key).note, &keys).expect("an anchor");
        prop_assert_eq!(&anchor, &made);
        let report = go_on(Verifier::after(&anchor, keys.clone(), &sources), &log, at).finish();
        prop_assert!(report.is_sound(), "{:?}", report.damages);
        let covered = (size as u64 / 10 * 10).max(at as u64);
        prop_assert!(report.vouched.iter().all(|vouched| vouched.before == covered), "{:?}", report.vouched);
        // What stands behind it is looked at as before, and what it was made over as well.
        let seq = at + changed.index(size - at);
        log.rows[seq].hash[3] ^= 1;
        let report = go_on(Verifier::after(&anchor, keys.clone(), &sources), &log, at).finish();
        prop_assert_eq!(report.first().map(|damage| damage.seq), Some(seq as u64));
        let damaged = go_on(Verifier::new(chain, keys, &sources), &log, 0);
        prop_assert_eq!(damaged.anchor(Timestamp::now()), None);
    }

    #[test]
    fn a_bit_of_any_column_is_found_where_it_is(size in 2..45_usize, at: Index, bit: Index) {
        let key = key();
        let whole = log(&key, Uuid::now_v7(), size);
        let at = at.index(size);
        for column in 0..Entry::COLUMNS.len() {
            let mut log = whole.clone();
            // A kind with one bit changed is none: such a row cannot be read at all, which is tested below.
            let Some(entry) = flip(&log.rows[at].entry, column, &bit) else { continue };
            log.rows[at].entry = entry;
            prop_assert_eq!(found(&log, &key), [(DamageKind::Modified, at as u64)], "{}", Entry::COLUMNS[column].name);
        }
        let changes: [fn(&mut Sealed, usize); 2] = [
            |row, at| row.hash[at / 8] ^= 1 << (at % 8),
            |row, at| row.prev[at / 8] ^= 1 << (at % 8),
        ];
        for change in changes {
            let mut log = whole.clone();
            change(&mut log.rows[at], bit.index(256));
            let found = found_in(&log, &key, whole.rows[0].chain);
            prop_assert_eq!(found, [(DamageKind::Modified, at as u64)]);
        }
    }

    #[test]
    fn rows_that_are_taken_out_are_missed(size in 2..45_usize, at: Index, renumbered: bool) {
        let key = key();
        let mut log = log(&key, Uuid::now_v7(), size);
        // One at the end is another matter.
        let at = at.index(size - 1);
        log.rows.remove(at);
        if renumbered {
            renumber(&mut log.rows);
        }
        let found = found(&log, &key);
        prop_assert_eq!(found, [(DamageKind::Deleted, at as u64)]);
    }

    #[test]
    fn rows_that_are_put_in_are_found(size in 2..45_usize, at: Index) {
        let key = key();
        let mut log = log(&key, Uuid::now_v7(), size);
        let at = at.index(size);
        let mut row = log.rows[at].clone();
        row.entry = change("nobody did this");
        log.rows.insert(at, row);
        renumber(&mut log.rows);
        let found = found(&log, &key);
        prop_assert_eq!(found, [(DamageKind::Inserted, at as u64)]);
    }

    #[test]
    fn rows_that_change_places_are_found(size in 3..45_usize, a: Index, b: Index) {
        let key = key();
        let mut log = log(&key, Uuid::now_v7(), size);
        let (a, b) = (a.index(size), b.index(size));
        prop_assume!(a != b);
        let (a, b) = (a.min(b), a.max(b));
        log.rows.swap(a, b);
        renumber(&mut log.rows);
        let found = found(&log, &key);
        prop_assert_eq!(found, [(DamageKind::Reordered, a as u64), (DamageKind::Reordered, b as u64)]);
    }

    #[test]
    fn a_chain_that_is_sealed_anew_is_found_by_its_checkpoints(size in 11..60_usize, at: Index, notes_kept: bool) {
        let key = key();
        let mut log = log(&key, Uuid::now_v7(), size);
        let covered = size / 10 * 10;
        let at = at.index(covered);
        log.rows[at].entry = change("something else");
        reseal(&mut log.rows, at);
        if !notes_kept {
            log.store.truncate(at / 10);
        }
        let report = verify_in(&log, &key, log.rows[0].chain, 7);
        let first = report.first().expect("a finding").clone();
        prop_assert_eq!((first.seq, first.through), (at as u64 / 10 * 10, at as u64 / 10 * 10 + 9));
        let kinds: Vec<_> = report.damages.iter().filter(|damage| damage.seq == first.seq).map(|damage| damage.kind).collect();
        prop_assert!(kinds.contains(&DamageKind::Forked), "{:?}", report.damages);
    }

    #[test]
    fn an_entry_sealed_anew_alone_is_found(size in 2..45_usize, at: Index) {
        let key = key();
        let mut log = log(&key, Uuid::now_v7(), size);
        let at = at.index(size - 1);
        log.rows[at].entry = change("something else");
        log.rows[at].hash = synapse_audit::chain::expected_hash(&log.rows[at]);
        let first = verify_in(&log, &key, log.rows[0].chain, 7).first().expect("a finding").clone();
        // At the end of a checkpoint's entries, that is what shows first.
        prop_assert_eq!(first.kind, DamageKind::Forked);
        prop_assert!((first.seq..=first.through).contains(&(at as u64)), "{}", first);
    }

    #[test]
    fn a_tail_that_is_cut_is_missed_up_to_the_last_checkpoint(size in 20..60_usize, left: Index, notes_kept: bool) {
        let key = key();
        let mut log = log(&key, Uuid::now_v7(), size);
        let covered = size / 10 * 10;
        let left = 1 + left.index(size - 1);
        log.rows.truncate(left);
        if !notes_kept {
            log.store.truncate(left / 10);
        }
        let found = found(&log, &key);
        if left < covered {
            prop_assert!(found.contains(&(DamageKind::Truncated, left as u64)), "{:?}", found);
        } else {
            prop_assert_eq!(found, []);
        }
    }
}

#[test]
fn many_rows_that_were_changed_are_all_found() {
    let key = key();
    let mut log = log(&key, Uuid::now_v7(), 1500);
    // Every eleventh, each in another column.
    let changed: Vec<u64> = (3..1500).step_by(11).collect();
    for seq in &changed {
        let row = &mut log.rows[*seq as usize];
        let columns = (*seq as usize..).map(|column| column % Entry::COLUMNS.len());
        let mut values = values(&row.entry);
        let column =
            columns.into_iter().find(|column| matches!(values[*column], Owned::Integer(_) | Owned::Null));
        values[column.expect("a column")] = match Entry::COLUMNS[column.expect("a column")].kind {
            ColumnKind::Integer => Owned::Integer(99),
            ColumnKind::Text => Owned::Text("else".into()),
            ColumnKind::Bytes => Owned::Bytes(vec![3; 32]),
        };
        row.entry = Entry::from_values(values).expect("an entry");
    }
    let expected: Vec<_> = changed.into_iter().map(|seq| (DamageKind::Modified, seq)).collect();
    assert_eq!(found(&log, &key), expected);
}

#[test]
fn rows_that_cannot_be_read_are_named() {
    let key = key();
    let log = log(&key, Uuid::now_v7(), 15);
    let mut verifier = Verifier::new(log.rows[0].chain, vec![key.public().clone()], &["the database"]);
    verifier.checkpoint(0, &log.store[0]);
    for (seq, standing) in stretch(&log.rows).iter() {
        verifier.entry(seq, standing.filter(|_| !(4..=5).contains(&seq)));
    }
    let modified = Damage { seq: 4, through: 5, kind: DamageKind::Modified, source: None };
    assert_eq!(verifier.finish().damages, [modified]);
}

#[test]
fn checkpoints_that_are_gone_or_forged_are_named() {
    let key = key();
    let whole = log(&key, Uuid::now_v7(), 45);
    let mut gone = whole.clone();
    gone.store.remove(1);
    assert_eq!(found(&gone, &key), [(DamageKind::CheckpointMissing, 10)]);
    let mut gone = whole.clone();
    gone.store.remove(0);
    assert_eq!(found(&gone, &key), [(DamageKind::CheckpointMissing, 0)]);
    let mut gone = whole.clone();
    gone.store.pop();
    assert_eq!(found(&gone, &key), [(DamageKind::CheckpointMissing, 30)]);
    let mut forged = whole.clone();
    forged.store[2] = forged.store[2].replace("entries 20 29", "entries 20 28");
    let kinds = found(&forged, &key);
    assert_eq!(kinds, [(DamageKind::CheckpointMismatch, 20), (DamageKind::CheckpointMissing, 20)]);
    // A sink that was down for the last ones, or was added later, is not damaged.
    let mut late = whole.clone();
    late.sink.remove(0);
    late.sink.pop();
    assert_eq!(found(&late, &key), []);
    // One of another chain may be in the same sink.
    let mut shared = whole.clone();
    shared.sink.splice(1..1, log(&key, Uuid::now_v7(), 20).store);
    assert_eq!(found(&shared, &key), []);
    let mut twice = whole;
    twice.sink.insert(2, twice.sink[1].clone());
    assert_eq!(found(&twice, &key), []);
    // So may a row of them, where a gateway ended before it could keep how far the sink had come.
    let mut again = twice;
    again.sink.extend_from_within(1..);
    assert_eq!(found(&again, &key), []);
}

#[test]
fn a_proof_needs_only_the_public_key_and_bears_no_change() {
    let key = key();
    let keys = [key.public().clone()];
    let log = log(&key, Uuid::now_v7(), 20);
    let hashes: Vec<_> = log.rows[10..].iter().map(|row| row.hash).collect();
    let text = proof::prove(&log.rows[13], &hashes, &log.store[1], &keys).expect("a proof");
    let proven = proof::verify(&text, &keys).expect("it holds");
    assert_eq!((proven.sealed, proven.checkpoint.first), (log.rows[13].clone(), 10));
    for at in (0..text.len()).filter(|at| text.as_bytes()[*at].is_ascii()) {
        let mut changed = text.clone().into_bytes();
        changed[at] ^= 1;
        let changed = String::from_utf8(changed).expect("ASCII there");
        assert!(proof::verify(&changed, &keys).is_err(), "{at}: {changed}");
    }
    assert_eq!(proof::prove(&log.rows[3], &hashes, &log.store[1], &keys), Err(ProofError::Unproven));
    assert_eq!(proof::prove(&log.rows[13], &hashes[1..], &log.store[1], &keys), Err(ProofError::Unproven));
    let other = SigningKey::generate("synapse-audit").expect("a key");
    assert!(matches!(proof::verify(&text, &[other.public().clone()]), Err(ProofError::Checkpoint(_))));
}

#[test]
fn entries_that_nobody_vouches_for_are_named_unless_they_are_new() {
    let key = key();
    let whole = log(&key, Uuid::now_v7(), 25);
    let verify = |log: &Log, from_now: i64| {
        let mut verifier =
            Verifier::new(log.rows[0].chain, vec![key.public().clone()], &["the database", "the file"]);
        let now = Timestamp::now() + SignedDuration::from_mins(from_now);
        verifier.expect_vouched(now - SignedDuration::from_mins(10)..=now + SignedDuration::from_mins(10));
        go_on(verifier, log, 0).finish().damages
    };
    assert_eq!(verify(&whole, 0), []);
    for later in [20, -20] {
        let unvouched = Damage { seq: 20, through: 24, kind: DamageKind::Unvouched, source: None };
        assert_eq!(verify(&whole, later), [unvouched]);
    }
    let invented = Log { store: Vec::new(), sink: Vec::new(), ..whole };
    let unvouched = Damage { seq: 0, through: 24, kind: DamageKind::Unvouched, source: None };
    assert_eq!(verify(&invented, 20), [unvouched]);
}
