//! Finding out what speaks at an address, by what only it would say.

use std::time::Duration;

use hyper::{HeaderMap, Method, header::HeaderName};
use serde_json::Value;
use synapse_core::config::snapshot::{BackendSpec, EngineKind};

use crate::{
    backend::{Backend, UpstreamBody, UpstreamCall},
    route::paths,
    stream::read_at_most,
};

/// A gateway's answer to whoever sends the hop header.
pub const INSTANCE_HEADER: HeaderName = HeaderName::from_static("x-synapse-instance");

const MAX_ANSWER: usize = 1024 * 1024;

/// What speaks at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// An engine.
    Engine(EngineKind),
    /// Another gateway of this kind, or this one.
    Gateway,
    /// Nothing that could be told yet: it does not answer, or is still starting.
    Unknown,
}

/// Asks who speaks where `spec` says; its `kind` does not matter. Each question may take `patience`.
pub async fn identify(transport: &dyn Backend, spec: &BackendSpec, patience: Duration) -> Identity {
    let models = ask(transport, paths::openai(spec, "/models"), patience).await;
    let signed = match &models {
        Heard::Gateway => return Identity::Gateway,
        Heard::Answer(list) => list["data"].as_array().and_then(|models| signature(models)),
        Heard::Refusal(_) | Heard::Nothing => None,
    };
    if let Some(kind) = signed {
        return Identity::Engine(kind);
    }
    for (path, field, kind) in
        [("/api/version", "version", EngineKind::Ollama), ("/info", "model_id", EngineKind::Tgi)]
    {
        let path = format!("{}{path}", spec.url.root_path());
        if let Heard::Answer(answer) = ask(transport, path, patience).await
            && answer[field].is_string()
        {
            return Identity::Engine(kind);
        }
    }
    match models {
        // Some servers do not list models at all, or not to everybody.
        Heard::Answer(_) | Heard::Refusal(401 | 403 | 404 | 405 | 501) => {
            Identity::Engine(EngineKind::OpenAi)
        }
        Heard::Gateway | Heard::Refusal(_) | Heard::Nothing => Identity::Unknown,
    }
}

/// Engines sign their models.
pub(super) fn signature(models: &[Value]) -> Option<EngineKind> {
    match models.first()?["owned_by"].as_str()? {
        "vllm" => Some(EngineKind::Vllm),
        "sglang" => Some(EngineKind::Sglang),
        "llamacpp" => Some(EngineKind::LlamaCpp),
        "tensorrt_llm" => Some(EngineKind::TensorRtLlm),
        _ => None,
    }
}

/// What came back.
pub(super) enum Heard {
    /// A successful answer in JSON.
    Answer(Value),
    /// Another status, or no JSON.
    Refusal(u16),
    /// A gateway's answer.
    Gateway,
    /// No answer.
    Nothing,
}

/// Asks one question.
pub(super) async fn ask(transport: &dyn Backend, path: String, patience: Duration) -> Heard {
    let call = UpstreamCall {
        method: Method::GET,
        path,
        headers: HeaderMap::new(),
        body: UpstreamBody::empty(),
        connect_timeout: patience,
        on_fresh_connection: true,
    };
    let asked = async {
        let Ok(reply) = transport.call(call).await else { return Heard::Nothing };
        if reply.headers.contains_key(INSTANCE_HEADER) {
            return Heard::Gateway;
        }
        let status = reply.status;
        let Ok(answer) = read_at_most(reply.body, MAX_ANSWER).await else { return Heard::Nothing };
        match serde_json::from_slice(&answer) {
            Ok(answer) if status.is_success() => Heard::Answer(answer),
            _ => Heard::Refusal(status.as_u16()),
        }
    };
    tokio::time::timeout(patience, asked).await.unwrap_or(Heard::Nothing)
}
