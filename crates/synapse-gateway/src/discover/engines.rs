//! What each engine tells of itself, and where: models, health, load.

use serde_json::{Map, Value, json};
use synapse_core::config::snapshot::EngineKind;

use super::{
    probe::{Probe, ProbeError},
    signals::Samples,
};
use crate::route::{
    fleet::{ListedModel, Load},
    report::{CLOUD, LOCALITY},
};

/// The longest name of a model, in bytes.
const MAX_NAME: usize = 512;
/// Models of one backend that are looked at.
const MAX_MODELS: usize = 4096;

/// Whether the engine lives and can work.
pub(super) async fn health(probe: &Probe) -> Result<(), ProbeError> {
    match probe.spec.kind {
        // A provider has no health route; listing models proves address and credential.
        EngineKind::OpenAi => match probe.get(probe.api("/models")).await {
            // Some servers do not list models at all, and are well.
            Err(ProbeError::Status(404 | 405 | 501)) => Ok(()),
            other => other.map(drop),
        },
        EngineKind::Ollama => answers(probe.get(probe.root("/api/version")).await),
        EngineKind::Vllm
        | EngineKind::Sglang
        | EngineKind::LlamaCpp
        | EngineKind::Tgi
        | EngineKind::TensorRtLlm => answers(probe.get(probe.root("/health")).await),
    }
}

/// A proxy before the engine may not pass its health route on; that it answers is enough.
fn answers<T>(asked: Result<T, ProbeError>) -> Result<(), ProbeError> {
    match asked {
        Err(ProbeError::Status(401 | 403 | 404 | 405 | 501)) => Ok(()),
        other => other.map(drop),
    }
}

/// What the engine serves.
pub(super) async fn models(probe: &Probe) -> Result<Vec<ListedModel>, ProbeError> {
    let mut models = list(probe).await?;
    // They are shown to callers.
    models.retain(|model| model.id.len() <= MAX_NAME && !model.id.chars().any(char::is_control));
    if models.len() > MAX_MODELS {
        tracing::warn!(backend = %probe.spec.id, listed = models.len(), "the backend lists too many models; the first {MAX_MODELS} count");
        models.truncate(MAX_MODELS);
    }
    Ok(models)
}

async fn list(probe: &Probe) -> Result<Vec<ListedModel>, ProbeError> {
    match probe.spec.kind {
        EngineKind::Ollama => ollama_models(probe).await,
        EngineKind::Tgi => tgi_models(probe).await,
        EngineKind::LlamaCpp => Ok(openai_models(probe).await?.into_iter().map(with_llama_state).collect()),
        EngineKind::OpenAi | EngineKind::Vllm | EngineKind::Sglang | EngineKind::TensorRtLlm => {
            openai_models(probe).await
        }
    }
}

/// How busy the engine is, where it tells.
pub(super) async fn load(probe: &Probe) -> Option<Load> {
    match probe.spec.kind {
        EngineKind::OpenAi | EngineKind::Ollama => None,
        EngineKind::Vllm => {
            let m = metrics(probe).await?;
            let kv = m.mean("vllm:kv_cache_usage_perc").or_else(|| m.mean("vllm:gpu_cache_usage_perc"));
            Some(Load { kv_usage: kv, ..queue(&m, "vllm:num_requests_running", "vllm:num_requests_waiting") })
        }
        EngineKind::Sglang => {
            let m = metrics(probe).await?;
            let kv_usage = m.mean("sglang:token_usage");
            Some(Load { kv_usage, ..queue(&m, "sglang:num_running_reqs", "sglang:num_queue_reqs") })
        }
        EngineKind::Tgi => Some(queue(&metrics(probe).await?, "tgi_batch_current_size", "tgi_queue_size")),
        EngineKind::LlamaCpp => llama_load(probe).await,
        EngineKind::TensorRtLlm => trtllm_load(probe).await,
    }
}

async fn metrics(probe: &Probe) -> Option<Samples> {
    let text = probe.get(probe.root("/metrics")).await.ok()?;
    Some(Samples::parse(&String::from_utf8_lossy(&text)))
}

fn queue(samples: &Samples, running: &str, waiting: &str) -> Load {
    let count = |name| samples.sum(name).unwrap_or(0.0).max(0.0) as u32;
    Load { running: count(running), waiting: count(waiting), ..Load::default() }
}

async fn openai_models(probe: &Probe) -> Result<Vec<ListedModel>, ProbeError> {
    let listing = probe.json(probe.api("/models")).await?;
    // Together and a few others answer with the bare list.
    let data =
        listing["data"].as_array().or(listing.as_array()).ok_or(ProbeError::Shape("no list of models"))?;
    Ok(data.iter().filter_map(listed).collect())
}

fn listed(object: &Value) -> Option<ListedModel> {
    let id = object["id"].as_str().filter(|id| !id.is_empty())?;
    let mut fields = object.as_object()?.clone();
    fields.remove("id");
    Some(ListedModel { id: id.to_owned(), fields, loaded: None })
}

/// A llama.cpp router tells each model's state.
fn with_llama_state(mut model: ListedModel) -> ListedModel {
    model.loaded =
        model.fields.get("status").and_then(|s| s["value"].as_str()).map(|state| state == "loaded");
    model
}

async fn ollama_models(probe: &Probe) -> Result<Vec<ListedModel>, ProbeError> {
    let tags = probe.json(probe.root("/api/tags")).await?;
    let running = probe.json(probe.root("/api/ps")).await.unwrap_or_default();
    let loaded = |name: &str| {
        running["models"]
            .as_array()
            .is_some_and(|list| list.iter().any(|m| m["name"] == name || m["model"] == name))
    };
    ollama_list(&tags, loaded).ok_or(ProbeError::Shape("no list of models"))
}

/// What an Ollama's list says; `loaded` tells which of them are in memory.
fn ollama_list(tags: &Value, loaded: impl Fn(&str) -> bool) -> Option<Vec<ListedModel>> {
    let describe = |object: &Value| {
        let id = object["model"].as_str().or(object["name"].as_str())?;
        // Some models are only names here for what runs on somebody else's machines.
        let is_remote = ["remote_host", "remote_model"]
            .iter()
            .any(|key| object[key].as_str().is_some_and(|text| !text.is_empty()));
        let fields = fields_of(json!({
            LOCALITY: is_remote.then_some(CLOUD),
            "object": "model",
            "owned_by": "library",
            "details": object["details"],
            "size": object["size"],
        }));
        Some(ListedModel { id: id.to_owned(), fields, loaded: Some(loaded(id)) })
    };
    Some(tags["models"].as_array()?.iter().filter_map(describe).collect())
}

/// TGI serves one model and, before 3.0, lists it only on `/info`.
async fn tgi_models(probe: &Probe) -> Result<Vec<ListedModel>, ProbeError> {
    let info = probe.json(probe.root("/info")).await?;
    let id = info["model_id"].as_str().ok_or(ProbeError::Shape("no `model_id`"))?;
    let fields = fields_of(json!({
        "object": "model",
        "owned_by": id,
        "max_total_tokens": info["max_total_tokens"],
        "max_input_tokens": info["max_input_tokens"],
    }));
    Ok(vec![ListedModel { id: id.to_owned(), fields, loaded: None }])
}

fn fields_of(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}

/// `/metrics` needs a flag and `/slots` may be off; `/props` always tells the number of slots.
async fn llama_load(probe: &Probe) -> Option<Load> {
    let props = probe.json(probe.root("/props")).await.ok()?;
    let slots = props["total_slots"].as_u64().map(|n| n as u32);
    if let Some(m) = metrics(probe).await {
        return Some(Load {
            slots,
            ..queue(&m, "llamacpp:requests_processing", "llamacpp:requests_deferred")
        });
    }
    // Asking for slots would wake it.
    if props["is_sleeping"] == true {
        return Some(Load { slots, ..Load::default() });
    }
    let busy = match probe.json(probe.root("/slots")).await {
        Ok(Value::Array(list)) => list.iter().filter(|slot| slot["is_processing"] == true).count() as u32,
        _ => 0,
    };
    Some(Load { running: busy, slots, ..Load::default() })
}

/// `trtllm-serve` has JSON statistics of past iterations; the last one is the present.
async fn trtllm_load(probe: &Probe) -> Option<Load> {
    let stats = probe.json(probe.root("/metrics")).await.ok()?;
    let last = stats.as_array()?.last()?;
    let count = |key: &str| last[key].as_u64().unwrap_or(0) as u32;
    let kv = &last["kvCacheStats"];
    let kv_usage =
        kv["usedNumBlocks"].as_f64().zip(kv["maxNumBlocks"].as_f64()).map(|(used, max)| used / max.max(1.0));
    Some(Load {
        running: count("numActiveRequests"),
        waiting: count("numQueuedRequests"),
        kv_usage,
        slots: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_an_ollama_passes_on_is_listed_as_cloud() {
        let tags = json!({"models": [
            {"model": "llama3", "remote_host": ""},
            {"model": "big:120b", "remote_host": "https://elsewhere.example:443", "remote_model": "big:120b"},
        ]});
        let listed = ollama_list(&tags, |_| false).expect("a list");
        let places: Vec<_> = listed.iter().map(|model| model.fields.get(LOCALITY)).collect();
        assert_eq!(places, [None, Some(&json!(CLOUD))]);
        assert!(!listed[1].fields.values().any(|value| value.to_string().contains("elsewhere")));
    }
}
