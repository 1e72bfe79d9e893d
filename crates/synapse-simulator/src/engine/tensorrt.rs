//! TensorRT-LLM's `trtllm-serve`: health, version and its metrics, which are JSON.

use serde_json::{Value, json};

use super::Load;
use crate::call::Call;
use crate::reply::Reply;

const BLOCKS: u64 = 1_000;
/// The cache blocks one running request takes.
const BLOCKS_EACH: u64 = 10;

pub(super) fn probe(call: &Call<'_>) -> Option<Reply> {
    match call.path {
        "/health" => Some(Reply::text("")),
        "/version" => Some(Reply::json(&json!({"version": "1.1.0"}))),
        "/metrics" => Some(Reply::json(&metrics(call))),
        _ => None,
    }
}

/// The statistics of the latest iteration, in a list.
fn metrics(call: &Call<'_>) -> Value {
    let Load { running, waiting } = super::load(call);
    let used = (running * BLOCKS_EACH).min(BLOCKS);
    let totals = call.shared.accounts.totals();
    json!([{
        "iter": totals.requests,
        "iterLatencyMS": call.behaviour.itl.as_secs_f64() * 1000.0,
        "gpuMemUsage": 0,
        "cpuMemUsage": 0,
        "numActiveRequests": running,
        "numQueuedRequests": waiting,
        "numCompletedRequests": call.shared.ledger.counters().completed,
        "maxNumActiveRequests": BLOCKS / BLOCKS_EACH,
        "kvCacheStats": {
            "maxNumBlocks": BLOCKS, "usedNumBlocks": used, "freeNumBlocks": BLOCKS - used, "tokensPerBlock": 32,
        },
        "inflightBatchingStats": {"numScheduledRequests": running, "numContextRequests": 0},
    }])
}
