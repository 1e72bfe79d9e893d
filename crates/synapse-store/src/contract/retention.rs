//! What every store promises of putting old months of the audit log away.

use jiff::Timestamp;
use synapse_core::{
    audit::entry::{Entry, EntryKind, Sealed},
    store::{
        StoreError,
        audit::{AuditFilter, AuditStore, StoredCheckpoint},
        retention::{Aged, Hold, RetentionStore, StoredAnchor},
    },
};
use uuid::Uuid;

use super::{Database, append, sealed};

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn entry(chain: Uuid, seq: u64, at: &str) -> Sealed {
    sealed(chain, seq, Entry::new(EntryKind::RequestClosed, time(at)))
}

fn anchor(chain: Uuid, next: u64) -> StoredAnchor {
    StoredAnchor { chain, next, at: time("2026-01-01T00:00:00Z"), note: format!("an anchor at {next}") }
}

pub(crate) async fn months_are_put_away_and_the_rest_stays(db: impl Database) {
    let store = db.open().await;
    let (old, both) = (Uuid::now_v7(), Uuid::now_v7());
    let entries = [
        entry(old, 0, "2024-03-31T23:59:59Z"),
        entry(both, 0, "2024-03-01T00:00:00Z"),
        entry(both, 1, "2024-04-02T00:00:00Z"),
        entry(both, 2, "2024-05-01T00:00:00Z"),
    ];
    append(&store, &entries).await.expect("appended");
    for seq in [0, 2] {
        let at = entries[usize::from(seq == 2) * 2 + 1].entry.at;
        let checkpoint = StoredCheckpoint { chain: both, seq, at, note: format!("up to {seq}") };
        store.add_checkpoint(&checkpoint).await.expect("kept");
    }
    let may = time("2024-05-01T00:00:00Z");
    assert_eq!(store.aged_chains(time("2024-03-01T00:00:00Z")).await.expect("none"), []);
    let aged = store.aged_chains(may).await.expect("chains");
    let expected = [Aged { chain: old, last: 0, left: None }, Aged { chain: both, last: 1, left: Some(2) }];
    assert_eq!(aged, expected);
    for anchor in [anchor(old, 1), anchor(both, 1), anchor(both, 2)] {
        store.add_anchor(&anchor).await.expect("kept");
    }
    assert_eq!(store.retire_months(may).await.expect("retired"), 3);
    assert_eq!(store.retire_months(may).await.expect("again"), 0);
    assert_eq!(store.aged_chains(may).await.expect("none"), []);
    let left = db.open().await.list_entries(&AuditFilter::default(), 10).await.expect("a list");
    assert_eq!(left, entries[3..]);
    let checkpoints = store.list_checkpoints(both, 0, 10).await.expect("checkpoints");
    assert_eq!(checkpoints.iter().map(|checkpoint| checkpoint.seq).collect::<Vec<_>>(), [2]);
    // An entry of a month that is gone has a place again, as one of a clock that was set back.
    append(&store, &[entry(both, 3, "2024-03-05T00:00:00Z")]).await.expect("appended");
    let aged = store.aged_chains(may).await.expect("chains");
    assert_eq!(aged, [Aged { chain: both, last: 3, left: Some(2) }]);
}

pub(crate) async fn anchors_are_listed_with_the_furthest_of_each_chain_first(db: impl Database) {
    let store = db.open().await;
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    for anchor in [anchor(one, 7), anchor(one, 9), anchor(one, 8), anchor(two, 1)] {
        store.add_anchor(&anchor).await.expect("kept");
    }
    store.add_anchor(&StoredAnchor { note: "another".into(), ..anchor(one, 9) }).await.expect("passed over");
    assert_eq!(
        db.open().await.anchors().await.expect("anchors"),
        [anchor(one, 9), anchor(one, 8), anchor(one, 7), anchor(two, 1)]
    );
}

pub(crate) async fn a_hold_is_in_force_until_it_is_released(db: impl Database) {
    let store = db.open().await;
    let hold = |id: &str, since, at| Hold {
        id: id.to_owned(),
        since,
        reason: "a lawsuit \0 '; --".into(),
        at: time(at),
        released_at: None,
    };
    let all = hold("one", None, "2026-01-01T00:00:00Z");
    let some = hold("two", Some(time("2025-06-01T00:00:00Z")), "2026-02-01T00:00:00.000001Z");
    store.add_hold(&all).await.expect("kept");
    store.add_hold(&some).await.expect("kept");
    assert_eq!(store.holds().await.expect("holds"), [some.clone(), all]);
    let released = store.release_hold("one").await.expect("released");
    assert!(released.released_at.is_some());
    assert_eq!(store.release_hold("one").await.expect("again"), released, "the first time counts");
    assert_eq!(db.open().await.holds().await.expect("holds"), [some, released]);
    let missing = store.release_hold("three").await.expect_err("nothing");
    assert!(matches!(missing, StoreError::NotFound { .. }), "{missing}");
}
