//! What each engine adds to OpenAI's documents: usage details, fingerprints, timings and the fields it
//! leaves null.

use serde_json::{Map, Value, json};

use crate::behaviour::Behaviour;
use crate::call::Call;
use crate::options::Engine;
use crate::tokens::Usage;

/// The beginning of a chat or completion document.
pub(super) fn document(call: &Call<'_>, id: &str, object: &str, model: &str) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("id".to_owned(), json!(id));
    document.insert("object".to_owned(), json!(object));
    document.insert("created".to_owned(), json!(crate::call::unix_now()));
    document.insert("model".to_owned(), json!(model));
    let fingerprint = match call.engine() {
        Engine::OpenAi => "fp_simulated",
        Engine::LlamaCpp => "b10434-simulated",
        Engine::Ollama => "fp_ollama",
        Engine::Tgi => "3.3.6-simulated",
        Engine::Vllm | Engine::Sglang | Engine::TensorRtLlm => return document,
    };
    document.insert("system_fingerprint".to_owned(), json!(fingerprint));
    document
}

/// The usage of a chat or a completion.
pub(super) fn usage(engine: Engine, usage: Usage) -> Value {
    let mut document = json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total(),
    });
    match engine {
        Engine::OpenAi => {
            document["prompt_tokens_details"] = json!({"cached_tokens": usage.cached, "audio_tokens": 0});
            document["completion_tokens_details"] = json!({
                "reasoning_tokens": 0, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
            });
        }
        Engine::Vllm | Engine::LlamaCpp | Engine::TensorRtLlm => {
            document["prompt_tokens_details"] = json!({"cached_tokens": usage.cached});
        }
        Engine::Sglang => {
            document["prompt_tokens_details"] = json!({"cached_tokens": usage.cached});
            document["reasoning_tokens"] = json!(0);
        }
        Engine::Ollama | Engine::Tgi => {}
    }
    document
}

/// What a whole document carries besides choices and usage.
pub(super) fn finish_document(call: &Call<'_>, document: &mut Map<String, Value>, usage: Usage) {
    match call.engine() {
        Engine::OpenAi => insert(document, "service_tier", json!("default")),
        Engine::Vllm => {
            for field in ["service_tier", "system_fingerprint", "prompt_logprobs", "kv_transfer_params"] {
                insert(document, field, Value::Null);
            }
        }
        Engine::Sglang => insert(document, "metadata", json!({"weight_version": "default"})),
        Engine::LlamaCpp => insert(document, "timings", timings(call.behaviour, usage)),
        Engine::Ollama | Engine::Tgi | Engine::TensorRtLlm => {}
    }
}

/// What a choice carries besides its content.
pub(super) fn finish_choice(engine: Engine, choice: &mut Map<String, Value>) {
    match engine {
        Engine::Vllm => {
            insert(choice, "stop_reason", Value::Null);
            insert(choice, "token_ids", Value::Null);
        }
        Engine::Sglang => insert(choice, "matched_stop", Value::Null),
        _ => {}
    }
}

fn insert(map: &mut Map<String, Value>, key: &str, value: Value) {
    map.insert(key.to_owned(), value);
}

/// llama.cpp's own account of a reply, in milliseconds.
pub(super) fn timings(behaviour: &Behaviour, usage: Usage) -> Value {
    let processed = usage.processed();
    let side = |tokens: u32, spent: std::time::Duration| {
        // Instant replies would be infinitely fast.
        let ms = spent.as_secs_f64().mul_add(1000.0, 0.001 * f64::from(tokens.max(1)));
        (ms, ms / f64::from(tokens.max(1)), f64::from(tokens) * 1000.0 / ms)
    };
    let (prompt_ms, prompt_each, prompt_rate) = side(processed, behaviour.until_first_token(processed));
    let (predicted_ms, predicted_each, predicted_rate) =
        side(usage.completion, behaviour.itl.saturating_mul(usage.completion));
    json!({
        "cache_n": usage.cached,
        "prompt_n": processed,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": prompt_each,
        "prompt_per_second": prompt_rate,
        "predicted_n": usage.completion,
        "predicted_ms": predicted_ms,
        "predicted_per_token_ms": predicted_each,
        "predicted_per_second": predicted_rate,
    })
}
