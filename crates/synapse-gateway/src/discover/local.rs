//! Engines on this machine: the usual ports are asked who listens there. Another gateway, or this
//! one, says so and is left alone.

use std::{sync::Arc, time::Duration};

use synapse_core::{
    config::snapshot::{BackendSpec, BaseUrl, EngineKind, Locality, Timeouts},
    id::GroupName,
};

use super::identify::{Heard, ask, signature};
use crate::backend::http::{HttpBackend, TlsSetup};

/// How long a neighbour may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// The usual ports, with what usually listens there.
pub const USUAL: [(u16, EngineKind, &str); 6] = [
    (11434, EngineKind::Ollama, "ollama"),
    (8000, EngineKind::Vllm, "vllm"),
    (30000, EngineKind::Sglang, "sglang"),
    (8080, EngineKind::LlamaCpp, "llama-cpp"),
    (8081, EngineKind::LlamaCpp, "llama-cpp-8081"),
    (1234, EngineKind::OpenAi, "lm-studio"),
];

/// Asks all usual ports but `own` at once; the engines that answered, in the order of the ports.
pub async fn scan(instance: &str, own: &[u16]) -> Vec<Arc<BackendSpec>> {
    let others = USUAL.into_iter().filter(|(port, ..)| !own.contains(port));
    let asked = others.map(|(port, kind, name)| identify(port, kind, name, instance));
    futures_util::future::join_all(asked).await.into_iter().flatten().map(Arc::new).collect()
}

async fn identify(port: u16, usual: EngineKind, name: &str, instance: &str) -> Option<BackendSpec> {
    let mut spec = spec(port, usual, name);
    let transport = HttpBackend::new(&spec, &TlsSetup::default(), instance).ok()?;
    let path = if usual == EngineKind::Ollama { "/api/version" } else { "/v1/models" };
    let Heard::Answer(answer) = ask(&transport, path.to_owned(), PATIENCE).await else { return None };
    spec.kind = if usual == EngineKind::Ollama {
        answer["version"].as_str().map(|_| EngineKind::Ollama)?
    } else {
        signature(answer["data"].as_array()?).unwrap_or(EngineKind::OpenAi)
    };
    Some(spec)
}

fn spec(port: u16, kind: EngineKind, name: &str) -> BackendSpec {
    BackendSpec {
        id: name.into(),
        groups: vec![GroupName::default()],
        is_worker: false,
        kind,
        url: BaseUrl { https: false, host: "localhost".to_owned(), port, path: String::new() },
        api_key: None,
        locality: Locality::OnPrem,
        is_confined: true,
        timeouts: Timeouts { connect: PATIENCE, ..Timeouts::default() },
        max_in_flight: None,
        ca_file: None,
    }
}
