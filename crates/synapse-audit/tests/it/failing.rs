//! A journal on a disk that does not keep what is written, as systems behave then: what could not be written counts as
//! written from then on, so that the next sync succeeds without it.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use synapse_audit::journal::{Disk, Journal, Options, Receipt, Unavailable};
use synapse_core::audit::entry::Link;

use crate::texts::{accepted, change, closed};

/// Bytes and where they stand.
type Write = (u64, Vec<u8>);

/// A disk, as it would be found after a power cut.
#[derive(Debug, Default)]
struct Kept {
    /// Files by their number: what is on disk, and what is still to be written.
    files: HashMap<u64, (Vec<u8>, Vec<Write>)>,
    /// Syncs of files and folders so far, and those that fail.
    syncs: u32,
    failing: HashSet<u32>,
    /// Whether the system forgets at once what it could not write.
    forgets: bool,
}

#[derive(Clone, Debug, Default)]
struct Frail(Arc<Mutex<Kept>>);

fn number(file: &File) -> u64 {
    file.metadata().expect("metadata").ino()
}

impl Frail {
    fn failing_at(syncs: impl IntoIterator<Item = u32>) -> Self {
        let disk = Self::default();
        disk.kept().failing = syncs.into_iter().collect();
        disk
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("a disk")
    }

    /// Fails from now on, or no more.
    fn fail(&self, fails: bool) {
        let mut kept = self.kept();
        kept.failing = if fails { (0..10_000).collect() } else { HashSet::new() };
    }

    /// Opens what would be there after a power cut now.
    fn after_power_cut(&self, folder: &Path) -> (tempfile::TempDir, u64, Vec<[u8; 32]>) {
        let copy = tempfile::tempdir().expect("a folder");
        let kept = self.kept();
        for file in fs::read_dir(folder).expect("a folder") {
            let (path, name) = file.map(|file| (file.path(), file.file_name())).expect("a file");
            let number = fs::metadata(&path).expect("metadata").ino();
            match kept.files.get(&number) {
                Some((bytes, _)) => fs::write(copy.path().join(name), bytes).expect("written"),
                None => drop(fs::copy(&path, copy.path().join(name)).expect("copied")),
            }
        }
        drop(kept);
        let (journal, found) = Journal::open(copy.path(), Options::default()).expect("a sound journal");
        let entries = links(&journal);
        (copy, found.next, entries.iter().map(|entry| entry.hash).collect())
    }

    fn next_sync(kept: &mut Kept) -> io::Result<()> {
        kept.syncs += 1;
        if kept.failing.contains(&kept.syncs) { Err(io::Error::other("a bad sector")) } else { Ok(()) }
    }
}

impl Disk for Frail {
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)?;
        self.kept().files.entry(number(file)).or_default().1.push((offset, bytes.to_vec()));
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let mut kept = self.kept();
        let outcome = Self::next_sync(&mut kept);
        let forgets = kept.forgets;
        let (on_disk, waiting) = kept.files.entry(number(file)).or_default();
        for (offset, bytes) in waiting.drain(..) {
            let (begin, end) = (offset as usize, offset as usize + bytes.len());
            if outcome.is_ok() {
                on_disk.resize(end.max(on_disk.len()), 0);
                on_disk[begin..end].copy_from_slice(&bytes);
            } else if forgets {
                file.write_all_at(&vec![0; bytes.len()], offset)?;
            }
        }
        outcome
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Self::next_sync(&mut self.kept())
    }
}

fn small() -> Options {
    Options { max_bytes: 1 << 20, ..Options::default() }
}

fn open(disk: &Frail, folder: &Path) -> Journal {
    Journal::open_on(Arc::new(disk.clone()), folder, small()).expect("a journal").0
}

/// The links of all entries that are on disk.
fn links(journal: &Journal) -> Vec<Link> {
    let stretch = journal.read_from(0, 100_000).expect("entries");
    stretch.iter().filter_map(|(_, standing)| standing).map(|standing| standing.link).collect()
}

/// Appends until the journal takes it.
fn insist(journal: &Journal, text: &str) -> Receipt {
    loop {
        if let Ok(receipt) = journal.append(&change(text)) {
            return receipt;
        }
        thread::yield_now();
    }
}

#[tokio::test]
async fn a_disk_that_refuses_stops_the_journal_which_says_why_and_goes_on_when_it_can() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Frail::default();
    let journal = open(&disk, folder.path());
    let (first, reservation) = journal.accept(&accepted("a")).expect("accepted");
    journal.on_disk(first.seq).await.expect("on disk");
    disk.fail(true);
    let second = journal.append(&change("x")).expect("appended, and no more is said");
    let refusal = journal.on_disk(second.seq).await.expect_err("it is not on disk");
    assert!(matches!(&refusal, Unavailable::Unsynced(why) if why.to_string() == "a bad sector"), "{refusal}");
    for refused in
        [journal.check(), journal.append(&change("y")).map(drop), journal.accept(&accepted("b")).map(drop)]
    {
        assert!(matches!(refused, Err(Unavailable::Unsynced(_))), "{refused:?}");
    }
    let last = journal.close(reservation, &closed("a")).expect("ends are taken, and wait");
    assert!(journal.on_disk(last.seq).await.is_err());
    assert_eq!(journal.status().on_disk, first.seq + 1);
    assert_eq!(links(&journal).len(), 1, "only what is on disk is shipped");
    disk.fail(false);
    let after = insist(&journal, "z");
    journal.on_disk(after.seq).await.expect("on disk");
    let entries = links(&journal);
    let hashes: Vec<_> = entries.iter().map(|entry| entry.hash).collect();
    assert_eq!(hashes, [first, second, last, after].map(|receipt| receipt.hash));
    let (_copy, next, found) = disk.after_power_cut(folder.path());
    assert_eq!((next, found), (4, hashes));
}

#[tokio::test]
async fn what_was_said_to_be_on_disk_survives_a_power_cut_whenever_the_disk_failed() {
    // The journal syncs a few times when it is opened; each turn after that syncs a file or two, and the folder.
    let patterns: [&[u32]; 7] = [&[4], &[5], &[6], &[7, 8], &[5, 7, 9], &[6, 8], &[9, 10, 11]];
    let runs = patterns.map(|failing| {
        tokio::task::spawn_blocking(move || {
            let folder = tempfile::tempdir().expect("a folder");
            let disk = Frail::failing_at(failing.iter().copied());
            let journal = open(&disk, folder.path());
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let (mut hashes, mut on_disk) = (Vec::new(), 0);
            for number in 0..60 {
                // Some of them are as large as an entry may be, so that segments are used up.
                let receipt = insist(&journal, &"x".repeat(if number % 3 == 0 { 7000 } else { 10 }));
                hashes.push(receipt.hash);
                if number % 5 == 0 && runtime.block_on(journal.on_disk(receipt.seq)).is_ok() {
                    on_disk = receipt.seq + 1;
                    let (_copy, next, found) = disk.after_power_cut(folder.path());
                    assert!(next >= on_disk, "{failing:?}: {next} of {on_disk}");
                    assert_eq!(found, hashes[..found.len()], "{failing:?}");
                }
            }
            assert!(on_disk > 0 && disk.kept().syncs > 11, "{failing:?}");
        })
    });
    for run in runs {
        run.await.expect("a run");
    }
}

#[tokio::test]
async fn what_the_system_has_forgotten_is_not_made_up_and_the_next_start_goes_on_without_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Frail::default();
    let journal = open(&disk, folder.path());
    let kept = journal.append(&change("kept")).expect("appended");
    journal.on_disk(kept.seq).await.expect("on disk");
    disk.kept().forgets = true;
    disk.fail(true);
    let lost = journal.append(&change("lost")).expect("appended");
    assert!(journal.on_disk(lost.seq).await.is_err());
    disk.fail(false);
    let refusal = loop {
        match journal.check() {
            Err(refusal @ Unavailable::Lost) => break refusal,
            _ => thread::yield_now(),
        }
    };
    assert!(refusal.to_string().contains("restart"), "{refusal}");
    assert!(matches!(journal.append(&change("y")), Err(Unavailable::Lost)));
    drop(journal);
    let (journal, found) = Journal::open(folder.path(), small()).expect("a journal");
    assert_eq!(found.next, 1);
    let next = journal.append(&change("z")).expect("appended");
    journal.on_disk(next.seq).await.expect("on disk");
    let entries = links(&journal);
    assert_eq!((entries[0].hash, entries[1].prev), (kept.hash, kept.hash));
}

#[tokio::test]
async fn a_journal_that_is_opened_again_does_not_believe_that_what_it_finds_is_on_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Frail::default();
    let journal = open(&disk, folder.path());
    disk.fail(true);
    let receipt = journal.append(&change("x")).expect("appended");
    assert!(journal.on_disk(receipt.seq).await.is_err());
    // The process ends; the system still has what it could not write, and believes that it is written.
    drop(journal);
    disk.fail(false);
    let journal = open(&disk, folder.path());
    let (_copy, next, found) = disk.after_power_cut(folder.path());
    assert_eq!((next, found), (1, vec![receipt.hash]));
    drop(journal);
}
