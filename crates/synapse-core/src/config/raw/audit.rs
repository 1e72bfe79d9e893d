//! The section `audit` as it is written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// The audit log: what is kept of every request, provably. Changes take a restart, but for `retention_days`.
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
    /// Where signed checkpoints go besides, each to all that are named here.
    pub(in crate::config) checkpoints: CheckpointSinks,
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
            checkpoints: CheckpointSinks::default(),
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

/// Where signed checkpoints go besides files.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct CheckpointSinks {
    /// Syslog servers. Syslog confirms nothing: what is lost on the way is not sent again.
    pub(in crate::config) syslog: Vec<SyslogSink>,
    /// Receivers over HTTP, told in the same way as those of alerts.
    pub(in crate::config) webhooks: Vec<WebhookSink>,
    /// Buckets of services that speak S3, with an object for each checkpoint that is never written over.
    pub(in crate::config) s3: Vec<S3Sink>,
}

/// A syslog server (RFC 5424).
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SyslogSink {
    /// Its name, unique. A sink of a new name is given all checkpoints from the first one on.
    #[schemars(required, length(min = 1, max = 64))]
    pub(in crate::config) name: Option<String>,
    /// `udp://host:514`, `tcp://host:601`, `tls://host:6514` or `unix:///dev/log`.
    #[schemars(required, length(min = 1))]
    pub(in crate::config) url: Option<String>,
}

/// A receiver of checkpoints over HTTP.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct WebhookSink {
    /// Its name, unique.
    #[schemars(required, length(min = 1, max = 64))]
    pub(in crate::config) name: Option<String>,
    /// Where it listens: `https://…`, or `http://…` beside `allow_private`.
    #[serde(skip_serializing)]
    #[schemars(required)]
    pub(in crate::config) url: Option<Secret>,
    /// What messages are signed with: `whsec_` and Base64 of 24 to 64 bytes.
    #[serde(skip_serializing)]
    #[schemars(required)]
    pub(in crate::config) secret: Option<Secret>,
    /// Whether it may be at a private address, and without TLS.
    #[serde(default)]
    pub(in crate::config) allow_private: bool,
}

/// A bucket of objects.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct S3Sink {
    /// Its name, unique.
    #[schemars(required, length(min = 1, max = 64))]
    pub(in crate::config) name: Option<String>,
    /// The service, such as `https://s3.eu-central-1.amazonaws.com`; `http://…` beside `allow_private`.
    #[schemars(required, length(min = 1))]
    pub(in crate::config) endpoint: Option<String>,
    /// The region that requests are signed for.
    #[serde(default = "region")]
    #[schemars(length(min = 1, max = 64))]
    pub(in crate::config) region: String,
    /// The bucket. Lock its objects, so that not even its owner can change them.
    #[schemars(required, length(min = 3, max = 63))]
    pub(in crate::config) bucket: Option<String>,
    /// What stands before `CHAIN/ENTRY.note` in the names of objects.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub(in crate::config) prefix: String,
    /// Whether URLs have the bucket in their path, as MinIO and others want it, or in their host.
    #[serde(default = "yes")]
    pub(in crate::config) path_style: bool,
    /// The identifier of the access key.
    #[serde(skip_serializing)]
    #[schemars(required)]
    pub(in crate::config) access_key: Option<Secret>,
    /// Its secret. It needs no more than to put objects; to read them back, verification needs to list and get them.
    #[serde(skip_serializing)]
    #[schemars(required)]
    pub(in crate::config) secret_key: Option<Secret>,
    /// Whether it may be at a private address, and without TLS.
    #[serde(default)]
    pub(in crate::config) allow_private: bool,
}

fn region() -> String {
    "us-east-1".to_owned()
}

fn yes() -> bool {
    true
}
