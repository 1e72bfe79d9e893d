//! Text Generation Inference: health, information and metrics.

use serde_json::{Value, json};

use super::Load;
use super::exposition::Exposition;
use crate::call::Call;
use crate::reply::Reply;

pub(super) fn probe(call: &Call<'_>) -> Option<Reply> {
    match call.path {
        "/health" => Some(Reply::text("")),
        "/info" => Some(Reply::json(&info(call))),
        "/metrics" => Some(metrics(call)),
        _ => None,
    }
}

fn info(call: &Call<'_>) -> Value {
    let context = call.shared.options.context_length;
    json!({
        "model_id": super::first_model(call),
        "model_sha": null,
        "model_pipeline_tag": "text-generation",
        "max_concurrent_requests": 128,
        "max_best_of": 2,
        "max_stop_sequences": 4,
        "max_input_tokens": context.saturating_sub(1),
        "max_total_tokens": context,
        "validation_workers": 2,
        "max_client_batch_size": 4,
        "router": "text-generation-router",
        "version": "3.3.6",
        "sha": null,
        "docker_label": null,
    })
}

fn metrics(call: &Call<'_>) -> Reply {
    let Load { running, waiting } = super::load(call);
    let totals = call.shared.accounts.totals();
    Exposition::default()
        .gauge("tgi_queue_size", "Requests waiting.", waiting)
        .gauge("tgi_batch_current_size", "Requests in execution.", running)
        .counter("tgi_request_count", "Requests received.", totals.requests)
        .counter("tgi_request_success", "Requests processed.", totals.requests)
        .reply()
}
