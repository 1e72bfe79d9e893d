//! Where engines keep their routes.

use synapse_core::config::snapshot::{BackendSpec, EngineKind};

/// The path of an OpenAI-compatible route (`/chat/completions`). A provider's base URL is taken as
/// written; an engine's may be given with or without `/v1`.
pub fn openai(spec: &BackendSpec, route: &str) -> String {
    match spec.kind {
        EngineKind::OpenAi if !spec.url.path.is_empty() => format!("{}{route}", spec.url.path),
        _ => format!("{}/v1{route}", spec.url.root_path()),
    }
}
