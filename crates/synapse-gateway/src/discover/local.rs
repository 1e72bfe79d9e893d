//! Engines on this machine: the usual ports are asked who listens there. Another gateway, or this
//! one, says so and is left alone.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{HeaderMap, Method, header::HeaderName};
use serde_json::Value;
use synapse_core::config::snapshot::{BackendSpec, BaseUrl, EngineKind, Locality, Timeouts};

use crate::{
    backend::{
        Backend, UpstreamBody, UpstreamCall,
        http::{HttpBackend, TlsSetup},
    },
    stream::read_at_most,
};

/// A gateway's answer to whoever sends the hop header.
pub const INSTANCE_HEADER: HeaderName = HeaderName::from_static("x-synapse-instance");

/// How long a neighbour may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);
const MAX_ANSWER: usize = 1024 * 1024;

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
    let answer: Value = serde_json::from_slice(&ask(&transport, path).await?).ok()?;
    spec.kind = if usual == EngineKind::Ollama {
        answer["version"].as_str().map(|_| EngineKind::Ollama)?
    } else {
        kind_of(answer["data"].as_array()?)
    };
    Some(spec)
}

/// Engines sign their models.
fn kind_of(models: &[Value]) -> EngineKind {
    match models.first().and_then(|model| model["owned_by"].as_str()) {
        Some("vllm") => EngineKind::Vllm,
        Some("sglang") => EngineKind::Sglang,
        Some("llamacpp") => EngineKind::LlamaCpp,
        _ => EngineKind::OpenAi,
    }
}

fn spec(port: u16, kind: EngineKind, name: &str) -> BackendSpec {
    BackendSpec {
        id: name.into(),
        kind,
        url: BaseUrl { https: false, host: "localhost".to_owned(), port, path: String::new() },
        api_key: None,
        locality: Locality::OnPrem,
        timeouts: Timeouts { connect: PATIENCE, ..Timeouts::default() },
        max_in_flight: None,
        ca_file: None,
    }
}

/// The body of a successful answer of something that is no gateway.
async fn ask(transport: &HttpBackend, path: &str) -> Option<Bytes> {
    let call = UpstreamCall {
        method: Method::GET,
        path: path.to_owned(),
        headers: HeaderMap::new(),
        body: UpstreamBody::empty(),
        connect_timeout: PATIENCE,
        on_fresh_connection: true,
    };
    let asked = async {
        let reply = transport.call(call).await.ok()?;
        if !reply.status.is_success() || reply.headers.contains_key(INSTANCE_HEADER) {
            return None;
        }
        read_at_most(reply.body, MAX_ANSWER).await.ok()
    };
    tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
}
