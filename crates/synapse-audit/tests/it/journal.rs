//! The journal: appended to, shipped, killed, full.

use std::{fs, path::Path, sync::Arc, thread, time::Duration};

use synapse_audit::{
    chain::{self, BEFORE_FIRST},
    journal::{Journal, OpenError, Options, Recovered, Unavailable},
};
use synapse_core::audit::{canonical::decode, entry::Sealed, stretch::Standing};

use crate::texts::{accepted, change, closed};

fn open(folder: &Path) -> (Journal, Recovered) {
    Journal::open(folder, Options::default()).expect("a journal")
}

fn small() -> Options {
    Options { max_bytes: 1 << 20, ..Options::default() }
}

/// All entries from this place on, once they are on disk.
async fn all(journal: &Journal, from: u64) -> Vec<Sealed> {
    let next = journal.status().next;
    if next > from {
        journal.on_disk(next - 1).await.expect("on disk");
    }
    let mut entries = Vec::new();
    while from + (entries.len() as u64) < next {
        let stretch = journal.read_from(from + entries.len() as u64, 100).expect("entries");
        entries.extend(stretch.iter().filter_map(|(_, standing)| standing).map(
            |Standing { link, canonical }| {
                let (chain, seq, entry) = decode(canonical).expect("an entry");
                assert_eq!((chain, seq), (link.chain, link.seq));
                Sealed { chain, seq, prev: link.prev, hash: link.hash, entry }
            },
        ));
    }
    entries
}

fn assert_chained(entries: &[Sealed], first: u64, mut prev: [u8; 32]) {
    for (entry, seq) in entries.iter().zip(first..) {
        assert_eq!((entry.seq, entry.prev), (seq, prev));
        assert_eq!(entry.hash, chain::expected_hash(entry), "entry {seq}");
        prev = entry.hash;
    }
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path()).collect();
    found.retain(|path| path.extension().is_some_and(|ending| ending == "segment"));
    found.sort();
    found
}

#[tokio::test]
async fn what_is_appended_is_read_in_order_and_chained() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, found) = open(folder.path());
    assert!(found.is_new && found.open.is_empty());
    let (first, reservation) = journal.accept(&accepted("a")).expect("accepted");
    let second = journal.append(&change("x")).expect("appended");
    let third = journal.close(reservation, &closed("a")).expect("closed");
    let entries = all(&journal, 0).await;
    assert_chained(&entries, 0, BEFORE_FIRST);
    let hashes: Vec<_> = entries.iter().map(|entry| (entry.seq, entry.hash)).collect();
    assert_eq!(hashes, [first, second, third].map(|receipt| (receipt.seq, receipt.hash)));
    assert!(entries.iter().all(|entry| entry.chain == found.chain));
    assert_eq!(all(&journal, 2).await, entries[2..]);
}

#[tokio::test]
async fn a_journal_that_is_opened_again_goes_on_with_its_chain() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, found) = open(folder.path());
    let receipts = ["0", "1", "2", "3", "4"].map(|text| journal.append(&change(text)).expect("appended"));
    drop(journal);
    let (journal, again) = open(folder.path());
    assert_eq!((again.chain, again.next, again.is_new, again.cut_bytes), (found.chain, 5, false, 0));
    journal.append(&change("after")).expect("appended");
    let entries = all(&journal, 0).await;
    assert_chained(&entries, 0, BEFORE_FIRST);
    assert_eq!(entries[5].prev, receipts[4].hash);
}

#[tokio::test]
async fn a_kill_at_any_byte_loses_at_most_what_was_being_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(folder.path());
    let mut ends = Vec::new();
    for n in 0..4 {
        journal.append(&change(&format!("entry {n}"))).expect("appended");
        ends.push(fs::metadata(&segments(folder.path())[0]).expect("a segment").len());
    }
    // Not dropped in good order: what a kill leaves.
    let whole = fs::read(&segments(folder.path())[0]).expect("a segment");
    for length in ends[1]..=ends[3] {
        let killed = tempfile::tempdir().expect("a folder");
        fs::write(killed.path().join("000000000000.segment"), &whole[..length as usize]).expect("written");
        let (journal, found) = open(killed.path());
        let kept = ends.iter().filter(|end| **end <= length).count();
        assert_eq!(found.next, kept as u64, "cut at {length}");
        assert_eq!(found.cut_bytes, length - ends[kept - 1]);
        journal.append(&change("after")).expect("appended");
        let entries = all(&journal, 0).await;
        assert_eq!(entries.len(), kept + 1);
        assert_chained(&entries, 0, BEFORE_FIRST);
    }
}

#[tokio::test]
async fn damage_to_what_had_been_on_disk_is_named_and_nothing_is_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(folder.path());
    let mut ends = Vec::new();
    for n in 0..4 {
        let receipt = journal.append(&change(&format!("entry {n}"))).expect("appended");
        journal.on_disk(receipt.seq).await.expect("on disk");
        ends.push(fs::metadata(&segments(folder.path())[0]).expect("a segment").len());
    }
    drop(journal);
    let segment = segments(folder.path())[0].clone();
    let whole = fs::read(&segment).expect("a segment");
    for at in ends[0]..ends[1] {
        let mut damaged = whole.clone();
        damaged[at as usize] ^= 0x10;
        fs::write(&segment, &damaged).expect("written");
        match Journal::open(folder.path(), Options::default()) {
            Err(OpenError::Damaged { segment: named, offset, .. }) => {
                assert_eq!((named, offset), (segment.clone(), ends[0]));
            }
            other => panic!("byte {at}: {other:?}"),
        }
        assert_eq!(fs::read(&segment).expect("a segment"), damaged);
    }
}

#[tokio::test]
async fn entries_that_were_shipped_are_not_missing_at_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(folder.path());
    let receipt = journal.append(&change("x")).expect("appended");
    journal.on_disk(receipt.seq).await.expect("on disk");
    journal.acknowledge(receipt.seq).expect("acknowledged");
    drop(journal);
    let segment = fs::File::options().write(true).open(&segments(folder.path())[0]).expect("a segment");
    segment.set_len(segment.metadata().expect("metadata").len() - 1).expect("cut");
    let refusal = Journal::open(folder.path(), Options::default()).expect_err("damage").to_string();
    assert!(refusal.contains("shipped"), "{refusal}");
    segment.set_len(0).expect("cut");
    let refusal = Journal::open(folder.path(), Options::default()).expect_err("damage").to_string();
    assert!(refusal.contains("shipped"), "{refusal}");
}

#[tokio::test]
async fn what_a_power_cut_left_in_holes_is_cut_off() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(folder.path());
    let receipt = journal.append(&change("kept")).expect("appended");
    journal.on_disk(receipt.seq).await.expect("on disk");
    let kept = fs::metadata(&segments(folder.path())[0]).expect("a segment").len();
    // A burst that ends before the disk has any of it: each of these says that only the first entry was on disk.
    let killed = tempfile::tempdir().expect("a folder");
    let mut bytes = Vec::new();
    for n in 0..3 {
        journal.append(&change(&format!("lost {n}"))).expect("appended");
        bytes = fs::read(&segments(folder.path())[0]).expect("a segment");
    }
    let on_disk = journal.status().on_disk;
    for byte in &mut bytes[kept as usize..kept as usize + 20] {
        *byte = 0;
    }
    fs::write(killed.path().join("000000000000.segment"), &bytes).expect("written");
    match Journal::open(killed.path(), Options::default()) {
        Ok((_, found)) => assert_eq!((found.next, found.cut_bytes), (1, bytes.len() as u64 - kept)),
        // The thread was quicker than this test.
        Err(error) => assert!(on_disk > 1, "{error}"),
    }
}

#[tokio::test]
async fn requests_without_an_end_are_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(folder.path());
    let (_, a) = journal.accept(&accepted("a")).expect("accepted");
    let (_, b) = journal.accept(&accepted("b")).expect("accepted");
    let (_, c) = journal.accept(&accepted("c")).expect("accepted");
    journal.close(b, &closed("b")).expect("closed");
    drop((a, c, journal));
    let (journal, mut found) = open(folder.path());
    let names: Vec<_> = found.open.iter().map(|open| open.accepted.request.clone().expect("an id")).collect();
    assert_eq!(names, ["a".into(), "c".into()]);
    journal.close(found.open.remove(0).reservation, &closed("a")).expect("closed");
    drop((journal, found));
    let (_journal, found) = open(folder.path());
    assert_eq!(found.open.iter().map(|open| open.accepted.clone()).collect::<Vec<_>>().len(), 1);
    assert_eq!(found.open[0].accepted.request, Some("c".into()));
}

#[tokio::test]
async fn a_full_journal_refuses_but_closes_and_goes_on_when_the_store_has_caught_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, _) = Journal::open(folder.path(), small()).expect("a journal");
    let (_, long) = journal.accept(&accepted("long")).expect("accepted");
    let mut reservations = Vec::new();
    let mut turns = 0_u32..;
    let refusal = loop {
        match journal.accept(&accepted("r")) {
            Ok((_, reservation)) => reservations.push(reservation),
            Err(refusal) => break refusal,
        }
        if turns.next().is_some_and(|turn| turn % 2 == 0) {
            let reservation = reservations.pop().expect("one");
            journal.close(reservation, &closed("r")).expect("closed");
        }
    };
    assert!(matches!(refusal, Unavailable::Full), "{refusal}");
    assert!(matches!(journal.check(), Err(Unavailable::Full)));
    assert!(matches!(journal.append(&change(&"x".repeat(2000))), Err(Unavailable::Full)));
    assert!(reservations.len() > 100);
    for reservation in reservations {
        journal.close(reservation, &closed("r")).expect("room was kept");
    }
    let status = journal.status();
    assert!(status.bytes <= status.max_bytes, "{status:?}");
    let entries = all(&journal, 0).await;
    assert_chained(&entries, 0, BEFORE_FIRST);
    journal.acknowledge(entries.len() as u64 - 1).expect("acknowledged");
    journal.append(&change("after")).expect("appended");
    // The segment of its beginning is gone.
    assert!(journal.read_from(0, 1).is_err());
    drop((long, journal));
    let (journal, found) = Journal::open(folder.path(), small()).expect("a journal");
    assert_eq!(found.open.len(), 1);
    assert_eq!(found.open[0].accepted.request, Some("long".into()));
    assert_eq!(journal.unshipped(), entries.len() as u64);
}

#[tokio::test]
async fn a_kill_among_many_segments_keeps_all_that_was_appended() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, _) = Journal::open(folder.path(), small()).expect("a journal");
    while segments(folder.path()).len() < 5 {
        journal.append(&change(&"x".repeat(500))).expect("appended");
    }
    let next = journal.status().next;
    // What a kill leaves, and what a write that failed left at the end of a segment that was used up.
    let killed = tempfile::tempdir().expect("a folder");
    for file in fs::read_dir(folder.path()).expect("a folder") {
        let file = file.expect("a file");
        fs::copy(file.path(), killed.path().join(file.file_name())).expect("copied");
    }
    let first = &segments(killed.path())[0];
    let mut bytes = fs::read(first).expect("a segment");
    bytes.extend_from_within(68..200);
    fs::write(first, bytes).expect("written");
    let (journal, found) = Journal::open(killed.path(), small()).expect("a journal");
    assert_eq!((found.next, found.cut_bytes), (next, 0));
    journal.append(&change("after")).expect("appended");
    let entries = all(&journal, 0).await;
    assert_eq!(entries.len() as u64, next + 1);
    assert_chained(&entries, 0, BEFORE_FIRST);
    drop(journal);
    // One of them is gone: that is no kill.
    fs::remove_file(&segments(killed.path())[1]).expect("removed");
    let refusal = Journal::open(killed.path(), small()).expect_err("damage").to_string();
    assert!(refusal.contains("damaged"), "{refusal}");
}

#[tokio::test]
async fn minor_entries_never_take_more_than_a_fifth() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, _) = Journal::open(folder.path(), small()).expect("a journal");
    let mut bytes = 0;
    while journal.append_minor(&accepted("nobody")).is_ok() {
        bytes += 300;
    }
    assert!(bytes > 100_000);
    assert!(journal.status().bytes < (1 << 20) / 2);
    journal.append(&accepted("somebody")).expect("appended");
}

#[tokio::test]
async fn entries_that_wait_too_long_for_the_store_stop_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { max_age: Duration::ZERO, ..small() };
    let (journal, _) = Journal::open(folder.path(), options).expect("a journal");
    let (first, reservation) = journal.accept(&accepted("a")).expect("accepted");
    assert!(matches!(journal.append(&change("x")), Err(Unavailable::StoreAway)));
    let last = journal.close(reservation, &closed("a")).expect("ends are always taken");
    journal.acknowledge(first.seq).expect("acknowledged");
    assert!(matches!(journal.check(), Err(Unavailable::StoreAway)));
    journal.acknowledge(last.seq).expect("acknowledged");
    journal.append(&change("y")).expect("appended");
}

#[test]
fn threads_that_append_at_once_make_one_chain() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(folder.path());
    let journal = Arc::new(journal);
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let journal = Arc::clone(&journal);
            thread::spawn(move || {
                let receipts = (0..500).map(|n| journal.append(&change(&format!("{thread} {n}"))));
                receipts.map(|receipt| receipt.expect("appended")).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut receipts: Vec<_> =
        threads.into_iter().flat_map(|thread| thread.join().expect("it ended")).collect();
    receipts.sort_by_key(|receipt| receipt.seq);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let entries = runtime.block_on(all(&journal, 0));
    assert_chained(&entries, 0, BEFORE_FIRST);
    let hashes: Vec<_> = entries.iter().map(|entry| entry.hash).collect();
    assert_eq!(hashes, receipts.iter().map(|receipt| receipt.hash).collect::<Vec<_>>());
}

#[tokio::test]
async fn whoever_needs_the_store_waits_for_the_shipper() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, _) = open(folder.path());
    let receipt = journal.append(&change("x")).expect("appended");
    let ship = async {
        journal.readable(0).await.expect("readable");
        assert_eq!(journal.read_from(0, 10).expect("entries").len(), 1);
        assert_eq!(journal.status().shipped, 0);
        journal.acknowledge(0).expect("acknowledged");
    };
    let (shipped, ()) = tokio::join!(journal.shipped(receipt.seq), ship);
    shipped.expect("shipped");
    assert_eq!(journal.status().shipped, 1);
}

#[test]
fn a_folder_that_takes_no_files_stops_the_journal_until_it_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let inside = folder.path().join("journal");
    let (journal, _) = Journal::open(&inside, small()).expect("a journal");
    let aside = folder.path().join("aside");
    fs::rename(&inside, &aside).expect("renamed");
    let refusal = loop {
        if let Err(refusal) = journal.append(&change(&"x".repeat(1000))) {
            break refusal;
        }
    };
    assert!(matches!(refusal, Unavailable::Unwritable(_)), "{refusal}");
    fs::rename(&aside, &inside).expect("renamed");
    // It tries again before long, by itself.
    while journal.append(&change("y")).is_err() {
        thread::yield_now();
    }
    let next = journal.status().next;
    drop(journal);
    let (_, found) = Journal::open(&inside, small()).expect("a journal");
    assert_eq!(found.next, next);
}

#[test]
fn an_entry_that_is_too_large_is_refused_and_leaves_no_trace() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, _) = Journal::open(folder.path(), small()).expect("a journal");
    let refusal = journal.append(&change(&"x".repeat(100_000))).expect_err("too large");
    assert!(matches!(refusal, Unavailable::TooLarge(size) if size > 100_000), "{refusal}");
    assert_eq!(journal.append(&change("x")).expect("appended").seq, 0);
}
