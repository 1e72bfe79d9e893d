//! llama.cpp's `llama-server` in router mode: health, properties, slots, metrics, model cards, and
//! loading and unloading models.

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Load;
use super::exposition::Exposition;
use super::openai::CREATED;
use crate::call::Call;
use crate::fault::Fault;
use crate::reply::Reply;
use crate::residents::State;

/// The slots of a server that was not told how many to have.
const SLOTS: u32 = 4;

pub(super) fn probe(call: &Call<'_>) -> Result<Option<Reply>, Fault> {
    let posted = call.method == Method::POST;
    let document = match call.path {
        "/health" | "/v1/health" => json!({"status": "ok"}),
        "/props" => props(call),
        "/slots" => slots(call)?,
        "/models" => json!({"object": "list", "data": cards(call)}),
        "/models/load" | "/models/unload" if posted => steer(call)?,
        "/metrics" => return Ok(Some(metrics(call))),
        _ => return Ok(None),
    };
    Ok(Some(Reply::json(&document)))
}

#[derive(Deserialize)]
struct ModelRequest {
    model: Option<String>,
}

/// `/models/load` and `/models/unload`. Both answer at once; a model takes its time to load.
fn steer(call: &Call<'_>) -> Result<Value, Fault> {
    let request: ModelRequest = call.json()?;
    let model = call.model(request.model.as_deref())?;
    if call.path == "/models/load" {
        call.shared.residents.load(&model, call.behaviour);
    } else {
        call.shared.residents.unload(&model);
    }
    Ok(json!({"success": true}))
}

fn state(call: &Call<'_>, model: &str) -> State {
    call.shared.residents.state(model, call.behaviour)
}

fn slot_count(call: &Call<'_>) -> u32 {
    call.behaviour.slots.unwrap_or(SLOTS)
}

fn props(call: &Call<'_>) -> Value {
    json!({
        "default_generation_settings": {"n_ctx": call.shared.options.context_length, "params": {}},
        "total_slots": slot_count(call),
        "model_alias": super::first_model(call),
        "model_path": format!("/models/{}.gguf", super::first_model(call)),
        "modalities": {"vision": false, "audio": false},
        "chat_template": "{{ messages }}",
        "chat_template_caps": {"supports_tools": true, "supports_tool_calls": true},
        "build_info": "b10434-simulated",
        "is_sleeping": call.behaviour.asleep || state(call, super::first_model(call)) == State::Sleeping,
    })
}

fn slots(call: &Call<'_>) -> Result<Value, Fault> {
    let Load { running, .. } = super::load(call);
    if call.query == "fail_on_no_slot=1" && running >= u64::from(slot_count(call)) {
        return Err(Fault::no_slot());
    }
    let slot = |id| {
        let n_ctx = call.shared.options.context_length;
        json!({"id": id, "n_ctx": n_ctx, "speculative": false, "is_processing": u64::from(id) < running})
    };
    Ok((0..slot_count(call)).map(slot).collect())
}

fn metrics(call: &Call<'_>) -> Reply {
    let Load { running, waiting } = super::load(call);
    let totals = call.shared.accounts.totals();
    Exposition::default()
        .counter(
            "llamacpp:prompt_tokens_total",
            "Prompt tokens processed.",
            totals.prompt_tokens - totals.cached_tokens,
        )
        .counter("llamacpp:tokens_predicted_total", "Tokens generated.", totals.generated_tokens)
        .gauge("llamacpp:predicted_tokens_seconds", "Tokens generated a second.", 0)
        .gauge("llamacpp:n_busy_slots_per_decode", "Busy slots a decode.", running)
        .gauge("llamacpp:requests_processing", "Requests in execution.", running)
        .gauge("llamacpp:requests_deferred", "Requests waiting.", waiting)
        .reply()
}

fn cards(call: &Call<'_>) -> Vec<Value> {
    call.behaviour.models.iter().map(|model| card(call, model)).collect()
}

pub(super) fn card(call: &Call<'_>, model: &str) -> Value {
    json!({
        "id": model,
        "object": "model",
        "created": CREATED,
        "owned_by": "llamacpp",
        "in_cache": true,
        "status": {"value": state(call, model).as_str(), "args": []},
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
