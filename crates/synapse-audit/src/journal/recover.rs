//! What a journal holds when it is opened: after a good end, a kill at any byte, or a power cut.
//!
//! A record that is not whole ends the journal, unless a later one says that it had been on disk: then it was
//! damaged since, and nothing is cut off.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use synapse_core::audit::{
    canonical,
    entry::{Entry, EntryKind},
};
use uuid::Uuid;

use super::{
    OpenError, Options,
    carried::Carried,
    disk::Disk,
    segment::{self, Found, HEADER, Piece, Segment},
};
use crate::{
    chain::{self, Chain},
    files,
};

/// A journal as it was found.
pub(super) struct Recovery {
    pub(super) chain: Chain,
    /// The last one is written to.
    pub(super) segments: Vec<Segment>,
    pub(super) next_number: u64,
    /// Requests without an end: by the place of what accepted them.
    pub(super) open: Vec<(u64, Entry)>,
    pub(super) carried: Carried,
    pub(super) is_new: bool,
    pub(super) cut_bytes: u64,
}

/// Where a segment's records end.
struct Extent {
    found: Found,
    first: u64,
    end: u64,
}

/// The walk through the segments.
struct Walk {
    chain: Option<Chain>,
    extents: Vec<Extent>,
    open: HashMap<Arc<str>, (u64, Entry)>,
    /// Entries before this place had been on disk for certain.
    on_disk: u64,
}

/// Where the journal stops making sense.
struct Breach {
    /// Which of the segments that were found.
    at: usize,
    offset: u64,
}

pub(super) fn recover(disk: &dyn Disk, folder: &Path, options: &Options) -> Result<Recovery, OpenError> {
    let segment_bytes = options.segment_bytes();
    let io_at = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    files::create_dir(folder).map_err(io_at(folder))?;
    let found = segment::list(folder).map_err(io_at(folder))?;
    let carried = Carried::read(folder, options.ballast_bytes()).map_err(io_at(folder))?;
    let mut walk = Walk { chain: None, extents: Vec::new(), open: HashMap::new(), on_disk: 0 };
    for record in carried.records() {
        walk.note(record);
    }
    let breach = walk.all(&found).map_err(|(path, source)| OpenError::Io { path, source })?;
    let mut cut_bytes = 0;
    if let Some(breach) = breach {
        cut_bytes = walk.cut(&found, &breach, carried.shipped)?;
    }
    let is_new = walk.chain.is_none();
    let chain = walk.chain.unwrap_or_else(|| Chain::new(Uuid::now_v7()));
    if carried.shipped > chain.next {
        let what = "entries are missing at its end, although they were shipped";
        return Err(OpenError::Damaged { segment: folder.to_owned(), offset: 0, what });
    }
    let mut next_number = found.last().map_or(0, |last| last.number + 1);
    let mut segments = Vec::new();
    for Extent { found, first, end } in &walk.extents {
        let opened = Segment::reopen(found, *first, *end, segment_bytes).map_err(io_at(&found.path))?;
        segments.push(opened);
    }
    if segments.is_empty() {
        let mut first = Segment::make(folder, next_number, segment_bytes).map_err(io_at(folder))?;
        next_number += 1;
        first.begin(disk, &chain).map_err(io_at(&first.path))?;
        segments.push(first);
    }
    // What was found is what will be found again.
    for (place, segment) in segments.iter().enumerate() {
        let end = segments.get(place + 1).map_or(chain.next, |next| next.first);
        let sure = if end > walk.on_disk { segment.write_again(disk) } else { Ok(()) };
        sure.and_then(|()| disk.sync(&segment.file)).map_err(io_at(&segment.path))?;
    }
    disk.sync_folder(folder).map_err(io_at(folder))?;
    let mut open: Vec<_> = walk.open.into_values().collect();
    open.sort_by_key(|(seq, _)| *seq);
    Ok(Recovery { chain, segments, next_number, open, carried, is_new, cut_bytes })
}

impl Walk {
    /// Goes through all segments. Tells where they break off, if they do.
    fn all(&mut self, found: &[Found]) -> Result<Option<Breach>, (PathBuf, io::Error)> {
        let mut torn = None;
        for (at, found) in found.iter().enumerate() {
            let bytes = fs::read(&found.path).map_err(|error| (found.path.clone(), error))?;
            let begun = segment::header(&bytes);
            if begun.is_none() || self.chain.is_some() && begun != self.chain {
                return Ok(Some(torn.unwrap_or(Breach { at, offset: 0 })));
            }
            // What stood half-written at the end of the one before was given up then: this one goes on from there.
            self.chain = begun;
            let end = self.records(&bytes);
            let first = begun.map_or(0, |chain| chain.next);
            self.extents.push(Extent { found: found.clone(), first, end });
            torn = (end < bytes.len() as u64).then_some(Breach { at, offset: end });
        }
        Ok(torn)
    }

    /// Reads the records of a segment as far as they are whole and in the chain, and tells where that is.
    fn records(&mut self, bytes: &[u8]) -> u64 {
        let mut end = HEADER as usize;
        while let Piece::Record(record) = segment::record(&bytes[end..]) {
            let Some(chain) = &mut self.chain else { break };
            let is_next = canonical::place(record.canonical) == Some((chain.id, chain.next));
            if !is_next || chain::hash(record.canonical, &chain.head) != record.hash {
                break;
            }
            chain.advance(record.hash);
            self.on_disk = self.on_disk.max(record.on_disk);
            self.note(record.canonical);
            end += record.size;
        }
        end as u64
    }

    /// Keeps track of which requests are open.
    fn note(&mut self, canonical: &[u8]) {
        let Ok((_, seq, entry)) = canonical::decode(canonical) else { return };
        let Some(request) = entry.request.clone() else { return };
        match entry.kind {
            EntryKind::RequestAccepted => {
                self.open.insert(request, (seq, entry));
            }
            EntryKind::RequestClosed => {
                self.open.remove(&request);
            }
            _ => {}
        }
    }

    /// Cuts off what was being written when the process or the machine ended, and tells how much that was.
    fn cut(&mut self, found: &[Found], breach: &Breach, shipped: u64) -> Result<u64, OpenError> {
        let path = &found[breach.at].path;
        let damaged = |what| OpenError::Damaged { segment: path.clone(), offset: breach.offset, what };
        let next = self.chain.map_or(0, |chain| chain.next);
        if shipped > next {
            return Err(damaged("entries from here on were shipped, and are no longer whole"));
        }
        let mut cut = 0;
        for (at, segment) in found.iter().enumerate().skip(breach.at) {
            let io = |source| OpenError::Io { path: segment.path.clone(), source };
            let bytes = fs::read(&segment.path).map_err(io)?;
            let from = if at == breach.at { breach.offset as usize } else { 0 };
            let was_on_disk = match self.chain {
                Some(chain) => {
                    segment::records_anywhere(&bytes[from..], chain.id).any(|record| record.on_disk > next)
                }
                None => bytes.len() as u64 > HEADER,
            };
            if was_on_disk {
                return Err(damaged("entries from here on had been on disk, and are no longer whole"));
            }
            cut += (bytes.len() - from) as u64;
        }
        // Only now is it certain that nothing of it counts.
        for segment in found.iter().skip(breach.at + usize::from(breach.offset > 0)) {
            fs::remove_file(&segment.path)
                .map_err(|source| OpenError::Io { path: segment.path.clone(), source })?;
        }
        Ok(cut)
    }
}
