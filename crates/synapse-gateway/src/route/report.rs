//! What is known of a backend by its own account: whether it lives, what it serves, how busy it is.

use std::borrow::Cow;

use serde_json::{Map, Value};
use synapse_core::config::snapshot::EngineKind;

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

/// A model's name as its engine understands it. Ollama reads names without regard to case, and fills in what
/// is left out: registry, namespace and tag.
pub(super) fn canonical(kind: EngineKind, model: &str) -> Cow<'_, str> {
    if kind != EngineKind::Ollama {
        return Cow::Borrowed(model);
    }
    let lower = model.trim().to_ascii_lowercase();
    let name = lower.strip_prefix("registry.ollama.ai/").unwrap_or(&lower);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    Cow::Owned(if tagged { name.to_owned() } else { format!("{name}:latest") })
}

/// Whether an Ollama says by a model's name that it runs elsewhere.
pub(super) fn is_named_cloud(kind: EngineKind, model: &str) -> bool {
    let name = canonical(kind, model);
    kind == EngineKind::Ollama && (name.ends_with("-cloud") || name.ends_with(":cloud"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ollamas_model_has_one_name_however_it_is_asked_for() {
        for name in [
            "helper",
            "Helper:latest",
            "library/helper",
            "registry.ollama.ai/library/HELPER:latest",
            " helper ",
        ] {
            assert_eq!(canonical(EngineKind::Ollama, name), "helper:latest", "{name}");
        }
        assert_eq!(canonical(EngineKind::Ollama, "me/helper:7b"), "me/helper:7b");
        assert_eq!(canonical(EngineKind::Vllm, "Meta/Llama"), "Meta/Llama");
    }
}
