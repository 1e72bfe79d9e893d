//! vLLM: health, version, load, metrics and model cards.

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
        "/load" => Some(Reply::json(&json!({"server_load": call.shared.ledger.counters().in_flight}))),
        "/metrics" => Some(metrics(call)),
        _ => None,
    }
}

fn metrics(call: &Call<'_>) -> Reply {
    let Load { running, waiting } = super::load(call);
    let sums = call.shared.totals.sums();
    Exposition::labelled("model_name", super::first_model(call))
        .gauge("vllm:num_requests_running", "Requests in execution.", running)
        .gauge("vllm:num_requests_waiting", "Requests waiting.", waiting)
        .gauge("vllm:kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1.", cache_usage(running))
        .counter("vllm:prefix_cache_queries_total", "Prompt tokens looked up.", sums.prefix_queries)
        .counter("vllm:prefix_cache_hits_total", "Prompt tokens found.", sums.prefix_hits)
        .counter("vllm:prompt_tokens_total", "Prompt tokens processed.", sums.prompt)
        .counter("vllm:generation_tokens_total", "Tokens generated.", sums.generated)
        .counter("vllm:request_success_total", "Requests processed.", sums.requests)
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
