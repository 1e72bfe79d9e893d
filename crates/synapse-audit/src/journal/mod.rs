//! The journal: entries are sealed into the chain and written to local files before a request goes on; a database
//! gets them later. It survives the end of the process at any moment, and has bounds.
//!
//! - [`Journal::accept`] before an engine is asked: it also keeps room for the end. [`Journal::close`] at the end.
//!   [`Journal::append`] for everything else, [`Journal::append_minor`] for what must not fill the journal.
//!   They write with one system call, on the caller's thread; see [`Journal::is_slow`].
//! - [`Journal::on_disk`] and [`Journal::shipped`] wait for more than that.
//! - The shipper waits for [`Journal::readable`], takes [`Journal::read_from`], and reports with
//!   [`Journal::acknowledge`].
//!
//! A folder has one journal at a time; the caller holds the lock on it.

mod carried;
mod disk;
mod doubt;
mod read;
mod recover;
mod segment;
mod ship;
mod sync;
mod write;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use synapse_core::audit::entry::{Digest, Entry};
use uuid::Uuid;

pub use self::disk::{Disk, SystemDisk};
use self::{sync::Shared, write::Room};

/// The bounds of a journal.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The most that it takes on the disk, in bytes; 1 MiB at least. An entry may have a 1,024th of it: at least
    /// 8 KiB, at most 256 KiB.
    pub max_bytes: u64,
    /// The longest that an entry may wait to be shipped.
    pub max_age: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_bytes: 256 << 20, max_age: Duration::from_secs(600) }
    }
}

impl Options {
    fn max_bytes(&self) -> u64 {
        self.max_bytes.max(1 << 20)
    }

    fn segment_bytes(&self) -> u64 {
        (self.max_bytes() / 32).clamp(64 << 10, 8 << 20)
    }

    fn ballast_bytes(&self) -> u64 {
        self.segment_bytes() / 2
    }

    fn largest(&self) -> u64 {
        (self.max_bytes() / 1024).clamp(8 << 10, 256 << 10)
    }
}

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refuses a file.
    #[error("{}: the audit journal cannot be used: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was damaged after it had been written.
    #[error(
        "{}: the audit journal is damaged at byte {offset}: {what}; restore the folder, or move it away to begin \
         a new chain",
        segment.display()
    )]
    Damaged {
        /// The file.
        segment: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// Why nothing can be appended now. All but the last three end by themselves when their reason does.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    /// It has reached its bound.
    #[error("the audit journal is full; see that its database takes entries, or give it more room")]
    Full,
    /// Entries wait too long for their database.
    #[error("the audit journal could not ship entries for too long; see that its database takes them")]
    StoreAway,
    /// The disk is full, or the system refuses to write.
    #[error("the audit journal cannot be written: {0}; make room on its disk, or see to its permissions")]
    Unwritable(Arc<io::Error>),
    /// The disk does not take what was written.
    #[error("the disk of the audit journal does not keep what is written: {0}; see to the disk")]
    Unsynced(Arc<io::Error>),
    /// What the disk did not take could not be read back either.
    #[error(
        "the disk of the audit journal did not keep what was written, and the system does not have it any more; see \
         to the disk and restart the gateway, which goes on behind what was kept"
    )]
    Lost,
    /// The entry is larger than one may be.
    #[error("an entry of the audit log has {0} bytes, more than one may have")]
    TooLarge(usize),
    /// The journal is closed.
    #[error("the audit journal is closed")]
    Closed,
}

/// Where an entry stands, and what proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its place in the chain.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
}

/// A request that was accepted, and room for its end. Dropped without that, the request stays open: when the
/// journal is opened next, it is found.
pub struct Reservation {
    shared: Arc<Shared>,
    seq: u64,
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reservation({})", self.seq)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.reservations.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that had been accepted and not closed when its gateway ended.
#[derive(Debug)]
pub struct OpenRequest {
    /// What accepted it.
    pub accepted: Entry,
    /// To close it with.
    pub reservation: Reservation,
}

/// What was found when a journal was opened.
#[derive(Debug)]
pub struct Recovered {
    /// The chain that it goes on with.
    pub chain: Uuid,
    /// The place of the next entry. Where the store has entries of this chain from there on, the folder is an old
    /// copy, and what would be appended would be lost: it is to be moved away, so that a new chain begins.
    pub next: u64,
    /// Whether there was none, so that the chain begins.
    pub is_new: bool,
    /// Bytes of entries that were being written when the process or the machine ended.
    pub cut_bytes: u64,
    /// Requests without an end, in the order in which they were accepted.
    pub open: Vec<OpenRequest>,
}

/// How a journal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The place of the next entry.
    pub next: u64,
    /// Entries before this place are on disk.
    pub on_disk: u64,
    /// Entries before this place are in the store.
    pub shipped: u64,
    /// What it takes on the disk.
    pub bytes: u64,
    /// The most that it may take.
    pub max_bytes: u64,
    /// How long the oldest entry has waited to be shipped.
    pub waiting: Duration,
}

/// A journal, from its opening to the drop of its last owner. Dropped, it puts all on disk.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Journal {
    /// Opens the journal in this folder, or begins one.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(folder: &Path, options: Options) -> Result<(Self, Recovered), OpenError> {
        Self::open_on(Arc::new(SystemDisk), folder, options)
    }

    /// The same, on a disk that has its own ways.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        folder: &Path,
        options: Options,
    ) -> Result<(Self, Recovered), OpenError> {
        let recovery = recover::recover(&*disk, folder, &options)?;
        let (chain, next) = (recovery.chain.id, recovery.chain.next);
        let (is_new, cut_bytes) = (recovery.is_new, recovery.cut_bytes);
        let (shared, open) = Shared::new(folder, options, disk, recovery);
        let shared = Arc::new(shared);
        let syncing = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("audit-sync".into()).spawn(move || syncing.run());
        let thread = thread.map_err(|source| OpenError::Io { path: folder.to_owned(), source })?;
        let open = open.into_iter().map(|(seq, accepted)| {
            let reservation = Reservation { shared: Arc::clone(&shared), seq };
            OpenRequest { accepted, reservation }
        });
        let recovered = Recovered { chain, next, is_new, cut_bytes, open: open.collect() };
        Ok((Self { shared, thread: Some(thread) }, recovered))
    }

    /// Appends an entry. When this returns, it survives the end of the process.
    ///
    /// # Errors
    /// [`Unavailable`]; then nothing was appended.
    pub fn append(&self, entry: &Entry) -> Result<Receipt, Unavailable> {
        self.shared.append(entry, Room::Bounded)
    }

    /// Appends an entry that must not silence others: not when a fifth of the journal is in use.
    ///
    /// # Errors
    /// [`Unavailable`]; then nothing was appended.
    pub fn append_minor(&self, entry: &Entry) -> Result<Receipt, Unavailable> {
        self.shared.append(entry, Room::Fifth)
    }

    /// Appends the entry that accepts a request, and keeps room for the one that closes it.
    ///
    /// # Errors
    /// [`Unavailable`]; then nothing was appended.
    pub fn accept(&self, entry: &Entry) -> Result<(Receipt, Reservation), Unavailable> {
        let receipt = self.shared.append(entry, Room::WithReservation)?;
        Ok((receipt, Reservation { shared: Arc::clone(&self.shared), seq: receipt.seq }))
    }

    /// Appends the entry that closes an accepted request, into the room that was kept for it: no bound of the
    /// journal stands in its way.
    ///
    /// # Errors
    /// [`Unavailable::Unwritable`] where the system refuses all the same. The request then stays open.
    pub fn close(&self, reservation: Reservation, entry: &Entry) -> Result<Receipt, Unavailable> {
        self.shared.append(entry, Room::Reserved(reservation.seq))
    }

    /// Whether the next entry should not be written on a thread that others wait for: since one took more than 5 ms
    /// within the last second (a quick one ends this), since one is stuck just now, or since the disk keeps nothing.
    pub fn is_slow(&self) -> bool {
        self.shared.was_slow() || self.shared.check_sync().is_err() || self.shared.is_stuck()
    }

    /// Why nothing could be appended now, if so: what readiness goes by.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn check(&self) -> Result<(), Unavailable> {
        self.shared.check()
    }

    /// The longest that entries may wait for the store.
    pub fn max_age(&self) -> Duration {
        self.shared.max_age
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        self.shared.status()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, there is nothing left to do.
            let _ = thread.join();
        }
    }
}
