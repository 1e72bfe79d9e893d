//! Reading entries back for the shipper: in order, only what is on disk.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use synapse_core::audit::{
    canonical::{self, Malformed},
    entry::Digest,
    stretch::Stretch,
};

use super::{
    Journal,
    segment::{self, HEADER, Piece},
    sync::{Shared, lock},
};
use crate::chain;

/// What is read at a time, beside room for one record.
const CHUNK: u64 = 256 << 10;

/// Why entries cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refuses.
    #[error("{}: the audit journal cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was shipped and is gone.
    #[error("the audit journal begins at entry {0}")]
    Gone(u64),
    /// It was damaged after it had been written.
    #[error("{}: the audit journal is damaged at byte {offset}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
    },
    /// An entry cannot be understood.
    #[error("entry {seq} of the audit journal cannot be read: {source}")]
    Malformed {
        /// Its place.
        seq: u64,
        /// Why.
        source: Malformed,
    },
}

/// Where reading goes on.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    number: u64,
    path: PathBuf,
    file: Arc<File>,
    offset: u64,
    /// The place that comes next, and the hash before it.
    next: u64,
    prev: Digest,
}

impl Journal {
    /// Entries from this place on that are on disk, in order, `limit` at most; none where there are none yet. It
    /// reads files: not for a thread that others wait for.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read_from(&self, seq: u64, limit: usize) -> Result<Stretch, ReadError> {
        let mut kept = lock(&self.shared.cursor);
        let mut cursor = match kept.take().filter(|cursor| cursor.next == seq) {
            Some(cursor) => cursor,
            None => self.shared.cursor_at(seq)?,
        };
        let end = self.shared.on_disk.load(Ordering::Relaxed);
        let mut entries = Stretch::new(self.shared.writer().chain.id);
        while cursor.next < end && entries.len() < limit {
            let from = entries.last().map_or(seq, |last| last + 1);
            self.shared.read_chunk(&mut cursor, from, end, limit, &mut entries)?;
        }
        *kept = Some(cursor);
        Ok(entries)
    }

    /// The first place whose entry is not known to be in the store.
    pub fn unshipped(&self) -> u64 {
        self.shared.writer().shipped
    }
}

impl Shared {
    /// The beginning of the segment that has this place.
    fn cursor_at(&self, seq: u64) -> Result<Cursor, ReadError> {
        let writer = self.writer();
        let begins = |at: usize| writer.segments.get(at).map_or(0, |segment| segment.first);
        let Some(segment) = writer.segments.iter().rev().find(|segment| segment.first <= seq) else {
            return Err(ReadError::Gone(begins(0)));
        };
        let (number, path, file) = (segment.number, segment.path.clone(), Arc::clone(&segment.file));
        drop(writer);
        let mut bytes = [0; HEADER as usize];
        let read = file.read_exact_at(&mut bytes, 0);
        read.map_err(|source| ReadError::Io { path: path.clone(), source })?;
        match segment::header(&bytes) {
            Some(begun) => {
                Ok(Cursor { number, path, file, offset: HEADER, next: begun.next, prev: begun.head })
            }
            None => Err(ReadError::Damaged { path, offset: 0 }),
        }
    }

    /// Reads on by one chunk: entries before `from` are passed over, those at `end` and behind it left alone.
    fn read_chunk(
        &self,
        cursor: &mut Cursor,
        mut from: u64,
        end: u64,
        limit: usize,
        entries: &mut Stretch,
    ) -> Result<(), ReadError> {
        let (holder, largest) = {
            let writer = self.writer();
            let holder = writer.segments.iter().rev().find(|segment| segment.first <= cursor.next);
            (holder.map(|segment| Arc::clone(&segment.file)), writer.largest())
        };
        if !holder.is_some_and(|file| Arc::ptr_eq(&file, &cursor.file)) {
            // The segment's beginning: what was read of it is passed over.
            from = from.max(cursor.next);
            *cursor = self.cursor_at(cursor.next)?;
        }
        let mut bytes = vec![0; (CHUNK + largest) as usize];
        let length = read_up_to(&cursor.file, &mut bytes, cursor.offset);
        let length = length.map_err(|source| ReadError::Io { path: cursor.path.clone(), source })?;
        let mut rest = &bytes[..length];
        let begun = cursor.offset;
        let holder_ends = {
            let writer = self.writer();
            writer.segments.iter().find(|segment| segment.number > cursor.number).map(|segment| segment.first)
        };
        let end = end.min(holder_ends.unwrap_or(u64::MAX));
        while cursor.next < end && entries.len() < limit {
            let Piece::Record(record) = segment::record(rest) else { break };
            let seq = cursor.next;
            if chain::hash(record.canonical, &cursor.prev) != record.hash {
                break;
            }
            if seq >= from {
                let read = canonical::values(record.canonical);
                read.map_err(|source| ReadError::Malformed { seq, source })?;
                entries.push_canonical(seq, cursor.prev, record.hash, record.canonical);
            }
            cursor.next += 1;
            cursor.prev = record.hash;
            cursor.offset += record.size as u64;
            rest = &rest[record.size..];
        }
        if cursor.offset == begun && cursor.next < end {
            return Err(ReadError::Damaged { path: cursor.path.clone(), offset: cursor.offset });
        }
        Ok(())
    }
}

/// Reads as much as there is, up to the buffer's end.
fn read_up_to(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
