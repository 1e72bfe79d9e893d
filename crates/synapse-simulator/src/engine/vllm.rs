//! vLLM: health, version, load, metrics and model cards.

use http::Method;
use serde_json::{Value, json};

use super::Load;
use super::exposition::Exposition;
use super::openai::CREATED;
use crate::call::Call;
use crate::reply::Reply;

pub(super) fn probe(call: &Call<'_>) -> Option<Reply> {
    match call.path {
        "/health" | "/ping" => Some(Reply::text("")),
        "/version" => Some(Reply::json(&json!({"version": "0.11.2"}))),
        "/is_sleeping" => Some(Reply::json(&json!({"is_sleeping": call.behaviour.asleep}))),
        "/sleep" if call.method == Method::POST => Some(sleep(call, true)),
        "/wake_up" if call.method == Method::POST => Some(sleep(call, false)),
        "/load" => Some(Reply::json(&json!({"server_load": call.shared.ledger.counters().in_flight}))),
        "/metrics" => Some(metrics(call)),
        _ => None,
    }
}

/// Sends the engine to sleep, whatever the level, or wakes it. Asleep, it has no cache.
fn sleep(call: &Call<'_>, asleep: bool) -> Reply {
    if asleep {
        call.shared.accounts.forget_prefixes();
    }
    call.shared.change(|behaviour| behaviour.asleep = asleep);
    Reply::text("")
}

fn metrics(call: &Call<'_>) -> Reply {
    let Load { running, waiting } = super::load(call);
    let totals = call.shared.accounts.totals();
    Exposition::labelled("model_name", super::first_model(call))
        .gauge("vllm:num_requests_running", "Requests in execution.", running)
        .gauge("vllm:num_requests_waiting", "Requests waiting.", waiting)
        .gauge("vllm:kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1.", cache_usage(running))
        .counter("vllm:prefix_cache_queries_total", "Prompt tokens looked up.", totals.prompt_tokens)
        .counter("vllm:prefix_cache_hits_total", "Prompt tokens found.", totals.cached_tokens)
        .counter("vllm:prompt_tokens_total", "Prompt tokens processed.", totals.prompt_tokens)
        .counter("vllm:generation_tokens_total", "Tokens generated.", totals.generated_tokens)
        .counter("vllm:request_success_total", "Requests processed.", totals.requests)
        .reply()
}

/// A cache with room for a hundred requests, to two digits.
pub(super) fn cache_usage(running: u64) -> String {
    let percent = running.min(100);
    format!("{}.{:02}", percent / 100, percent % 100)
}

pub(super) fn card(call: &Call<'_>, model: &str) -> Value {
    json!({
        "id": model,
        "object": "model",
        "created": CREATED,
        "owned_by": "vllm",
        "root": model,
        "parent": null,
        "max_model_len": call.shared.options.context_length,
        "permission": [{
            "id": format!("modelperm-{model}"),
            "object": "model_permission",
            "created": CREATED,
            "allow_create_engine": false,
            "allow_sampling": true,
            "allow_logprobs": true,
            "allow_search_indices": false,
            "allow_view": true,
            "allow_fine_tuning": false,
            "organization": "*",
            "group": null,
            "is_blocking": false,
        }],
    })
}
