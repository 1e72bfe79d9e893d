//! What goes wrong with a call, and where on its way: a plain value. Carrying it out is for `server`
//! (at the connection), `dispatch` (before the head) and `playback` (in the body).

use serde::{Deserialize, Serialize};

use crate::socket::Ending;
use crate::text::Random;

/// What goes over the wire in place of an answer that is to be garbage.
const GARBAGE: &[u8] = b"\x16\x03\x01 this is not HTTP\r\n\r\n\0\xff\xfe";

/// The point at which a call goes wrong, and how.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interruption {
    /// Where it happens.
    pub after: Point,
    /// What happens then.
    pub kind: InterruptionKind,
    /// The share of calls that it befalls, from 0 to 1, by the seed.
    #[serde(default = "all")]
    pub share: f64,
}

fn all() -> f64 {
    1.0
}

impl Interruption {
    /// One that befalls every call.
    pub fn new(after: impl Into<Point>, kind: InterruptionKind) -> Self {
        Self { after: after.into(), kind, share: all() }
    }

    /// The same for this share of the calls.
    #[must_use]
    pub fn for_share(self, share: f64) -> Self {
        Self { share, ..self }
    }

    /// Whether it lasts until it is lifted, rather than for a moment.
    pub(crate) fn stalls(&self) -> bool {
        self.kind == InterruptionKind::Stall
    }

    /// What befalls one call: its own byte of the range, or nothing if the share spares it.
    pub(crate) fn drawn(self, random: &mut Random) -> Option<Self> {
        if random.fraction() >= self.share {
            return None;
        }
        let after = match self.after {
            Point::Byte { byte: ByteRange::Between([from, to]) } => {
                let length = to.saturating_sub(from).max(1);
                Point::byte(from + random.next() % length)
            }
            settled => settled,
        };
        Some(Self { after, ..self })
    }
}

/// A point on a call's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "`after` is a number of events, \"connect\", \"request\", {\"byte\": N} or {\"byte\": [FROM, TO]}"
)]
pub enum Point {
    /// So many events of the reply have been sent; a reply that is not streamed counts as one. With
    /// fewer events, the reply ends well.
    Events(u32),
    /// A stage before the reply.
    Stage(Stage),
    /// So many bytes of the reply's body have been sent; with fewer, the reply ends well.
    Byte {
        /// Which.
        byte: ByteRange,
    },
}

impl Point {
    /// After this many bytes of the body.
    #[must_use]
    pub const fn byte(at: u64) -> Self {
        Self::Byte { byte: ByteRange::At(at) }
    }

    /// After a number of bytes from `from` up to, not including, `to`: each call's own, by the seed.
    #[must_use]
    pub const fn any_byte(from: u64, to: u64) -> Self {
        Self::Byte { byte: ByteRange::Between([from, to]) }
    }
}

impl From<u32> for Point {
    fn from(events: u32) -> Self {
        Self::Events(events)
    }
}

impl From<Stage> for Point {
    fn from(stage: Stage) -> Self {
        Self::Stage(stage)
    }
}

/// A stage before a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The connection has been accepted; nothing has been read.
    Connect,
    /// The request has been read whole; nothing has been sent.
    Request,
}

/// Which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "`byte` is a number or [FROM, TO]")]
pub enum ByteRange {
    /// The same for every call.
    At(u64),
    /// Drawn for each call, from the first up to, not including, the second.
    Between([u64; 2]),
}

/// The ways in which a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterruptionKind {
    /// The connection is reset.
    Reset,
    /// It ends cleanly: the connection where nothing was sent, the body without a finish reason and
    /// without `[DONE]`, or short of its length.
    Eof,
    /// Nothing more is sent until the behaviour no longer stalls; then it goes on.
    Stall,
    /// An error in the engine's own shape, then the end.
    Error,
    /// Garbage: bytes that are not HTTP, one event that is not JSON, or a byte that JSON cannot have.
    Malformed,
}

impl InterruptionKind {
    /// How a connection ends on which nothing was sent; none where something is.
    pub(crate) fn ending(self) -> Option<Ending> {
        match self {
            Self::Reset => Some(Ending::Reset),
            Self::Eof => Some(Ending::Close),
            Self::Malformed => Some(Ending::Saying(GARBAGE)),
            Self::Stall | Self::Error => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn read(after: serde_json::Value) -> Result<Point, serde_json::Error> {
        from_value(after)
    }

    #[test]
    fn a_point_is_written_in_the_way_that_suits_it() {
        for (written, point) in [
            (json!(3), Point::Events(3)),
            (json!("connect"), Stage::Connect.into()),
            (json!("request"), Stage::Request.into()),
            (json!({"byte": 7}), Point::byte(7)),
            (json!({"byte": [2, 9]}), Point::any_byte(2, 9)),
        ] {
            assert_eq!(read(written.clone()).unwrap(), point);
            assert_eq!(serde_json::to_value(point).unwrap(), written);
        }
        let refused = read(json!("head")).unwrap_err().to_string();
        assert!(refused.contains("\"request\""), "{refused}");
    }

    #[test]
    fn each_call_draws_its_own_byte_and_its_own_fate() {
        let mut random = Random::new(1);
        let anywhere = Interruption::new(Point::any_byte(10, 20), InterruptionKind::Reset).for_share(0.5);
        let drawn: Vec<_> = (0..1000).filter_map(|_| anywhere.drawn(&mut random)).collect();
        assert!((400..600).contains(&drawn.len()), "{}", drawn.len());
        for byte in 10..20 {
            assert!(drawn.iter().any(|one| one.after == Point::byte(byte)), "{byte}");
        }
        assert!(drawn.iter().all(|one| matches!(one.after, Point::Byte { byte: ByteRange::At(10..20) })));
    }
}
