//! What a journal asks of its disk, where it matters whether and when the disk does it. Tests have disks that fail.

use std::{fmt, fs::File, io, os::unix::fs::FileExt, path::Path};

/// Keeps what is written.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Writes at this place of a file.
    ///
    /// # Errors
    /// What the system says.
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    /// Returns when what was written to a file survives the end of the machine.
    ///
    /// # Errors
    /// What the system says. What was not kept may be thrown away then, and the next call may say that all is well.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// The same, of which files a folder has.
    ///
    /// # Errors
    /// As [`Disk::sync`].
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

/// The system's.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {}
