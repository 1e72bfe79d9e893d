//! What is said on the control stream: one JSON object a line. Fields and types that are not known are
//! ignored, so that either end may be newer than the other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::protocol::VersionRange;

/// What the gateway says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromGateway {
    /// Its first word.
    Greeting(Greeting),
    /// The worker is in.
    Welcome(Welcome),
    /// Something to know.
    Notice(Notice),
    /// Asks for an echo, which tells the time of a round trip.
    Echo(Echo),
    /// What only a newer gateway says.
    #[serde(other)]
    Unknown,
}

/// What the worker says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromWorker {
    /// Its first word.
    Hello(Box<Hello>),
    /// How it goes, whenever that changes.
    Status(Box<Status>),
    /// The answer to the gateway's.
    Echo(Echo),
    /// What only a newer worker says.
    #[serde(other)]
    Unknown,
}

/// Who the gateway is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Greeting {
    /// The protocol versions it speaks.
    pub protocol: VersionRange,
    /// Its software version.
    pub version: String,
    /// The process that answers, where several stand behind one address.
    pub replica: String,
    /// Its half of the proof's freshness.
    pub nonce: String,
}

/// Who the worker is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol versions it speaks.
    pub protocol: VersionRange,
    /// Its software version.
    pub version: String,
    /// Its name within its group.
    pub name: String,
    /// Random for each process.
    pub instance: String,
    /// The operator's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What kind of engine it stands for, as a configuration spells it; empty where not yet known.
    #[serde(default)]
    pub engine: String,
    /// Calls at once that it wants at most.
    #[serde(default)]
    pub capacity: Option<u32>,
    /// Its half of the proof's freshness.
    pub nonce: String,
    /// Shows that it has the key.
    pub proof: String,
    /// How it goes.
    #[serde(default)]
    pub status: Status,
}

/// The worker is in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol version spoken from now on.
    pub protocol: u32,
    /// The session's number.
    pub session: u64,
    /// Grows with every session at this gateway; the newest of a worker counts.
    pub epoch: u64,
    /// The group that its key belongs to.
    pub group: String,
    /// Whether its key's record allows an engine outside the house.
    #[serde(default)]
    pub allows_cloud: bool,
    /// Things to know.
    #[serde(default)]
    pub notices: Vec<Notice>,
}

/// The code of a notice: the gateway's software is newer than the worker's.
pub const NEWER_VERSION: &str = "newer_version";
/// The code of a notice: the gateway is going down.
pub const GOING_DOWN: &str = "going_down";

/// Something to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// For programs, such as [`NEWER_VERSION`].
    pub code: String,
    /// For people.
    pub text: String,
    /// With [`NEWER_VERSION`]: the SHA-256 of each binary that the gateway offers, by platform
    /// (`linux-x86_64`); none where that is not known yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sha256: BTreeMap<String, String>,
}

impl Notice {
    /// A word that has only a code and a text.
    pub fn new(code: &str, text: impl Into<String>) -> Self {
        Self { code: code.to_owned(), text: text.into(), sha256: BTreeMap::new() }
    }
}

/// A number that comes back.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Echo {
    /// Chosen by who asks.
    pub number: u64,
}

/// How a worker and its engine go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Whether the engine answers.
    #[serde(default)]
    pub health: Health,
    /// Why it is not up, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the worker goes down, and takes nothing new.
    #[serde(default)]
    pub draining: bool,
    /// Whether the engine's address is a public one.
    #[serde(default)]
    pub cloud: bool,
    /// The engine's kind, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// What it serves.
    #[serde(default)]
    pub models: Vec<Model>,
    /// Whether it has not told for a while what it serves, so that `models` is empty for want of a list.
    #[serde(default)]
    pub unlisted: bool,
    /// How busy it is.
    #[serde(default)]
    pub load: Load,
}

/// Whether an engine answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It does.
    Up,
    /// It does not.
    Down,
    /// Not yet asked.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A model as the engine lists it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The engine's name for it.
    pub id: String,
    /// Whether it is in memory, where the engine tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded: Option<bool>,
    /// Whatever else the engine says of it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

/// The engine's own view of its load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Requests it works on.
    #[serde(default)]
    pub running: u32,
    /// Requests that wait inside it.
    #[serde(default)]
    pub waiting: u32,
    /// How full its KV cache is, 0–1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_usage: Option<f64>,
    /// Requests it can work on at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
}

/// A message that is not what the protocol says. It never repeats what it was.
#[derive(Debug, thiserror::Error)]
#[error("a line is no message of the protocol (at byte {0})")]
pub struct Malformed(usize);

/// Reads one line.
pub(crate) fn read<M: DeserializeOwned>(line: &[u8]) -> Result<M, Malformed> {
    serde_json::from_slice(line).map_err(|error| Malformed(error.column()))
}

/// Whether `name` can be a worker's: 1–64 characters of `[A-Za-z0-9._-]`.
pub fn is_name(name: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=64).contains(&name.len()) && name.bytes().all(fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_peer_adds_is_ignored() {
        let line =
            br#"{"type":"status","health":"dreaming","models":[{"id":"m","new":1}],"newer":{"a":[1]}}"#;
        let FromWorker::Status(status) = read(line).expect("a message") else { panic!("a status") };
        assert_eq!((status.health, status.models[0].id.as_str()), (Health::Unknown, "m"));
        let line = br#"{"type":"telepathy","number":{"deep":[]}}"#;
        assert!(matches!(read(line), Ok(FromWorker::Unknown)));
        assert!(matches!(read(line), Ok(FromGateway::Unknown)));
    }

    #[test]
    fn a_line_that_is_no_message_is_not_repeated() {
        for line in [&b"secret"[..], b"[]", b"{}", br#"{"type":7}"#, br#"{"type":"hello","name":"secret"}"#] {
            let error = read::<FromWorker>(line).expect_err("no message").to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_name_is_short_and_plain() {
        for good in ["gpubox-8081", "a", "A.b_c-9", &"x".repeat(64)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a b", "ä", "a/b", "a\n", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
