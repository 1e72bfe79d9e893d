//! Appending: what happens under the journal's lock.

use std::{
    collections::{BTreeSet, VecDeque},
    fs::{self, File},
    io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use synapse_core::audit::entry::Entry;

use super::{
    Options, Receipt, Unavailable,
    disk::Disk,
    segment::{self, HEADER, Segment},
    sync::Shared,
};
use crate::chain::Chain;

/// What is kept for the end of a request.
const RESERVED: u64 = 2 << 10;
/// How long to leave a disk alone that has no room.
const RETRY: Duration = Duration::from_millis(200);
/// How far apart the moments are by which waiting is told.
const MARK: Duration = Duration::from_secs(1);

/// Which room an entry may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// What nobody has reserved.
    Bounded,
    /// The same, while less than a fifth of the journal is in use.
    Fifth,
    /// The same, and as much again as a request's end needs.
    WithReservation,
    /// That of the request that was accepted at this place.
    Reserved(u64),
}

/// What the lock is held for.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) chain: Chain,
    /// In order; the last one is written to.
    pub(super) segments: VecDeque<Segment>,
    /// Segments with nothing in them yet.
    spares: VecDeque<Segment>,
    next_number: u64,
    /// Files that are no longer written to, and not on disk yet.
    pub(super) unsynced: Vec<Arc<File>>,
    /// Whether files were made that the folder on disk does not know.
    pub(super) is_folder_unsynced: bool,
    /// Requests that were accepted and not closed, by place.
    pub(super) open: BTreeSet<u64>,
    /// Entries before this place are in the store.
    pub(super) shipped: u64,
    /// When the entries at some places were written.
    pub(super) marks: VecDeque<(u64, Instant)>,
    /// When there was no room last, and why.
    refused: Option<(Instant, Unavailable)>,
    folder: PathBuf,
    options: Options,
    disk: Arc<dyn Disk>,
    buffer: Vec<u8>,
}

impl Writer {
    pub(super) fn new(
        folder: PathBuf,
        (options, disk): (Options, Arc<dyn Disk>),
        chain: Chain,
        segments: Vec<Segment>,
        next_number: u64,
    ) -> Self {
        Self {
            chain,
            segments: segments.into(),
            spares: VecDeque::new(),
            next_number,
            unsynced: Vec::new(),
            is_folder_unsynced: false,
            open: BTreeSet::new(),
            shipped: 0,
            marks: VecDeque::new(),
            refused: None,
            folder,
            options,
            disk,
            buffer: Vec::with_capacity(1 << 10),
        }
    }

    /// The largest record.
    pub(super) fn largest(&self) -> u64 {
        self.options.largest()
    }

    /// What the journal takes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        let segments: u64 = self.segments.iter().chain(&self.spares).map(|segment| segment.capacity).sum();
        segments + self.options.ballast_bytes()
    }

    /// The most that it may take.
    pub(super) fn max_bytes(&self) -> u64 {
        self.options.max_bytes()
    }

    /// What can be written for certain. At the end of each segment a record may not fit any more.
    fn room(&self) -> u64 {
        let left =
            |segment: &Segment| segment.capacity.saturating_sub(segment.used.max(HEADER) + self.largest());
        self.segments.back().into_iter().chain(&self.spares).map(left).sum()
    }

    /// Makes spare segments until there is so much room.
    fn provide(&mut self, room: u64, may_exceed: bool) -> Result<(), Unavailable> {
        while self.room() < room {
            if let Some((at, why)) = &self.refused
                && at.elapsed() < RETRY
            {
                return Err(why.clone());
            }
            let made =
                if !may_exceed && self.bytes() + self.options.segment_bytes() > self.options.max_bytes() {
                    Err(Unavailable::Full)
                } else {
                    self.make_spare().map_err(|error| Unavailable::Unwritable(Arc::new(error)))
                };
            self.refused = made.as_ref().err().map(|why| (Instant::now(), why.clone()));
            made?;
        }
        Ok(())
    }

    /// On a disk that is nearly full, a small one is better than none.
    fn make_spare(&mut self) -> io::Result<()> {
        let mut capacity = self.options.segment_bytes();
        let spare = loop {
            match Segment::make(&self.folder, self.next_number, capacity) {
                Err(_) if capacity / 2 >= 2 * self.largest() => capacity /= 2,
                made => break made?,
            }
        };
        self.next_number += 1;
        self.spares.push_back(spare);
        self.is_folder_unsynced = true;
        Ok(())
    }

    /// Has at least a segment's worth of free room at hand, so that appending need not wait for it.
    pub(super) fn provide_ahead(&mut self, reserved: u64) {
        let wanted = reserved * RESERVED + self.options.segment_bytes() / 2;
        // Where it cannot be had, whoever needs it is told.
        let _ = self.provide(wanted, false);
    }

    /// Forgets why there was no room: something has changed.
    pub(super) fn retry(&mut self) {
        self.refused = None;
    }

    /// Moves on to the next segment where the active one has no room for a record of this size.
    fn roll(&mut self, size: u64) -> io::Result<()> {
        let Some(active) = self.segments.back() else { return Err(io::ErrorKind::NotFound.into()) };
        if active.used + size <= active.capacity {
            return Ok(());
        }
        if self.spares.is_empty() {
            self.make_spare()?;
        }
        let next = self.next_segment()?;
        self.unsynced.extend(self.segments.back().map(|active| Arc::clone(&active.file)));
        self.segments.push_back(next);
        Ok(())
    }

    /// Goes on in a file that no one has doubts about: neither what is in it nor whether it is there.
    pub(super) fn begin_anew(&mut self) -> io::Result<()> {
        // An empty one before the others would break the journal in two.
        while let Some(spare) = self.spares.back() {
            fs::remove_file(&spare.path)?;
            self.spares.pop_back();
        }
        self.make_spare()?;
        let fresh = self.next_segment()?;
        let empty = self.segments.pop_back_if(|active| active.used == HEADER);
        self.segments.push_back(fresh);
        self.unsynced.clear();
        if let Some(empty) = empty {
            // One that stays has nothing in it, and is in its place.
            let _ = fs::remove_file(&empty.path);
        }
        Ok(())
    }

    /// Begins the next spare segment.
    fn next_segment(&mut self) -> io::Result<Segment> {
        let Some(mut next) = self.spares.pop_front() else { return Err(io::ErrorKind::NotFound.into()) };
        match next.begin(&*self.disk, &self.chain) {
            Ok(()) => Ok(next),
            Err(error) => {
                self.spares.push_front(next);
                Err(error)
            }
        }
    }

    /// Whether the oldest entry has waited too long for the store.
    pub(super) fn waiting(&self) -> Duration {
        self.marks.front().map_or(Duration::ZERO, |(_, at)| at.elapsed())
    }

    /// Remembers when an entry was written.
    pub(super) fn mark(&mut self, seq: u64, now: Instant) {
        if self.marks.back().is_none_or(|(_, last)| now.duration_since(*last) >= MARK) {
            self.marks.push_back((seq, now));
        }
    }

    /// Sees that an entry of this size has the room that it may take.
    fn admit(&mut self, size: u64, room: Room, reserved: u64) -> Result<(), Unavailable> {
        if size > self.largest() {
            return Err(Unavailable::TooLarge(usize::try_from(size).unwrap_or(usize::MAX)));
        }
        let kept = reserved * RESERVED;
        match room {
            // What was kept is there, unless ends are larger than expected: those may take more than the bound.
            Room::Reserved(_) => {
                let _ = self.provide(size, true);
                return Ok(());
            }
            _ if self.waiting() > self.options.max_age => return Err(Unavailable::StoreAway),
            Room::Fifth if self.in_use() > self.options.max_bytes() / 5 => return Err(Unavailable::Full),
            _ => {}
        }
        let also = if room == Room::WithReservation { RESERVED } else { 0 };
        self.provide(size + kept + also, false)
    }

    /// Bytes of entries.
    fn in_use(&self) -> u64 {
        self.segments.iter().map(|segment| segment.used).sum()
    }
}

impl Shared {
    /// Seals an entry and writes it.
    pub(super) fn append(&self, entry: &Entry, room: Room) -> Result<Receipt, Unavailable> {
        let is_end = matches!(room, Room::Reserved(_));
        if !is_end {
            self.check_sync()?;
        }
        let begun = Instant::now();
        let mut writer = self.writer();
        let writer = &mut *writer;
        writer.buffer.clear();
        let on_disk = self.on_disk.load(Ordering::Relaxed);
        let hash = segment::frame(&writer.chain, entry, on_disk, &mut writer.buffer);
        let size = writer.buffer.len() as u64;
        writer.admit(size, room, self.reservations.load(Ordering::Relaxed))?;
        let segments = writer.segments.len();
        let unwritable = |error| Unavailable::Unwritable(Arc::new(error));
        writer.roll(size).map_err(unwritable)?;
        let Some(active) = writer.segments.back_mut() else { return Err(Unavailable::Closed) };
        active.write(&*writer.disk, &writer.buffer).map_err(unwritable)?;
        let receipt = Receipt { seq: writer.chain.next, hash };
        writer.chain.advance(hash);
        match room {
            Room::WithReservation => {
                writer.open.insert(receipt.seq);
                self.reservations.fetch_add(1, Ordering::Relaxed);
            }
            Room::Reserved(accepted) => {
                writer.open.remove(&accepted);
            }
            Room::Bounded | Room::Fifth => {}
        }
        writer.mark(receipt.seq, begun);
        self.took(begun.elapsed());
        self.written(writer.segments.len() > segments);
        Ok(receipt)
    }

    /// Why nothing could be appended now, as far as that can be told without waiting: while somebody writes, nothing
    /// speaks against it but the disk.
    pub(super) fn check(&self) -> Result<(), Unavailable> {
        self.check_sync()?;
        let Some(mut writer) = self.writer_if_free() else { return Ok(()) };
        let size = 1 << 10;
        writer.admit(size, Room::WithReservation, self.reservations.load(Ordering::Relaxed))
    }
}
