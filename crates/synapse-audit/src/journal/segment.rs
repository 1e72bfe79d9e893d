//! A segment of the journal: one file with a header and records, written at known places, its room set aside in
//! advance. A record is `length | crc32 | places on disk | canonical bytes | hash`; that tells what is whole.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use synapse_core::audit::{canonical, entry::Digest};
use uuid::Uuid;

use super::disk::Disk;
use crate::{chain::Chain, files};

const MAGIC: &[u8; 8] = b"SYNAUDJ1";
/// Magic, chain, first place, hash before, checksum.
pub(super) const HEADER: u64 = 8 + 16 + 8 + 32 + 4;
/// Length and checksum of a record.
const FRAME: usize = 4 + 4;
/// What a record has beside canonical bytes.
const BESIDE: usize = 8 + 32;
const ENDING: &str = ".segment";

/// A segment that is written to, or was.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// Its number; those of later segments are higher.
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    /// The place of its first entry.
    pub(super) first: u64,
    /// How many bytes of it are records and header.
    pub(super) used: u64,
    /// Up to where it may be written.
    pub(super) capacity: u64,
}

impl Segment {
    /// A file with this much room, in which nothing is written yet.
    pub(super) fn make(folder: &Path, number: u64, capacity: u64) -> io::Result<Self> {
        let path = folder.join(format!("{number:012}{ENDING}"));
        let file = files::create_new(&path)?;
        if let Err(error) = set_aside(&file, capacity) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self { number, path, file: Arc::new(file), first: 0, used: 0, capacity })
    }

    /// Begins it: what comes next is the next entry of this chain.
    pub(super) fn begin(&mut self, disk: &dyn Disk, chain: &Chain) -> io::Result<()> {
        let mut header = Vec::with_capacity(HEADER as usize);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(chain.id.as_bytes());
        header.extend_from_slice(&chain.next.to_le_bytes());
        header.extend_from_slice(&chain.head);
        header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
        disk.write(&self.file, &header, 0)?;
        self.first = chain.next;
        self.used = HEADER;
        Ok(())
    }

    /// Writes records behind what is there. What fails half-way is written over by the next attempt.
    pub(super) fn write(&mut self, disk: &dyn Disk, bytes: &[u8]) -> io::Result<()> {
        disk.write(&self.file, bytes, self.used)?;
        self.used += bytes.len() as u64;
        Ok(())
    }

    /// Writes what is there once more: a system that could not write it before may believe that it is on disk.
    pub(super) fn write_again(&self, disk: &dyn Disk) -> io::Result<()> {
        disk.write(&self.file, &self.read()?, 0)
    }

    /// All of it.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.used).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Opens one that was found, cuts off what stands behind its records, and sets room aside again.
    pub(super) fn reopen(found: &Found, first: u64, used: u64, capacity: u64) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(&found.path)?;
        file.set_len(used)?;
        // On a full disk it goes on in no other than the room that it has.
        let capacity = if set_aside(&file, capacity).is_ok() { capacity } else { used };
        let path = found.path.clone();
        Ok(Self { number: found.number, path, file: Arc::new(file), first, used, capacity })
    }
}

/// Takes disk space for a file, so that writing to it cannot fail for want of it. Where the file system cannot do
/// that, nothing is taken.
pub(super) fn set_aside(file: &File, capacity: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::{
            fs::{FallocateFlags, fallocate},
            io::Errno,
        };
        match fallocate(file, FallocateFlags::KEEP_SIZE, 0, capacity) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (file, capacity);
        Ok(())
    }
}

/// A segment's file, by its name.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) number: u64,
    pub(super) path: PathBuf,
}

/// The segments in a folder, in order.
pub(super) fn list(folder: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(ENDING)?.parse().ok());
        found.extend(number.map(|number| Found { number, path }));
    }
    found.sort_by_key(|segment| segment.number);
    Ok(found)
}

/// The chain as it stood when the segment with this header began.
pub(super) fn header(bytes: &[u8]) -> Option<Chain> {
    let header = bytes.get(..HEADER as usize)?;
    let (said, sum) = header.split_last_chunk::<4>()?;
    let rest = said.strip_prefix(MAGIC)?;
    let (id, rest) = rest.split_first_chunk::<16>()?;
    let (next, rest) = rest.split_first_chunk::<8>()?;
    let chain =
        Chain { id: Uuid::from_bytes(*id), next: u64::from_le_bytes(*next), head: rest.try_into().ok()? };
    (crc32fast::hash(said).to_le_bytes() == *sum).then_some(chain)
}

/// Appends the record of the chain's next entry, and tells its hash.
pub(super) fn frame(
    chain: &Chain,
    entry: &synapse_core::audit::entry::Entry,
    on_disk: u64,
    into: &mut Vec<u8>,
) -> Digest {
    let begin = into.len();
    into.extend_from_slice(&[0; FRAME]);
    into.extend_from_slice(&on_disk.to_le_bytes());
    let canonical = into.len();
    canonical::encode(chain.id, chain.next, entry, into);
    let hash = crate::chain::hash(&into[canonical..], &chain.head);
    into.extend_from_slice(&hash);
    let body = begin + FRAME;
    let length = u32::try_from(into.len() - body).unwrap_or(u32::MAX).to_le_bytes();
    let sum = crc32fast::hash(&into[body..]).to_le_bytes();
    into[begin..begin + 4].copy_from_slice(&length);
    into[begin + 4..body].copy_from_slice(&sum);
    hash
}

/// A whole record.
#[derive(Debug)]
pub(super) struct Record<'b> {
    /// When it was written, the entries before this place were on disk.
    pub(super) on_disk: u64,
    pub(super) canonical: &'b [u8],
    pub(super) hash: Digest,
    /// Its bytes in the file.
    pub(super) size: usize,
}

/// What stands at the beginning of some bytes.
#[derive(Debug)]
pub(super) enum Piece<'b> {
    Record(Record<'b>),
    /// The beginning of a record, or nothing.
    Short,
    /// No record.
    Bad,
}

/// Reads a record.
pub(super) fn record(bytes: &[u8]) -> Piece<'_> {
    let Some((frame, rest)) = bytes.split_first_chunk::<FRAME>() else { return Piece::Short };
    let [l0, l1, l2, l3, sum @ ..] = *frame;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length < BESIDE {
        return Piece::Bad;
    }
    let Some(body) = rest.get(..length) else { return Piece::Short };
    if crc32fast::hash(body).to_le_bytes() != sum {
        return Piece::Bad;
    }
    let (Some((on_disk, rest)), Some((_, hash))) = (body.split_first_chunk(), body.split_last_chunk()) else {
        return Piece::Bad;
    };
    Piece::Record(Record {
        on_disk: u64::from_le_bytes(*on_disk),
        canonical: &rest[..rest.len() - hash.len()],
        hash: *hash,
        size: FRAME + length,
    })
}

/// The whole records of a chain anywhere in these bytes.
pub(super) fn records_anywhere<'b>(bytes: &'b [u8], chain: Uuid) -> impl Iterator<Item = Record<'b>> {
    let mark = [[canonical::VERSION].as_slice(), chain.as_bytes()].concat();
    let marks: Vec<usize> = memchr::memmem::find_iter(bytes, &mark).collect();
    marks.into_iter().filter_map(|mark| match record(bytes.get(mark.checked_sub(FRAME + 8)?..)?) {
        Piece::Record(record) => Some(record),
        Piece::Short | Piece::Bad => None,
    })
}
