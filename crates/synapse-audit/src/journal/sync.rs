//! The one thread of a journal: it puts on disk what was written, and has segments ready. Others wait for it here.

use std::{
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use synapse_core::audit::entry::Entry;
use tokio::sync::watch;

use super::{
    Journal, Options, Status, Unavailable, carried::Carried, read::Cursor, recover::Recovery, write::Writer,
};

/// How long what was written may wait. With the time that the disk takes, it stays below the promised 100 ms.
const DELAY: Duration = Duration::from_millis(50);
/// How long to leave a disk alone that did not take what was written.
const RETRY: Duration = Duration::from_secs(1);

/// How far a journal has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    on_disk: u64,
    shipped: u64,
    /// How often the disk has refused.
    failures: u64,
    is_closed: bool,
}

/// What the thread waits for.
#[derive(Debug, Default)]
struct Signal {
    /// Something was written.
    is_dirty: bool,
    /// Somebody waits for the disk.
    is_urgent: bool,
    is_stopping: bool,
}

/// What the owners of a journal share with its thread.
pub(super) struct Shared {
    writer: Mutex<Writer>,
    pub(super) carried: Mutex<Carried>,
    pub(super) cursor: Mutex<Option<Cursor>>,
    /// Entries before this place are on disk.
    pub(super) on_disk: AtomicU64,
    /// Requests that have room kept for their ends.
    pub(super) reservations: AtomicU64,
    pub(super) is_slow: AtomicBool,
    /// The disk did not take what was written.
    is_failing: AtomicBool,
    /// Whether the thread knows that something was written.
    is_dirty: AtomicBool,
    signal: Mutex<Signal>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
    folder: PathBuf,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Nobody who holds one of these locks panics.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(folder: &Path, options: Options, found: Recovery) -> (Self, Vec<(u64, Entry)>) {
        let Recovery { chain, segments, next_number, open, carried, .. } = found;
        let first = segments.first().map_or(0, |segment| segment.first);
        let shipped = carried.shipped.max(first);
        let mut writer = Writer::new(folder.to_owned(), options, chain, segments, next_number);
        writer.shipped = shipped;
        writer.open = open.iter().map(|(seq, _)| *seq).collect();
        if shipped < chain.next {
            writer.mark(chain.next - 1, Instant::now());
        }
        let progress = Progress { on_disk: chain.next, shipped, failures: 0, is_closed: false };
        let shared = Self {
            writer: Mutex::new(writer),
            carried: Mutex::new(carried),
            cursor: Mutex::new(None),
            on_disk: AtomicU64::new(chain.next),
            reservations: AtomicU64::new(open.len() as u64),
            is_slow: AtomicBool::new(false),
            is_failing: AtomicBool::new(false),
            is_dirty: AtomicBool::new(true),
            // The first round makes segments.
            signal: Mutex::new(Signal { is_urgent: true, ..Signal::default() }),
            wake: Condvar::new(),
            progress: watch::Sender::new(progress),
            folder: folder.to_owned(),
        };
        (shared, open)
    }

    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        lock(&self.writer)
    }

    pub(super) fn check_sync(&self) -> Result<(), Unavailable> {
        if self.is_failing.load(Ordering::Relaxed) { Err(Unavailable::Unsynced) } else { Ok(()) }
    }

    /// Something was written; where a segment was used up, another one is due.
    pub(super) fn written(&self, has_rolled: bool) {
        if !self.is_dirty.swap(true, Ordering::AcqRel) || has_rolled {
            let mut signal = lock(&self.signal);
            signal.is_dirty = true;
            signal.is_urgent |= has_rolled;
            drop(signal);
            self.wake.notify_one();
        }
    }

    /// Somebody waits for the disk.
    fn urge(&self) {
        let mut signal = lock(&self.signal);
        if !signal.is_urgent {
            signal.is_urgent = true;
            drop(signal);
            self.wake.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        lock(&self.signal).is_stopping = true;
        self.wake.notify_one();
    }

    pub(super) fn advance_shipped(&self, shipped: u64) {
        self.progress.send_modify(|progress| progress.shipped = shipped);
    }

    /// The thread.
    pub(super) fn run(&self) {
        loop {
            let is_last = self.wait();
            // Before the state is looked at: what comes later says so anew.
            self.is_dirty.store(false, Ordering::Release);
            let was_failing = self.is_failing.load(Ordering::Relaxed);
            let outcome = self.sync(was_failing);
            self.is_failing.store(outcome.is_err(), Ordering::Relaxed);
            self.progress.send_modify(|progress| match outcome {
                Ok(on_disk) => progress.on_disk = on_disk,
                Err(_) => progress.failures += 1,
            });
            if is_last {
                self.progress.send_modify(|progress| progress.is_closed = true);
                return;
            }
            self.writer().provide_ahead(self.reservations.load(Ordering::Relaxed));
        }
    }

    /// Waits until there is something to do. Tells whether it is the last thing.
    fn wait(&self) -> bool {
        let is_failing = self.is_failing.load(Ordering::Relaxed);
        let mut signal = lock(&self.signal);
        let at_ease = |signal: &mut Signal| !signal.is_stopping && (is_failing || !signal.is_urgent);
        if is_failing {
            let waited = self.wake.wait_timeout_while(signal, RETRY, at_ease);
            signal = waited.unwrap_or_else(PoisonError::into_inner).0;
        } else {
            let idle = |signal: &mut Signal| at_ease(signal) && !signal.is_dirty;
            signal = self.wake.wait_while(signal, idle).unwrap_or_else(PoisonError::into_inner);
            let waited = self.wake.wait_timeout_while(signal, DELAY, at_ease);
            signal = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        signal.is_dirty = false;
        signal.is_urgent = false;
        signal.is_stopping
    }

    /// Puts on disk what was written, and tells up to which place.
    fn sync(&self, was_failing: bool) -> io::Result<u64> {
        let (files, is_folder_unsynced, next) = {
            let mut writer = self.writer();
            let mut files = std::mem::take(&mut writer.unsynced);
            files.extend(writer.segments.back().map(|active| Arc::clone(&active.file)));
            (files, std::mem::take(&mut writer.is_folder_unsynced), writer.chain.next)
        };
        if next == self.on_disk.load(Ordering::Relaxed) && !is_folder_unsynced && !was_failing {
            return Ok(next);
        }
        let outcome = files.iter().try_for_each(|file| {
            if was_failing {
                rewrite(file)?;
            }
            file.sync_data()
        });
        let outcome =
            outcome.and_then(|()| if is_folder_unsynced { sync_folder(&self.folder) } else { Ok(()) });
        match outcome {
            Ok(()) => self.on_disk.store(next, Ordering::Relaxed),
            Err(_) => {
                let mut writer = self.writer();
                writer.unsynced.extend(files);
                writer.is_folder_unsynced |= is_folder_unsynced;
            }
        }
        outcome.map(|()| next)
    }

    pub(super) fn status(&self) -> Status {
        let writer = self.writer();
        Status {
            next: writer.chain.next,
            on_disk: self.on_disk.load(Ordering::Relaxed),
            shipped: writer.shipped,
            bytes: writer.bytes(),
            max_bytes: writer.max_bytes(),
            waiting: writer.waiting(),
        }
    }
}

/// After a refusal, the system may believe that what was not kept is on disk. Written again, it is not believed.
fn rewrite(file: &File) -> io::Result<()> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0)?;
    file.write_all_at(&bytes, 0)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

impl Journal {
    /// Waits until the entry at this place is on disk, so that it survives a power cut. Many who wait share one
    /// turn of the disk.
    ///
    /// # Errors
    /// [`Unavailable::Unsynced`] where the disk refuses, [`Unavailable::Closed`].
    pub async fn on_disk(&self, seq: u64) -> Result<(), Unavailable> {
        if self.shared.on_disk.load(Ordering::Relaxed) > seq {
            return Ok(());
        }
        let receiver = self.shared.progress.subscribe();
        self.shared.urge();
        wait(receiver, |progress| progress.on_disk > seq).await
    }

    /// Waits until the store has the entry at this place. There is no bound to this but the caller's patience.
    ///
    /// # Errors
    /// As [`Journal::on_disk`].
    pub async fn shipped(&self, seq: u64) -> Result<(), Unavailable> {
        let receiver = self.shared.progress.subscribe();
        self.on_disk(seq).await?;
        wait(receiver, |progress| progress.shipped > seq).await
    }

    /// Waits until the entry at this place can be read by the shipper: when the disk has it, which nobody is
    /// urged for.
    ///
    /// # Errors
    /// [`Unavailable::Closed`].
    pub async fn readable(&self, seq: u64) -> Result<(), Unavailable> {
        let mut receiver = self.shared.progress.subscribe();
        let seen = receiver.wait_for(|progress| progress.on_disk > seq || progress.is_closed).await;
        match seen {
            Ok(progress) if progress.on_disk > seq => Ok(()),
            _ => Err(Unavailable::Closed),
        }
    }
}

/// Waits for progress, or for a reason why there is none.
async fn wait(
    mut receiver: watch::Receiver<Progress>,
    is_there: impl Fn(&Progress) -> bool,
) -> Result<(), Unavailable> {
    let failures = receiver.borrow().failures;
    let ended = |progress: &Progress| progress.failures != failures || progress.is_closed;
    let seen = receiver.wait_for(|progress| is_there(progress) || ended(progress)).await;
    match seen {
        Ok(progress) if is_there(&progress) => Ok(()),
        Ok(progress) if !progress.is_closed => Err(Unavailable::Unsynced),
        _ => Err(Unavailable::Closed),
    }
}
