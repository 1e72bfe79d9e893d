//! llama.cpp's `llama-server` in router mode: health, properties, slots, metrics, model cards, and
//! loading and unloading models.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Load;
use super::exposition::Exposition;
use super::openai::CREATED;
use crate::call::Call;
use crate::fault::Fault;
use crate::reply::Reply;

/// The slots of a server that was not told how many to have.
const SLOTS: u32 = 4;

pub(super) fn probe(call: &Call<'_>) -> Option<Reply> {
    match call.path {
        "/health" | "/v1/health" => Some(Reply::json(&json!({"status": "ok"}))),
        "/props" => Some(Reply::json(&props(call))),
        "/slots" => Some(Reply::json(&slots(call))),
        "/metrics" => Some(metrics(call)),
        "/models" => Some(Reply::json(&router_models(call))),
        _ => None,
    }
}

#[derive(Deserialize)]
struct ModelRequest {
    model: Option<String>,
}

/// `/models/load` and `/models/unload`, or nothing if the path is neither.
pub(crate) fn steer_models(call: &Call<'_>) -> Option<Result<Reply, Fault>> {
    let loads = match call.path {
        "/models/load" => true,
        "/models/unload" => false,
        _ => return None,
    };
    let steer = || {
        let request: ModelRequest = call.json()?;
        let model = call.model(request.model.as_deref())?;
        call.shared.residents.set(&model, loads);
        Ok(Reply::json(&json!({"success": true})))
    };
    Some(steer())
}

fn props(call: &Call<'_>) -> Value {
    json!({
        "default_generation_settings": {"n_ctx": call.shared.options.context_length, "params": {}},
        "total_slots": call.shared.options.slots.unwrap_or(SLOTS),
        "model_alias": super::first_model(call),
        "model_path": format!("/models/{}.gguf", super::first_model(call)),
        "modalities": {"vision": false, "audio": false},
        "chat_template": "{{ messages }}",
        "chat_template_caps": {"supports_tools": true, "supports_tool_calls": true},
        "build_info": "b10434-simulated",
        "is_sleeping": false,
    })
}

fn slots(call: &Call<'_>) -> Value {
    let Load { running, .. } = super::load(call);
    let slot = |id| {
        let n_ctx = call.shared.options.context_length;
        json!({"id": id, "n_ctx": n_ctx, "speculative": false, "is_processing": u64::from(id) < running})
    };
    (0..call.shared.options.slots.unwrap_or(SLOTS)).map(slot).collect()
}

fn metrics(call: &Call<'_>) -> Reply {
    let Load { running, waiting } = super::load(call);
    let sums = call.shared.totals.sums();
    Exposition::default()
        .counter("llamacpp:prompt_tokens_total", "Prompt tokens processed.", sums.prompt)
        .counter("llamacpp:tokens_predicted_total", "Tokens generated.", sums.generated)
        .gauge("llamacpp:predicted_tokens_seconds", "Tokens generated a second.", 0)
        .gauge("llamacpp:n_busy_slots_per_decode", "Busy slots a decode.", running)
        .gauge("llamacpp:requests_processing", "Requests in execution.", running)
        .gauge("llamacpp:requests_deferred", "Requests waiting.", waiting)
        .reply()
}

fn router_models(call: &Call<'_>) -> Value {
    let loaded: BTreeSet<String> = call.shared.residents.names().into_iter().collect();
    let data = call.behaviour.models.iter().map(|model| {
        let status = if loaded.contains(model) { "loaded" } else { "unloaded" };
        json!({
            "id": model, "object": "model", "owned_by": "llamacpp", "created": CREATED, "in_cache": true,
            "status": {"value": status, "args": []},
        })
    });
    json!({"object": "list", "data": data.collect::<Vec<_>>()})
}

pub(super) fn card(call: &Call<'_>, model: &str) -> Value {
    json!({
        "id": model,
        "object": "model",
        "created": CREATED,
        "owned_by": "llamacpp",
        "meta": {
            "vocab_type": 2,
            "n_vocab": 128_256,
            "n_ctx_train": call.shared.options.context_length,
            "n_embd": call.shared.options.embedding_dim,
            "n_params": 8_030_261_312_u64,
            "size": 4_912_898_304_u64,
        },
    })
}

/// The card for Ollama's clients, beside the one for OpenAI's.
pub(super) fn ollama_card(model: &str) -> Value {
    json!({
        "name": model,
        "model": model,
        "modified_at": "",
        "size": "",
        "digest": "",
        "type": "model",
        "description": "",
        "tags": [""],
        "capabilities": ["completion"],
        "parameters": "",
        "details": {
            "parent_model": "", "format": "gguf", "family": "", "families": [""], "parameter_size": "",
            "quantization_level": "",
        },
    })
}
