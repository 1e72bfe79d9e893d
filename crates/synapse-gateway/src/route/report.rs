//! What is known of a backend by its own account: whether it lives, what it serves, how busy it is.

use serde_json::{Map, Value};

/// What health checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// Not yet asked.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

impl Health {
    /// The word on `/health`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "healthy",
            Self::Down => "unhealthy",
        }
    }
}

/// A model as its backend lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedModel {
    /// The backend's name for it.
    pub id: String,
    /// Everything else that the backend says of it.
    pub fields: Map<String, Value>,
    /// Whether it is in memory, where the engine tells.
    pub loaded: Option<bool>,
}

/// The field by which a list says where a model runs.
pub(crate) const LOCALITY: &str = "locality";
/// Its value for a model that does not run at its backend, but somewhere outside.
pub(crate) const CLOUD: &str = "cloud";

impl ListedModel {
    /// Whether its backend passes its requests on to somebody outside the house.
    pub(super) fn is_passed_on(&self) -> bool {
        self.fields.get(LOCALITY).is_some_and(|place| place == CLOUD)
    }
}

/// An engine's own view of its load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests it works on.
    pub running: u32,
    /// Requests that wait inside it.
    pub waiting: u32,
    /// How full its KV cache is, 0–1.
    pub kv_usage: Option<f64>,
    /// Requests it can work on at once.
    pub slots: Option<u32>,
}
