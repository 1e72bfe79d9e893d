//! Checkpoints outside the database: a file that is only ever appended to, and the copies that others keep of the
//! messages they were sent.

pub mod message;

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use crate::note;

/// The longest note that is read back; ours have about 500 bytes.
const LONGEST: u64 = 64 << 10;

/// A file of checkpoints: signed notes with an empty line behind each.
#[derive(Debug)]
pub struct FileSink {
    file: File,
    /// Something may stand at the end that is not whole.
    is_torn: bool,
}

impl FileSink {
    /// Opens the file, or makes one for its owner alone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
        let is_torn = file.metadata()?.len() > 0 && {
            let mut end = [0; 2];
            file.seek(SeekFrom::End(-2)).and_then(|_| file.read_exact(&mut end)).is_err() || end != *b"\n\n"
        };
        Ok(Self { file, is_torn })
    }

    /// Appends a checkpoint. When this returns, it is on disk. It writes a file: not for a thread that others
    /// wait for.
    ///
    /// # Errors
    /// When the system refuses; then it is to be given again.
    pub fn append(&mut self, note: &str) -> io::Result<()> {
        // One system call, so that a kill hardly finds it half done.
        let text = format!("{}{note}\n", if self.is_torn { "\n\n" } else { "" });
        self.is_torn = true;
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()?;
        self.is_torn = false;
        Ok(())
    }

    /// Reads the checkpoints of a file, in order. What a crash left half-written is passed over: it was given
    /// again. A file of [messages](message) is read in the same way, whatever else stands in its lines.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn read(path: &Path) -> io::Result<Notes<BufReader<File>>> {
        Self::read_from(path, 0)
    }

    /// The same from a place on where a note ends, as [`Notes::place`] told it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn read_from(path: &Path, place: u64) -> io::Result<Notes<BufReader<File>>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(place))?;
        Ok(Notes { lines: BufReader::new(file), place })
    }

    /// Whether this is the file at a path, however either is named.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        let (ours, theirs) = (self.file.metadata()?, path.metadata()?);
        Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()))
    }
}

/// The notes of a sink, one after the other.
#[derive(Debug)]
pub struct Notes<R> {
    lines: R,
    place: u64,
}

impl<R> Notes<R> {
    /// Where the note ends that was read last.
    pub fn place(&self) -> u64 {
        self.place
    }
}

impl<R: BufRead> Iterator for Notes<R> {
    type Item = io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = String::new();
        loop {
            let mut line = Vec::new();
            match (&mut self.lines).take(LONGEST).read_until(b'\n', &mut line) {
                Ok(0) if text.is_empty() => return None,
                Err(error) => return Some(Err(error)),
                Ok(length) => self.place += length as u64,
            }
            let is_text_over = text.ends_with("\n\n");
            let ends = line.is_empty() || line == b"\n";
            let line = String::from_utf8_lossy(&line);
            if let Some(note) = message::find(&line) {
                return Some(Ok(note));
            }
            if ends && note::is_note(&text) {
                return Some(Ok(text));
            }
            // A text that no signature follows was left half-written, and so were signatures that are none.
            let is_stray = is_text_over && !note::is_signature(&line);
            if is_stray || text.is_empty() && ends || ends && line.is_empty() || text.len() as u64 > LONGEST {
                text.clear();
            }
            if !(ends && (text.is_empty() || text.contains("\n\n"))) {
                text.push_str(&line);
            } else {
                text.clear();
            }
        }
    }
}
