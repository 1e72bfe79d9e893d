//! What must outlive the segments that it stood in: how far the journal is shipped, and the accepting entries of
//! requests that are still open.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use synapse_core::audit::canonical;

use super::segment::{self, Piece};
use crate::files;

const SHIPPED: &str = "shipped";
const OPEN: &str = "open";
const BALLAST: &str = "ballast";

/// Both, as they stand on disk.
#[derive(Debug)]
pub(super) struct Carried {
    /// Entries before this place are in the store.
    pub(super) shipped: u64,
    position: File,
    /// Where the open ones are kept.
    open_path: PathBuf,
    /// The records of open requests whose segments are gone, by place.
    open: BTreeMap<u64, Vec<u8>>,
    /// The file has others than these.
    is_stale: bool,
    /// Space that is given up so that, on a full disk, segments can go.
    ballast: PathBuf,
    ballast_bytes: u64,
}

impl Carried {
    pub(super) fn read(folder: &Path, ballast_bytes: u64) -> io::Result<Self> {
        let path = folder.join(SHIPPED);
        let shipped = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // It has its place on the disk from the beginning.
                files::create_new(&path)?.write_all(position(0).as_bytes())?;
                0
            }
            Err(error) => return Err(error),
        };
        let position = File::options().write(true).open(&path)?;
        let open_path = folder.join(OPEN);
        let bytes = match fs::read(&open_path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut open = BTreeMap::new();
        keep_records(&bytes, |_| true, &mut open);
        let carried = Self {
            shipped,
            position,
            open_path,
            open,
            is_stale: false,
            ballast: folder.join(BALLAST),
            ballast_bytes,
        };
        carried.restore_ballast();
        Ok(carried)
    }

    /// The canonical bytes of the entries that accepted open requests.
    pub(super) fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.open.values().filter_map(|bytes| match segment::record(bytes) {
            Piece::Record(record) => Some(record.canonical),
            Piece::Short | Piece::Bad => None,
        })
    }

    /// Remembers that entries before this place are in the store. It is on disk with the next [`Carried::settle`];
    /// until then, some would be shipped twice.
    pub(super) fn advance(&mut self, shipped: u64) -> io::Result<()> {
        self.position.write_all_at(position(shipped).as_bytes(), 0)?;
        self.shipped = shipped;
        Ok(())
    }

    /// Puts all on disk before segments go: the position, and of these files what accepted requests that are open.
    pub(super) fn settle(&mut self, going: &[&Path], is_open: impl Fn(u64) -> bool) -> io::Result<()> {
        self.is_stale |= !self.open.is_empty();
        for path in going {
            let bytes = fs::read(path)?;
            let records = bytes.get(segment::HEADER as usize..).unwrap_or_default();
            keep_records(records, &is_open, &mut self.open);
        }
        self.open.retain(|seq, _| is_open(*seq));
        self.is_stale |= !self.open.is_empty();
        if self.is_stale {
            let written = self.write_open();
            if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull) {
                let _ = fs::remove_file(&self.ballast);
                self.write_open()?;
            } else {
                written?;
            }
            self.is_stale = false;
        }
        self.position.sync_data()
    }

    fn write_open(&self) -> io::Result<()> {
        files::replace(&self.open_path, |file| {
            self.open.values().try_for_each(|record| file.write_all(record))
        })
    }

    /// Takes the space again that may be needed. On a disk that has none, later.
    pub(super) fn restore_ballast(&self) {
        if let Ok(file) = files::create_new(&self.ballast)
            && segment::set_aside(&file, self.ballast_bytes).is_err()
        {
            let _ = fs::remove_file(&self.ballast);
        }
    }
}

/// A position as it is written: always the same length, so that it is written over in its place.
fn position(shipped: u64) -> String {
    format!("{shipped:020}\n")
}

/// Copies those of the records that are wanted by their place.
fn keep_records(mut bytes: &[u8], is_wanted: impl Fn(u64) -> bool, into: &mut BTreeMap<u64, Vec<u8>>) {
    while let Piece::Record(record) = segment::record(bytes) {
        let (whole, rest) = bytes.split_at(record.size);
        if let Some((_, seq)) = canonical::place(record.canonical).filter(|(_, seq)| is_wanted(*seq)) {
            into.insert(seq, whole.to_vec());
        }
        bytes = rest;
    }
}
