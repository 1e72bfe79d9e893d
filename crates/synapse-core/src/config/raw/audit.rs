//! The section `audit` as it is written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The audit log: what is kept of every request, provably.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Audit {
    /// Whether there is one. Without it, requests leave no more than a line in the access log.
    pub(in crate::config) enabled: bool,
    /// What a record must have survived before its request goes on.
    pub(in crate::config) durability: Durability,
    /// How prompts and replies are digested, so that a known text can be found in the log.
    pub(in crate::config) digests: Digests,
    /// The most that records take on the disk before the database has them, in MiB. Beyond that, requests
    /// are refused with 503.
    #[schemars(range(min = 1, max = 65_536))]
    pub(in crate::config) journal_mb: u64,
    /// The longest that records may wait for the database, in seconds. Beyond that, requests are refused
    /// with 503.
    #[schemars(range(min = 1, max = 604_800))]
    pub(in crate::config) max_wait_s: f64,
    /// How many days entries are kept. Then whole months go, once a signed statement stands in their place; 0 keeps
    /// them for good.
    #[schemars(range(max = 36_500))]
    pub(in crate::config) retention_days: u32,
    /// The file that signed checkpoints are appended to. Put it where those who can write the database cannot:
    /// on another volume, or collected by another machine. Default: a file in `data_dir`.
    #[schemars(length(min = 1))]
    pub(in crate::config) checkpoint_file: Option<String>,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            enabled: true,
            durability: Durability::default(),
            digests: Digests::default(),
            journal_mb: 256,
            max_wait_s: 600.0,
            retention_days: 400,
            checkpoint_file: None,
        }
    }
}

/// What a record must have survived before its request goes on.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Durability {
    /// The end of the process: it is written to the journal, which is on disk within 100 ms.
    #[default]
    Journal,
    /// The end of the machine: the journal is on disk.
    Fsync,
    /// The loss of the machine: it is committed in the database.
    Database,
}

/// How texts are digested.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Digests {
    /// By HMAC-SHA-256, with a key for each team and month: to destroy the key is to erase the digests.
    #[default]
    Hmac,
    /// By plain SHA-256, which everybody can check, but whose short texts can be guessed.
    Sha256,
}
