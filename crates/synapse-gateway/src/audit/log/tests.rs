//! The log on disks that refuse, and on disks that make writers wait; storms of strangers.

use std::{
    os::unix::fs::FileExt,
    sync::{Condvar, Mutex},
    time::Duration,
};

use synapse_audit::journal::{Disk, Options};
use synapse_core::audit::{Actor, entry::EntryKind};

use super::*;
use crate::{
    audit::{RecordSink, Records},
    metrics::Metrics,
};

#[test]
fn a_storm_of_wrong_keys_from_everywhere_leaves_most_of_the_journal_to_others_and_is_told_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { max_bytes: 1 << 20, ..Options::default() };
    let (journal, found) = Journal::open(folder.path(), options).expect("a journal");
    let journal = Arc::new(journal);
    let log = AuditLog::new((Arc::clone(&journal), found.chain), None, Durability::Journal);
    let lost = Counter::default();
    log.count_lost(lost.clone());
    // Ten minutes in which nothing is shipped; no network does more than is told one by one.
    let count = 600 * 300_u64;
    for number in 0..count {
        let second = Timestamp::from_second(1_800_000_000 + (number / 300) as i64).expect("a time");
        let mut entry = Entry::new(EntryKind::RequestClosed, second);
        entry.source = Some(format!("10.{}.{}.0/24", number / 256 % 256, number % 256).into());
        log.refuse_stranger(&entry);
    }
    let told = journal.status().next;
    assert!((1..count / 2).contains(&told), "{told}");
    // On a machine that is slow, there may be room left.
    let mut filler = 0;
    while journal.append_minor(&Entry::new(EntryKind::RefusalsCounted, Timestamp::now())).is_ok() {
        filler += 1;
    }
    assert_eq!(journal.status().next, told + filler);
    assert!(log.count_refusals() > 0, "for all those networks there is no room now");
    assert_eq!(lost.get(), 0);
    let bytes: u64 = segments(folder.path());
    assert!(bytes <= (1 << 20) / 5 + (1 << 10), "{bytes}");
    let untold: u64 = log.refusals.take().iter().map(|(_, untold)| untold.count).sum();
    assert_eq!(told + untold, count);
    assert!(journal.append(&Entry::new(EntryKind::AdminChange, Timestamp::now())).is_ok());
}

/// A disk that keeps nothing while it is told not to.
#[derive(Debug, Default)]
struct Frail(AtomicBool);

impl Disk for Frail {
    fn sync(&self, file: &std::fs::File) -> std::io::Result<()> {
        if self.0.load(Ordering::Relaxed) {
            Err(std::io::Error::other("a bad sector"))
        } else {
            file.sync_data()
        }
    }
}

/// A disk whose writers wait at a gate, for ten seconds at most.
#[derive(Debug, Default)]
struct Gated {
    is_closed: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicBool,
}

impl Gated {
    fn close(&self, is_closed: bool) {
        *self.is_closed.lock().expect("a gate") = is_closed;
        self.opened.notify_all();
    }
}

impl Disk for Gated {
    fn write(&self, file: &std::fs::File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        let gate = self.is_closed.lock().expect("a gate");
        self.waiting.store(*gate, Ordering::Relaxed);
        let limit = Duration::from_secs(10);
        drop(self.opened.wait_timeout_while(gate, limit, |is_closed| *is_closed).expect("a gate"));
        self.waiting.store(false, Ordering::Relaxed);
        file.write_all_at(bytes, offset)
    }
}

#[tokio::test]
async fn a_write_that_is_stuck_holds_up_nobody_but_those_who_need_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Arc::new(Gated::default());
    let opened = Journal::open_on(Arc::clone(&disk) as _, folder.path(), Options::default());
    let (journal, found) = opened.expect("a journal");
    let journal = Arc::new(journal);
    let log = Arc::new(AuditLog::new((Arc::clone(&journal), found.chain), None, Durability::Journal));
    let records = Records::new(Arc::new(Metrics::new()), Arc::new(Nowhere), Some(log));
    let open = || records.open("r".into(), "POST /v1/chat/completions", Actor::default());
    let (mut served, mut left, mut refused) = (open(), open(), open());
    served.accept().await.expect("accepted");
    left.accept().await.expect("accepted");
    refused.actor(|actor| actor.key = Some("key".into()));
    disk.close(true);
    let stuck = {
        let journal = Arc::clone(&journal);
        std::thread::spawn(move || journal.append(&Entry::new(EntryKind::AdminChange, Timestamp::now())))
    };
    while !disk.waiting.load(Ordering::Relaxed) {
        std::thread::yield_now();
    }
    let settled = served.close().expect("something to wait for");
    drop(left);
    let told = refused.close().expect("something to wait for");
    assert!(open().close().is_none(), "a stranger is counted");
    let mut late = open();
    let mut late = Box::pin(late.accept());
    assert!((&mut late).now_or_never().is_none());
    assert!(disk.waiting.load(Ordering::Relaxed), "nobody has waited for the gate");
    disk.close(false);
    assert!(settled.await && told.await);
    late.await.expect("accepted");
    stuck.join().expect("it ends").expect("appended");
    while journal.status().next < 7 {
        tokio::task::yield_now().await;
    }
}

struct Nowhere;

impl RecordSink for Nowhere {
    fn accept(&self, _: &RequestRecord) {}
}

#[tokio::test]
async fn while_the_disk_keeps_nothing_no_request_is_let_through_and_it_is_said_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Arc::new(Frail::default());
    let opened = Journal::open_on(Arc::clone(&disk) as _, folder.path(), Options::default());
    let (journal, found) = opened.expect("a journal");
    let journal = Arc::new(journal);
    let log = Arc::new(AuditLog::new((journal, found.chain), None, Durability::Fsync));
    let metrics = Arc::new(Metrics::new());
    let records = Records::new(metrics, Arc::new(Nowhere), Some(Arc::clone(&log)));
    let open = || records.open("r".into(), "POST /v1/chat/completions", Actor::default());
    let mut served = open();
    served.accept().await.expect("accepted");
    disk.0.store(true, Ordering::Relaxed);
    let mut under_way = open();
    for record in [&mut under_way, &mut open()] {
        let fault = record.accept().await.expect_err("a refusal");
        let why = fault.source.as_ref().expect("a reason").to_string();
        assert!(fault.kind == FaultKind::AuditUnavailable && why.contains("a bad sector"), "{why}");
    }
    assert!(log.check().is_err());
    let settled = served.close().expect("something to wait for");
    assert!(!settled.await, "an end that is not on disk is no end");
    disk.0.store(false, Ordering::Relaxed);
    while open().accept().await.is_err() {
        tokio::task::yield_now().await;
    }
}

/// Bytes of entries in a journal's folder.
fn segments(folder: &std::path::Path) -> u64 {
    let files = std::fs::read_dir(folder).expect("a folder").flatten();
    let segments = files.filter(|file| file.path().extension().is_some_and(|ending| ending == "segment"));
    segments.map(|file| file.metadata().expect("a file").len()).sum()
}
