//! The audit log as it is configured.

use std::{path::PathBuf, time::Duration};

use super::CheckpointSink;

/// The audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Whether there is one.
    pub enabled: bool,
    /// What a record must have survived before its request goes on.
    pub durability: Durability,
    /// Whether digests are plain, so that everybody can repeat them.
    pub plain_digests: bool,
    /// The most that the journal takes, in bytes.
    pub journal_bytes: u64,
    /// The longest that records may wait for the database.
    pub max_wait: Duration,
    /// How long entries are kept; for good, where it is not said.
    pub retention: Option<Duration>,
    /// The file outside the data folder that signed checkpoints are appended to.
    pub checkpoint_file: Option<PathBuf>,
    /// Where they go besides.
    pub sinks: Vec<CheckpointSink>,
}

/// What a record must have survived before its request goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process.
    Journal,
    /// The end of the machine.
    Fsync,
    /// The loss of the machine.
    Database,
}
