//! What waits for one sink: the file of checkpoints in the data folder, from where the sink has come to.

use std::{fs, io, path::PathBuf};

use sha2::{Digest, Sha256};
use synapse_audit::{checkpoint::Checkpoint, files::replace_text, sink::FileSink};
use synapse_core::hex;

use super::Given;

/// How many checkpoints are read at once.
const BATCH: usize = 64;

/// Between which places of the file the note stands that the sink was given last, and its hash: in another file,
/// which an operator may have put there, it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    start: u64,
    end: u64,
    hash: String,
}

impl Place {
    fn read(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (start, end) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { start, end, hash: words.next()?.to_owned() })
    }

    fn write(&self) -> String {
        format!("{} {} {}\n", self.start, self.end, self.hash)
    }
}

fn hash(note: &str) -> String {
    hex(&Sha256::digest(note))
}

/// What waits for one sink.
#[derive(Clone, Debug)]
pub(super) struct Backlog {
    checkpoints: PathBuf,
    /// The file in which the place is kept.
    kept_in: PathBuf,
    /// Unknown before the first look.
    place: Option<Place>,
    is_kept: bool,
    /// Notes before this place of the file were counted,
    counted: u64,
    /// and so many of them the sink does not have.
    waiting: u64,
}

impl Backlog {
    pub(super) fn new(checkpoints: PathBuf, kept_in: PathBuf) -> Self {
        Self { checkpoints, kept_in, place: None, is_kept: true, counted: 0, waiting: 0 }
    }

    /// How many the sink does not have, by the last look.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// The next checkpoints, each with the place where it ends. It reads files: not for a thread that others wait for.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn look(&mut self) -> io::Result<Vec<(Given, u64)>> {
        let length = match fs::metadata(&self.checkpoints) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        if self.place.is_none() || length < self.counted {
            self.resume()?;
        }
        let place = self.place.clone().unwrap_or_default();
        if length <= place.end {
            return Ok(Vec::new());
        }
        let mut new = FileSink::read_from(&self.checkpoints, self.counted)?;
        while new.next().transpose()?.is_some() {
            self.counted = new.place();
            self.waiting += 1;
        }
        let mut notes = FileSink::read_from(&self.checkpoints, place.end)?;
        let mut found = Vec::new();
        while found.len() < BATCH
            && let Some(note) = notes.next()
        {
            let note = note?;
            match Checkpoint::unverified(&note) {
                Some(checkpoint) => found.push((Given { checkpoint, note }, notes.place())),
                // No sink could put it in its place.
                None => self.waiting = self.waiting.saturating_sub(1),
            }
        }
        Ok(found)
    }

    /// Finds out how far the sink has come: from the beginning, where that cannot be told.
    fn resume(&mut self) -> io::Result<()> {
        let kept = match fs::read_to_string(&self.kept_in) {
            Ok(text) => Place::read(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let place = kept.filter(|place| self.has(place)).unwrap_or_default();
        (self.counted, self.waiting) = (place.end, 0);
        self.place = Some(place);
        Ok(())
    }

    /// Whether the note that was given last stands where it stood.
    fn has(&self, place: &Place) -> bool {
        let note =
            FileSink::read_from(&self.checkpoints, place.start).ok().and_then(|mut notes| notes.next());
        note.is_some_and(|note| note.is_ok_and(|note| hash(&note) == place.hash))
    }

    /// The sink was given this one, which ends there.
    pub(super) fn pass(&mut self, given: &Given, end: u64) {
        let start = self.place.as_ref().map_or(0, |place| place.end);
        self.place = Some(Place { start, end, hash: hash(&given.note) });
        self.is_kept = false;
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Keeps the place, so that the next process goes on there.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn keep(&mut self) -> io::Result<()> {
        if let Some(place) = self.place.as_ref().filter(|_| !self.is_kept) {
            if let Some(folder) = self.kept_in.parent() {
                fs::create_dir_all(folder)?;
            }
            replace_text(&self.kept_in, &place.write())?;
            self.is_kept = true;
        }
        Ok(())
    }
}
