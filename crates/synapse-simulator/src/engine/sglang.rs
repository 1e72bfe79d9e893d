//! SGLang: health, model and server information, loads, metrics and model cards.

use serde_json::{Value, json};

use super::Load;
use super::exposition::Exposition;
use super::openai::CREATED;
use super::vllm::cache_usage;
use crate::call::Call;
use crate::reply::Reply;

/// The tokens the simulated memory pool holds, and those one request takes of it.
const POOL: u64 = 100_000;
const SHARE: u64 = 1_000;

pub(super) fn probe(call: &Call<'_>) -> Option<Reply> {
    match call.path {
        "/health" | "/health_generate" => Some(Reply::text("")),
        "/get_model_info" | "/model_info" => Some(Reply::json(&model_info(call))),
        "/server_info" | "/get_server_info" => Some(Reply::json(&server_info(call))),
        "/v1/loads" => Some(Reply::json(&loads(call))),
        "/metrics" => Some(metrics(call)),
        _ => None,
    }
}

fn model_info(call: &Call<'_>) -> Value {
    let model = super::first_model(call);
    json!({
        "model_path": model,
        "tokenizer_path": model,
        "is_generation": true,
        "preferred_sampling_params": null,
        "weight_version": "default",
    })
}

fn server_info(call: &Call<'_>) -> Value {
    let model = super::first_model(call);
    json!({
        "model_path": model,
        "served_model_name": model,
        "context_length": call.shared.options.context_length,
        "max_total_num_tokens": POOL,
        "max_running_requests": POOL / SHARE,
        "status": "ready",
        "version": "0.5.5",
    })
}

fn loads(call: &Call<'_>) -> Value {
    let Load { running, waiting } = super::load(call);
    let load = json!({
        "dp_rank": 0,
        "num_running_reqs": running,
        "num_waiting_reqs": waiting,
        "num_used_tokens": running * SHARE,
        "num_total_tokens": running * SHARE,
        "max_total_num_tokens": POOL,
    });
    json!({"timestamp": jiff::Timestamp::now().to_string(), "dp_rank_count": 1, "loads": [load]})
}

fn metrics(call: &Call<'_>) -> Reply {
    let Load { running, waiting } = super::load(call);
    let totals = call.shared.accounts.totals();
    let hit_rate = (totals.cached_tokens * 100).checked_div(totals.prompt_tokens).unwrap_or(0);
    Exposition::labelled("model_name", super::first_model(call))
        .gauge("sglang:num_running_reqs", "Running requests.", running)
        .gauge("sglang:num_queue_reqs", "Requests in the waiting queue.", waiting)
        .gauge("sglang:num_used_tokens", "Tokens in use.", running * SHARE)
        .gauge("sglang:token_usage", "Share of the memory pool in use, 0 to 1.", cache_usage(running))
        .gauge("sglang:cache_hit_rate", "Prefix cache hit rate, 0 to 1.", cache_usage(hit_rate))
        .gauge("sglang:gen_throughput", "Tokens generated a second.", 0)
        .counter("sglang:prompt_tokens_total", "Prompt tokens processed.", totals.prompt_tokens)
        .counter("sglang:generation_tokens_total", "Tokens generated.", totals.generated_tokens)
        .counter("sglang:num_requests_total", "Requests processed.", totals.requests)
        .reply()
}

pub(super) fn card(call: &Call<'_>, model: &str) -> Value {
    json!({
        "id": model,
        "object": "model",
        "created": CREATED,
        "owned_by": "sglang",
        "root": model,
        "parent": null,
        "max_model_len": call.shared.options.context_length,
    })
}
