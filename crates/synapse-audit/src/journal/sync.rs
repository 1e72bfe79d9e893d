//! The one thread of a journal: it puts on disk what was written, and has segments ready. Others wait for it here.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use synapse_core::audit::entry::Entry;
use tokio::sync::watch;

use super::{
    Journal, Options, Status, Unavailable, carried::Carried, disk::Disk, doubt::Doubt, read::Cursor,
    recover::Recovery, write::Writer,
};

/// How long what was written may wait. With the time that the disk takes, it stays below the promised 100 ms.
const DELAY: Duration = Duration::from_millis(50);
/// How long to leave a disk alone that did not take what was written.
const RETRY: Duration = Duration::from_secs(1);

/// Writing takes so long only where the system makes writers wait.
const SLOW: Duration = Duration::from_millis(5);
/// After this it is tried again whether that is over.
const SLOW_FOR: Duration = Duration::from_secs(1);
/// Whoever writes is done within this, unless the system makes it wait.
const AT_ONCE: Duration = Duration::from_micros(200);

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
    /// When a write was slow last, in microseconds since `opened`; 0 after a quick one.
    slow_at: AtomicU64,
    opened: Instant,
    /// The disk did not take what was written.
    is_failing: AtomicBool,
    /// And why.
    failure: Mutex<Option<Arc<io::Error>>>,
    /// What the disk did not take is nowhere else.
    pub(super) is_lost: AtomicBool,
    /// Whether the thread knows that something was written.
    is_dirty: AtomicBool,
    signal: Mutex<Signal>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
    pub(super) max_age: Duration,
    folder: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Nobody who holds one of these locks panics.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        folder: &Path,
        options: Options,
        disk: Arc<dyn Disk>,
        found: Recovery,
    ) -> (Self, Vec<(u64, Entry)>) {
        let Recovery { chain, segments, next_number, open, carried, .. } = found;
        let first = segments.first().map_or(0, |segment| segment.first);
        let shipped = carried.shipped.max(first);
        let mut writer =
            Writer::new(folder.to_owned(), (options, Arc::clone(&disk)), chain, segments, next_number);
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
            slow_at: AtomicU64::new(0),
            opened: Instant::now(),
            failure: Mutex::new(None),
            is_failing: AtomicBool::new(false),
            is_lost: AtomicBool::new(false),
            is_dirty: AtomicBool::new(true),
            // The first round makes segments.
            signal: Mutex::new(Signal { is_urgent: true, ..Signal::default() }),
            wake: Condvar::new(),
            progress: watch::Sender::new(progress),
            max_age: options.max_age,
            folder: folder.to_owned(),
            disk,
        };
        (shared, open)
    }

    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        lock(&self.writer)
    }

    pub(super) fn writer_if_free(&self) -> Option<MutexGuard<'_, Writer>> {
        match self.writer.try_lock() {
            Ok(writer) => Some(writer),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Somebody has written, for so long.
    pub(super) fn took(&self, time: Duration) {
        let now = if time > SLOW { micros(self.opened.elapsed()) } else { 0 };
        self.slow_at.store(now, Ordering::Relaxed);
    }

    /// Whether a write was slow of late.
    pub(super) fn was_slow(&self) -> bool {
        let at = self.slow_at.load(Ordering::Relaxed);
        at != 0 && micros(self.opened.elapsed()).saturating_sub(at) < micros(SLOW_FOR)
    }

    /// Whether somebody else has the writer, and keeps it for longer than writing takes.
    pub(super) fn is_stuck(&self) -> bool {
        let is_held = || matches!(self.writer.try_lock(), Err(TryLockError::WouldBlock));
        if !is_held() {
            return false;
        }
        let begun = Instant::now();
        while is_held() {
            if begun.elapsed() > AT_ONCE {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    pub(super) fn check_sync(&self) -> Result<(), Unavailable> {
        if self.is_failing.load(Ordering::Relaxed) { Err(self.failure()) } else { Ok(()) }
    }

    /// Why the disk keeps nothing.
    fn failure(&self) -> Unavailable {
        if self.is_lost.load(Ordering::Relaxed) {
            return Unavailable::Lost;
        }
        let why = lock(&self.failure).clone();
        Unavailable::Unsynced(why.unwrap_or_else(|| Arc::new(io::ErrorKind::Other.into())))
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
        let mut doubt = Doubt::default();
        loop {
            let is_last = self.wait();
            // Before the state is looked at: what comes later says so anew.
            self.is_dirty.store(false, Ordering::Release);
            self.turn(&mut doubt);
            if is_last {
                self.progress.send_modify(|progress| progress.is_closed = true);
                return;
            }
            self.writer().provide_ahead(self.reservations.load(Ordering::Relaxed));
        }
    }

    /// Puts on disk what there is, and says whether that has worked. If not, nothing is accepted from then on, and
    /// what was accepted is seen to.
    fn turn(&self, doubt: &mut Doubt) {
        let mended = doubt.mend(self);
        let is_mended = mended.is_ok();
        let outcome = mended.and_then(|()| self.sync()).map_err(Arc::new);
        *lock(&self.failure) = outcome.as_ref().err().map(Arc::clone);
        self.is_failing.store(outcome.is_err(), Ordering::Relaxed);
        if outcome.is_err() && is_mended {
            doubt.arises(self);
        }
        self.progress.send_modify(|progress| match outcome {
            Ok(on_disk) => progress.on_disk = on_disk,
            Err(_) => progress.failures += 1,
        });
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
    fn sync(&self) -> io::Result<u64> {
        let (files, is_folder_unsynced, next) = {
            let mut writer = self.writer();
            let mut files = std::mem::take(&mut writer.unsynced);
            files.extend(writer.segments.back().map(|active| Arc::clone(&active.file)));
            (files, std::mem::take(&mut writer.is_folder_unsynced), writer.chain.next)
        };
        if next == self.on_disk.load(Ordering::Relaxed) && !is_folder_unsynced {
            return Ok(next);
        }
        files.iter().try_for_each(|file| self.disk.sync(file))?;
        if is_folder_unsynced {
            self.disk.sync_folder(&self.folder)?;
        }
        self.on_disk.store(next, Ordering::Relaxed);
        Ok(next)
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
        self.wait(receiver, |progress| progress.on_disk > seq).await
    }

    /// Waits until the store has the entry at this place. There is no bound to this but the caller's patience.
    ///
    /// # Errors
    /// As [`Journal::on_disk`].
    pub async fn shipped(&self, seq: u64) -> Result<(), Unavailable> {
        let receiver = self.shared.progress.subscribe();
        self.on_disk(seq).await?;
        self.wait(receiver, |progress| progress.shipped > seq).await
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

    /// Waits for progress, or for a reason why there is none.
    async fn wait(
        &self,
        mut receiver: watch::Receiver<Progress>,
        is_there: impl Fn(&Progress) -> bool,
    ) -> Result<(), Unavailable> {
        let failures = receiver.borrow().failures;
        let ended = |progress: &Progress| progress.failures != failures || progress.is_closed;
        let seen = receiver.wait_for(|progress| is_there(progress) || ended(progress)).await;
        match seen {
            Ok(progress) if is_there(&progress) => Ok(()),
            Ok(progress) if !progress.is_closed => Err(self.shared.failure()),
            _ => Err(Unavailable::Closed),
        }
    }
}
