//! A file of checkpoints outside the data folder.

use std::{
    io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use synapse_audit::sink::FileSink;
use synapse_gateway::tasks;

use super::{Failure, Given, Sink};

/// The file, and the one that its checkpoints come from.
pub(super) struct Copy {
    path: PathBuf,
    source: PathBuf,
    file: Option<FileSink>,
}

impl Copy {
    pub(super) fn new(path: PathBuf, source: PathBuf) -> Self {
        Self { path, source, file: None }
    }
}

#[async_trait]
impl Sink for Copy {
    async fn give(&mut self, given: &Given) -> Result<(), Failure> {
        let (path, source, note, file) =
            (self.path.clone(), self.source.clone(), given.note.clone(), self.file.take());
        let appended = tasks::block(move || append(file, &path, &source, &note)).await;
        let fail = |error: io::Error| Failure::Away(format!("{}: {error}", self.path.display()));
        self.file = Some(appended.map_err(fail)?);
        Ok(())
    }
}

fn append(file: Option<FileSink>, path: &Path, source: &Path, note: &str) -> io::Result<FileSink> {
    // A file that was moved away, or whose volume is another one, is not written to where nobody finds it.
    let opened = file.filter(|file| file.is_at(path).is_ok_and(|is_there| is_there));
    let mut file = opened.map_or_else(|| FileSink::open(path), Ok)?;
    // Under another name, it may be the very file that the checkpoint comes from.
    if !file.is_at(source)? {
        file.append(note)?;
    }
    Ok(file)
}
