//! What becomes of entries that the disk did not take. A system that could not write may throw away what it had to
//! write, and say the next time that all is well: to ask once more proves nothing. So appending goes on in a new
//! segment; what stood in others and was not on disk is read back at once, while the system still has it, held
//! against the chain, and written to new files in their place.

use std::{
    fs, io,
    sync::{Arc, atomic::Ordering},
};

use super::{
    segment::{self, HEADER, Piece, Segment},
    sync::Shared,
};
use crate::{chain, files};

/// What the disk may not have.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// The disk has refused since segments were set apart last.
    is_new: bool,
    apart: Vec<Apart>,
}

/// A segment that is no longer written to, with entries that the disk may not have.
#[derive(Debug)]
struct Apart {
    segment: Segment,
    /// The place of the first entry behind it.
    end: u64,
    /// All of it, once it was read.
    bytes: Option<Vec<u8>>,
}

impl Doubt {
    /// The disk has refused: sets apart what it may not have. What fails of that is done by the next [`Doubt::mend`].
    pub(super) fn arises(&mut self, shared: &Shared) {
        self.is_new = true;
        let _later = self.set_apart(shared);
    }

    /// Writes what is in doubt to new files, so that there is no more doubt when those are on disk.
    pub(super) fn mend(&mut self, shared: &Shared) -> io::Result<()> {
        self.set_apart(shared)?;
        while let Some(apart) = self.apart.first() {
            apart.write_anew(shared)?;
            self.apart.remove(0);
        }
        Ok(())
    }

    fn set_apart(&mut self, shared: &Shared) -> io::Result<()> {
        if self.is_new {
            let mut writer = shared.writer();
            writer.begin_anew()?;
            let on_disk = shared.on_disk.load(Ordering::Relaxed);
            let ends = writer.segments.iter().skip(1).map(|next| next.first);
            for (segment, end) in writer.segments.iter().zip(ends) {
                if end > on_disk && self.apart.iter().all(|known| known.segment.number != segment.number) {
                    self.apart.push(Apart { segment: segment.clone(), end, bytes: None });
                }
            }
            self.is_new = false;
        }
        for apart in self.apart.iter_mut().filter(|apart| apart.bytes.is_none()) {
            let bytes = apart.segment.read()?;
            let is_whole = apart.is_whole(&bytes);
            shared.is_lost.store(!is_whole, Ordering::Relaxed);
            if !is_whole {
                return Err(io::ErrorKind::InvalidData.into());
            }
            apart.bytes = Some(bytes);
        }
        Ok(())
    }
}

impl Apart {
    /// Whether these are all of its entries, and nothing else.
    fn is_whole(&self, bytes: &[u8]) -> bool {
        let Some(mut chain) = segment::header(bytes).filter(|begun| begun.next == self.segment.first) else {
            return false;
        };
        let mut rest = &bytes[HEADER as usize..];
        while let Piece::Record(record) = segment::record(rest) {
            if chain::hash(record.canonical, &chain.head) != record.hash {
                return false;
            }
            chain.advance(record.hash);
            rest = &rest[record.size..];
        }
        rest.is_empty() && chain.next == self.end
    }

    fn write_anew(&self, shared: &Shared) -> io::Result<()> {
        let Some(bytes) = &self.bytes else { return Ok(()) };
        let beside = self.segment.path.with_extension("anew");
        let file = files::create(&beside)?;
        shared.disk.write(&file, bytes, 0)?;
        shared.disk.sync(&file)?;
        fs::rename(&beside, &self.segment.path)?;
        let mut writer = shared.writer();
        writer.is_folder_unsynced = true;
        let number = self.segment.number;
        if let Some(segment) = writer.segments.iter_mut().find(|segment| segment.number == number) {
            segment.file = Arc::new(file);
            segment.capacity = segment.used;
        }
        Ok(())
    }
}
