//! What every store promises of the audit log.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use synapse_core::{
    audit::{
        canonical::decode,
        entry::{ColumnKind, Digest, Entry, EntryKind, Owned, Sealed, Value},
        stretch::{Standing, Stretch},
    },
    store::{
        StoreError,
        audit::{AuditFilter, AuditStore, Head, StoredCheckpoint},
        keys::KeyStore,
    },
};
use uuid::Uuid;

use super::Database;

const DAY: u64 = 24 * 3600;

fn owned(value: Value<'_>) -> Owned {
    match value {
        Value::Null => Owned::Null,
        Value::Integer(number) => Owned::Integer(number),
        Value::Text(text) => Owned::Text(text.to_owned()),
        Value::Bytes(bytes) => Owned::Bytes(bytes.to_vec()),
    }
}

/// A time so many days into a month of long ago.
fn day(days: u64) -> Timestamp {
    let start: Timestamp = "2024-03-01T00:00:00Z".parse().expect("a time");
    start + Duration::from_secs(days * DAY)
}

/// An entry that says something in every column.
pub(crate) fn full(at: Timestamp) -> Entry {
    let values = Entry::new(EntryKind::RequestClosed, at).values().map(owned);
    let filled =
        values.into_iter().enumerate().map(|(place, value)| match (value, Entry::COLUMNS[place].kind) {
            (Owned::Null, ColumnKind::Integer) => Owned::Integer(i64::MAX - place as i64),
            (Owned::Null, ColumnKind::Text) => Owned::Text(format!("{place}\0\u{FDD0}'); 研究室 🦀\n")),
            (Owned::Null, ColumnKind::Bytes) => Owned::Bytes(vec![place as u8; 32]),
            (value, _) => value,
        });
    Entry::from_values(filled).expect("an entry")
}

/// An entry in its place; the hashes only tell places apart here.
pub(crate) fn sealed(chain: Uuid, seq: u64, entry: Entry) -> Sealed {
    let digest = |seq: u64| Digest::from(std::array::from_fn(|place| seq.to_be_bytes()[place % 8]));
    Sealed { chain, seq, prev: digest(seq.wrapping_sub(1)), hash: digest(seq), entry }
}

fn plain(chain: Uuid, seq: u64, at: Timestamp) -> Sealed {
    sealed(chain, seq, Entry::new(EntryKind::RequestClosed, at))
}

/// Appends entries, chain by chain.
pub(crate) async fn append(store: &impl AuditStore, entries: &[Sealed]) -> Result<(), StoreError> {
    let mut chains = BTreeMap::new();
    for sealed in entries {
        let stretch = chains.entry(sealed.chain).or_insert_with(|| Stretch::new(sealed.chain));
        stretch.push(sealed.seq, sealed.prev, sealed.hash, sealed.entry.values());
    }
    for stretch in chains.into_values() {
        store.append_entries(stretch.into()).await?;
    }
    Ok(())
}

/// All of a chain, page by page.
async fn read(store: &impl AuditStore, chain: Uuid, page: u32) -> Vec<Sealed> {
    let mut all = Vec::new();
    let mut from = 0;
    loop {
        let entries = store.read_chain(chain, from, page).await.expect("a page");
        let Some(last) = entries.last() else { return all };
        from = last + 1;
        for (place, standing) in entries.iter() {
            let Standing { link, canonical } = standing.expect("an entry");
            let (of, seq, entry) = decode(canonical).expect("an entry");
            assert_eq!((of, seq, link.chain, link.seq), (chain, place, chain, place));
            all.push(Sealed { chain, seq, prev: link.prev, hash: link.hash, entry });
        }
    }
}

pub(crate) async fn an_entry_reads_back_as_it_was_appended(db: impl Database) {
    let store = db.open().await;
    let chain = Uuid::now_v7();
    let entries = [
        sealed(chain, 0, full(Timestamp::now())),
        plain(chain, 1, Timestamp::now()),
        sealed(chain, 2, full("1931-05-06T07:08:09.123456Z".parse().expect("a time"))),
        sealed(chain, 3, full("2612-05-06T07:08:09.123456Z".parse().expect("a time"))),
    ];
    append(&store, &[]).await.expect("nothing to append");
    append(&store, &entries).await.expect("appended");
    assert_eq!(read(&db.open().await, chain, 100).await, entries);
    assert!(read(&store, Uuid::now_v7(), 100).await.is_empty());
}

pub(crate) async fn a_place_is_taken_by_the_first_that_claims_it(db: impl Database) {
    let (store, other) = (db.open().await, db.open().await);
    let chain = Uuid::now_v7();
    let first: Vec<_> = (0..10).map(|seq| plain(chain, seq, day(1))).collect();
    append(&store, &first[..6]).await.expect("appended");
    // The same again with some that are new, as after an answer that was lost.
    append(&other, &first).await.expect("appended");
    assert_eq!(read(&store, chain, 4).await, first);
    // Others in the same places: of the same month, of another one, and twice within one call.
    for at in [day(2), day(40), day(400)] {
        let others = [forged(chain, 9, at), plain(chain, 10, at)];
        let refusal = append(&store, &others).await.expect_err("a refusal");
        assert!(format!("{refusal:?}").contains("place 9"), "{refusal:?}");
        assert_eq!(read(&other, chain, 4).await, first);
    }
    let twice = [plain(chain, 10, day(3)), forged(chain, 10, day(60))];
    append(&store, &twice).await.expect_err("a refusal");
    assert_eq!(store.list_entries(&AuditFilter::default(), 100).await.expect("a list").len(), 10);
}

/// Another entry than the one that [`plain`] makes for a place.
fn forged(chain: Uuid, seq: u64, at: Timestamp) -> Sealed {
    Sealed { hash: [9; 32], ..plain(chain, seq, at) }
}

pub(crate) async fn many_that_append_the_same_leave_it_there_once(db: impl Database) {
    let chain = Uuid::now_v7();
    let entries: Vec<_> = (0..600).map(|seq| plain(chain, seq, day(seq / 10))).collect();
    let (one, two) = (db.open().await, db.open().await);
    let (first, second) = tokio::join!(append(&one, &entries), append(&two, &entries));
    first.expect("appended");
    second.expect("appended");
    assert_eq!(read(&one, chain, 250).await, entries);
}

pub(crate) async fn a_chain_is_read_in_order_across_months_and_clocks_that_go_back(db: impl Database) {
    let store = db.open().await;
    let (chain, other) = (Uuid::now_v7(), Uuid::now_v7());
    // Days that go to and fro over five months.
    let entries: Vec<_> = (0..60).map(|seq| plain(chain, seq, day(seq * 37 % 150))).collect();
    for batch in entries.chunks(7) {
        append(&store, batch).await.expect("appended");
        append(&store, &[plain(other, batch[0].seq, day(1))]).await.expect("appended");
    }
    for page in [1, 4, 59, 60, 1000] {
        assert_eq!(read(&store, chain, page).await, entries, "{page} at a time");
    }
    let part = store.read_chain(chain, 17, 3).await.expect("a part");
    assert_eq!(part.iter().map(|(seq, _)| seq).collect::<Vec<_>>(), [17, 18, 19]);
}

pub(crate) async fn the_heads_are_the_last_entries_of_every_chain(db: impl Database) {
    let store = db.open().await;
    assert!(store.audit_heads().await.expect("heads").is_empty());
    let mut expected = Vec::new();
    for length in 1..5 {
        let chain = Uuid::now_v7();
        // The last one is not the one of the latest time.
        let entries: Vec<_> =
            (0..length).map(|seq| plain(chain, seq, day(if seq == 0 { 90 } else { seq }))).collect();
        append(&store, &entries).await.expect("appended");
        let last = entries.last().expect("an entry");
        expected.push((chain, Head { seq: last.seq, hash: last.hash }));
    }
    assert_eq!(store.audit_heads().await.expect("heads"), expected);
}

pub(crate) async fn entries_are_listed_newest_first_page_by_page(db: impl Database) {
    let store = db.open().await;
    let chain = Uuid::now_v7();
    let mut all: Vec<_> = (0..40).map(|seq| plain(chain, seq, day(seq / 3 * 9))).collect();
    append(&store, &all).await.expect("appended");
    all.sort_by_key(|sealed| (sealed.entry.at, sealed.entry.id));
    all.reverse();
    let mut seen = Vec::new();
    let mut filter = AuditFilter::default();
    loop {
        let page = store.list_entries(&filter, 7).await.expect("a page");
        let Some(last) = page.last() else { break };
        filter.before = Some((last.entry.at, last.entry.id));
        seen.extend(page);
    }
    assert_eq!(seen, all);
}

pub(crate) async fn entries_are_found_by_what_they_are_about(db: impl Database) {
    let store = db.open().await;
    let chain = Uuid::now_v7();
    let entry = |kind, days: u64, team: &str, outcome: &str| Entry {
        key: Some(format!("key-{team}").into()),
        team: Some(team.into()),
        actor: Some(format!("actor-{team}").into()),
        request: Some(format!("req-{days}").into()),
        model_asked: Some(format!("model-{days}").into()),
        outcome: Some(outcome.into()),
        incident: Some(format!("inc-{days}").into()),
        request_digest: Some([days as u8; 32]),
        reply_digest: Some([100 + days as u8; 32]),
        ..Entry::new(kind, day(days))
    };
    let entries = [
        entry(EntryKind::RequestClosed, 1, "lab", "completed"),
        entry(EntryKind::RequestClosed, 40, "a\0b", "blocked"),
        entry(EntryKind::AdminChange, 80, "lab", "blocked"),
        Entry::new(EntryKind::ChainBegun, day(90)),
        entry(EntryKind::RequestAccepted, 91, "pub", "failed"),
    ];
    let entries: Vec<_> = (0..).zip(entries).map(|(seq, entry)| sealed(chain, seq, entry)).collect();
    append(&store, &entries).await.expect("appended");
    let any = AuditFilter::default;
    let text = |text: &str| Some(text.to_owned());
    for (filter, want) in [
        (any(), vec![3, 2, 1, 0]),
        (AuditFilter { accepted: true, ..any() }, vec![4, 3, 2, 1, 0]),
        (AuditFilter { kinds: vec![EntryKind::RequestAccepted], ..any() }, vec![4]),
        (AuditFilter { team: Some("pub".into()), ..any() }, vec![]),
        (AuditFilter { team: Some("pub".into()), accepted: true, ..any() }, vec![4]),
        (AuditFilter { outcome: text("completed"), ..any() }, vec![0]),
        (AuditFilter { since: Some(day(40)), ..any() }, vec![3, 2, 1]),
        (AuditFilter { until: Some(day(40)), ..any() }, vec![0]),
        (AuditFilter { since: Some(day(2)), until: Some(day(85)), ..any() }, vec![2, 1]),
        (AuditFilter { kinds: vec![EntryKind::AdminChange], ..any() }, vec![2]),
        (
            AuditFilter { kinds: vec![EntryKind::RequestClosed, EntryKind::ChainBegun], ..any() },
            vec![3, 1, 0],
        ),
        (AuditFilter { request: text("req-40"), ..any() }, vec![1]),
        (AuditFilter { team: Some("lab".into()), ..any() }, vec![2, 0]),
        (AuditFilter { team: Some("a\0b".into()), ..any() }, vec![1]),
        (AuditFilter { key: Some("key-lab".into()), ..any() }, vec![2, 0]),
        (AuditFilter { actor: text("actor-lab"), ..any() }, vec![2, 0]),
        (AuditFilter { outcome: text("blocked"), ..any() }, vec![2, 1]),
        (AuditFilter { model: text("model-80"), ..any() }, vec![2]),
        (AuditFilter { incident: text("inc-1"), ..any() }, vec![0]),
        (AuditFilter { digest: Some([40; 32]), ..any() }, vec![1]),
        (AuditFilter { digest: Some([180; 32]), ..any() }, vec![2]),
        (AuditFilter { outcome: text("blocked"), team: Some("lab".into()), ..any() }, vec![2]),
        (AuditFilter { request: text("' OR 1=1 --"), ..any() }, vec![]),
    ] {
        let found = store.list_entries(&filter, 10).await.expect("a list");
        assert_eq!(found.iter().map(|sealed| sealed.seq).collect::<Vec<_>>(), want, "{filter:?}");
    }
}

pub(crate) async fn a_checkpoint_is_kept_once_and_listed_in_order(db: impl Database) {
    let store = db.open().await;
    let (chain, other) = (Uuid::now_v7(), Uuid::now_v7());
    let checkpoint =
        |chain, seq, days, note: &str| StoredCheckpoint { chain, seq, at: day(days), note: note.to_owned() };
    let kept = [
        checkpoint(chain, 999, 1, "one\n— signed\n"),
        checkpoint(chain, 1999, 45, "two"),
        checkpoint(chain, 2999, 20, "three"),
    ];
    for kept in [&kept[2], &kept[0], &kept[1]] {
        store.add_checkpoint(kept).await.expect("kept");
    }
    store.add_checkpoint(&checkpoint(other, 999, 1, "another chain's")).await.expect("kept");
    for days in [1, 70] {
        store.add_checkpoint(&checkpoint(chain, 999, days, "another")).await.expect("passed over");
    }
    assert_eq!(store.list_checkpoints(chain, 0, 10).await.expect("checkpoints"), kept);
    assert_eq!(store.list_checkpoints(chain, 999, 2).await.expect("checkpoints"), kept[..2]);
    assert_eq!(store.list_checkpoints(chain, 1000, 10).await.expect("checkpoints"), kept[1..]);
}

pub(crate) async fn the_audit_log_leaves_the_mark_of_keys_alone(db: impl Database) {
    let store = db.open().await;
    let mark = store.change_mark().await.expect("a mark");
    append(&store, &[plain(Uuid::now_v7(), 0, Timestamp::now())]).await.expect("appended");
    assert_eq!(store.change_mark().await.expect("a mark"), mark);
}
