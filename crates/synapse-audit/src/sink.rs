//! Checkpoints outside the database: a file that is only ever appended to, in a place of the operator's choice.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
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
    /// again.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn read(path: &Path) -> io::Result<Notes<BufReader<File>>> {
        Ok(Notes { lines: BufReader::new(File::open(path)?) })
    }
}

/// The notes of a sink, one after the other.
#[derive(Debug)]
pub struct Notes<R> {
    lines: R,
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
                Ok(_) => {}
            }
            let is_text_over = text.ends_with("\n\n");
            let ends = line.is_empty() || line == b"\n";
            let line = String::from_utf8_lossy(&line);
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
