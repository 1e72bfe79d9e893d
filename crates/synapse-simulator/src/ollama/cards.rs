//! What Ollama tells about its models: installed, running, and one in detail.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::call::Call;
use crate::text::{self, Random};

const SIZE: u64 = 4_920_753_328;
const MODIFIED: &str = "2026-01-01T00:00:00Z";
/// How long a model stays loaded after its last use.
const KEPT: SignedDuration = SignedDuration::from_mins(5);

pub(super) fn tags(call: &Call<'_>) -> Value {
    let models = call.behaviour.models.iter().map(|model| {
        let mut card = card(model);
        card["modified_at"] = json!(MODIFIED);
        card
    });
    json!({"models": models.collect::<Vec<_>>()})
}

pub(super) fn ps(call: &Call<'_>) -> Value {
    let expiry = Timestamp::now().saturating_add(KEPT).unwrap_or(Timestamp::MAX).to_string();
    let models = call.shared.residents.loaded(call.behaviour).into_iter().map(|model| {
        let mut card = card(&model);
        card["expires_at"] = json!(expiry);
        card["size_vram"] = json!(SIZE);
        card["context_length"] = json!(call.shared.options.context_length);
        card
    });
    json!({"models": models.collect::<Vec<_>>()})
}

pub(super) fn show(call: &Call<'_>, model: &str) -> Value {
    json!({
        "modelfile": format!("FROM {model}\n"),
        "parameters": "stop \"<|eot_id|>\"",
        "template": "{{ .Prompt }}",
        "details": details(),
        "model_info": {
            "general.architecture": "llama",
            "general.parameter_count": 8_030_261_248_u64,
            "llama.context_length": call.shared.options.context_length,
            "llama.embedding_length": call.shared.options.embedding_dim,
        },
        "capabilities": ["completion", "tools", "embedding"],
        "modified_at": MODIFIED,
    })
}

fn card(model: &str) -> Value {
    let mut random = Random::new(text::hash(model.as_bytes()));
    let digest: String = (0..4).map(|_| format!("{:016x}", random.next())).collect();
    json!({"name": model, "model": model, "size": SIZE, "digest": digest, "details": details()})
}

fn details() -> Value {
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "8.0B",
        "quantization_level": "Q4_K_M",
    })
}
