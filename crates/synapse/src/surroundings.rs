//! The one place where a configuration reaches the environment and the file system.

use std::{io, path::Path};

use synapse_core::config::Surroundings;

/// The process's own environment and files.
pub(crate) struct Process;

impl Surroundings for Process {
    #[expect(clippy::disallowed_methods, reason = "the binary is what may read the environment")]
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read_file(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }
}
