//! Where checkpoints of the audit log go besides files, as it is configured.

use std::path::PathBuf;

use super::{OutsideUrl, SigningSecret};

/// Somewhere that every checkpoint is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointSink {
    /// Its name, unique, and fit for a file's.
    pub name: String,
    /// What it is.
    pub kind: SinkKind,
}

/// What checkpoints are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// A syslog server.
    Syslog(SyslogAddress),
    /// A receiver of signed messages over HTTP.
    Webhook(SinkWebhook),
    /// A bucket of objects.
    S3(S3Bucket),
}

/// Where a syslog server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    /// One message in each datagram.
    Udp(String, u16),
    /// Messages with their length before them.
    Tcp(String, u16),
    /// The same within TLS.
    Tls(String, u16),
    /// A local socket, such as `/dev/log`.
    Unix(PathBuf),
}

/// A receiver of signed messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkWebhook {
    /// Where it listens.
    pub url: OutsideUrl,
    /// What messages are signed with.
    pub secret: SigningSecret,
    /// Whether it may be at a private address.
    pub allow_private: bool,
}

/// A bucket of a service that speaks S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Bucket {
    /// The service.
    pub endpoint: OutsideUrl,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket's name.
    pub bucket: String,
    /// What the names of objects begin with, without a slash at either end; may be empty.
    pub prefix: String,
    /// Whether the bucket stands in the path of URLs, and not in their host.
    pub path_style: bool,
    /// Which key signs.
    pub access_key: SigningSecret,
    /// The key that signs.
    pub secret_key: SigningSecret,
    /// Whether it may be at a private address.
    pub allow_private: bool,
}
