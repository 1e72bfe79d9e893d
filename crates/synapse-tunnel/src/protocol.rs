//! What both ends have agreed on: names, versions, sizes, times, and how a connection is closed.

use std::time::Duration;

use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "synapse.tunnel.v1";
/// Where the gateway opens the control stream.
pub const CONTROL_PATH: &str = "/synapse.tunnel.v1/control";
/// The header of the upgrade that tells the worker's software version.
pub const VERSION_HEADER: &str = "x-synapse-version";
/// On a worker's 502: the engine has not said this, and how far the call got.
pub const ERROR_HEADER: &str = "x-synapse-tunnel-error";
/// On a call: it must not go over a connection to the engine that was used before.
pub const FRESH_HEADER: &str = "x-synapse-tunnel-fresh";

/// The versions of what is said on the control stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRange {
    /// The oldest one spoken.
    pub min: u32,
    /// The newest one spoken.
    pub max: u32,
}

/// The versions that this build speaks.
pub const VERSIONS: VersionRange = VersionRange { min: 1, max: 1 };

impl VersionRange {
    /// The newest version that both speak.
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

/// The largest WebSocket message sent.
pub(crate) const MESSAGE: usize = 64 * 1024;
/// The largest WebSocket message taken.
pub(crate) const MAX_MESSAGE: usize = 1024 * 1024;
/// The longest line on the control stream.
pub(crate) const MAX_LINE: usize = 1024 * 1024;
/// Models that a worker may list.
pub const MAX_MODELS: usize = 4096;

/// Calls at once through one connection.
pub const MAX_STREAMS: u32 = 4096;
/// What a stream may have on its way unread.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
/// What the connection may: as much as all streams together, so that those which stall never take
/// room from the others.
pub(crate) const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;
// HTTP/2 allows no more than this.
const _: () = assert!(CONNECTION_WINDOW < 1 << 31);
/// What waits in a stream to be sent.
pub(crate) const SEND_BUFFER: usize = STREAM_WINDOW as usize;
/// The largest HTTP/2 frame. A message holds it whole, and a token waits for one of them at most.
pub(crate) const FRAME: u32 = 32 * 1024;
const _: () = assert!(FRAME as usize + 9 <= MESSAGE);
/// The largest head of a request or a reply.
pub(crate) const MAX_HEAD: u32 = 64 * 1024;
/// Streams that were cancelled, and whose late frames are still known for what they are.
pub(crate) const REMEMBERED_CANCELS: usize = 16 * 1024;

/// How long an answer to a ping may take where other signs of life come: nobody is given up for it.
pub(crate) const PONG: Duration = Duration::from_secs(600);

/// When a silent peer is asked for a sign of life, and when it is given up. Every byte is a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// Silence until it is asked.
    pub ask_after: Duration,
    /// Further silence until it is given up.
    pub patience: Duration,
}

impl Liveness {
    /// The silence after which it is given up.
    pub(crate) fn limit(self) -> Duration {
        self.ask_after + self.patience
    }
}

impl Default for Liveness {
    /// Dead within 15 s.
    fn default() -> Self {
        Self { ask_after: Duration::from_secs(5), patience: Duration::from_secs(9) }
    }
}

/// How long a handshake may take.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a close waits for the peer to have read it.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// Removes the headers that belong to one connection, and not to the message.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<_> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| header::HeaderName::try_from(name.trim()).ok())
        .collect();
    named.iter().for_each(|name| drop(headers.remove(name)));
    for name in [
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::HeaderName::from_static("keep-alive"),
        header::HeaderName::from_static("proxy-connection"),
    ] {
        headers.remove(name);
    }
}

/// Why a connection is closed: a WebSocket close code, and a reason for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code.
    pub code: u16,
    /// The reason, at most 123 bytes.
    pub reason: String,
}

/// Codes of WebSocket itself, and from 4400 on those of the tunnel.
pub mod code {
    /// All is done.
    pub const DONE: u16 = 1000;
    /// The gateway goes down.
    pub const GOING_AWAY: u16 = 1001;
    /// Bytes that are no WebSocket, or no HTTP/2.
    pub const PROTOCOL: u16 = 1002;
    /// A message of text.
    pub const UNSUPPORTED: u16 = 1003;
    /// A message or a line that is too long.
    pub const TOO_BIG: u16 = 1009;
    /// A hello that makes no sense.
    pub const BAD_HELLO: u16 = 4400;
    /// The proof of the key is wrong.
    pub const BAD_PROOF: u16 = 4401;
    /// The key is not valid any more.
    pub const REVOKED: u16 = 4403;
    /// The handshake was not finished in time.
    pub const TOO_SLOW: u16 = 4408;
    /// Another worker has come with the same name.
    pub const SUPERSEDED: u16 = 4409;
    /// The same worker has come again.
    pub const REPLACED: u16 = 4410;
    /// The worker has a connection to this gateway already.
    pub const DUPLICATE: u16 = 4411;
    /// No protocol version is common to both.
    pub const VERSION: u16 = 4426;
}

impl Close {
    /// A close with a reason, which is cut where it is too long for a close frame.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        let mut end = reason.len().min(123);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        Self { code, reason }
    }
}

impl std::fmt::Display for Close {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.reason, self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ranges_of_versions_meet_at_the_newest_of_both() {
        let range = |min, max| VersionRange { min, max };
        assert_eq!(range(1, 3).common(range(2, 5)), Some(3));
        assert_eq!(range(4, 4).common(range(1, 9)), Some(4));
        assert_eq!(range(1, 2).common(range(3, 4)), None);
    }

    #[test]
    fn a_reason_fits_a_close_frame() {
        assert_eq!(Close::new(code::DONE, "ä".repeat(100)).reason, "ä".repeat(61));
    }
}
