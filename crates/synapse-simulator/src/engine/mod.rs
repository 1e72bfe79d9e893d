//! What engines tell without being asked to generate: their models, health, load and metrics. One file
//! an engine; here is what they share.

mod exposition;
mod llama_cpp;
mod openai;
mod sglang;
mod tensorrt;
mod tgi;
mod vllm;

use http::header::{HeaderValue, SERVER};
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use crate::behaviour::Health;
use crate::call::Call;
use crate::fault::Fault;
use crate::ollama;
use crate::options::Engine;
use crate::reply::Reply;

/// Adds the headers an engine, or the server it is built on, puts on every answer.
pub(crate) fn sign(call: &Call<'_>, headers: &mut HeaderMap) {
    let server = match call.engine() {
        Engine::OpenAi => return openai::sign(call, headers),
        Engine::Vllm | Engine::Sglang | Engine::TensorRtLlm => "uvicorn",
        Engine::LlamaCpp => "llama.cpp",
        Engine::Ollama | Engine::Tgi => return,
    };
    headers.insert(SERVER, HeaderValue::from_static(server));
}

/// Whether a request asks for work. Discovery reads, work is posted; what manages the engine or its
/// models is posted, too, but is none.
pub(crate) fn is_call(method: &Method, path: &str) -> bool {
    const MANAGEMENT: [&str; 5] = ["/api/show", "/models/load", "/models/unload", "/sleep", "/wake_up"];
    method == Method::POST && !MANAGEMENT.contains(&path)
}

/// Answers a request for discovery, health or metrics.
pub(crate) fn probe(call: &Call<'_>) -> Result<Reply, Fault> {
    match call.behaviour.health {
        Health::Loading => return Err(Fault::loading()),
        Health::Draining => return Err(Fault::draining()),
        Health::Failing => return Err(Fault::failing()),
        Health::Ready | Health::Silent => {}
    }
    let own = match call.engine() {
        Engine::OpenAi => None,
        Engine::Vllm => vllm::probe(call),
        Engine::Sglang => sglang::probe(call),
        Engine::LlamaCpp => llama_cpp::probe(call)?,
        Engine::Ollama => ollama::probe(call)?,
        Engine::Tgi => tgi::probe(call),
        Engine::TensorRtLlm => tensorrt::probe(call),
    };
    match own {
        Some(reply) => Ok(reply),
        None => models(call),
    }
}

/// `/v1/models` and `/v1/models/{id}`, where an id may contain slashes.
fn models(call: &Call<'_>) -> Result<Reply, Fault> {
    let unknown = || Fault::unknown_route(call.method, call.path);
    // The versions of TGI in wide use list their one model under `/info` only.
    let rest =
        call.path.strip_prefix("/v1/models").filter(|_| call.engine() != Engine::Tgi).ok_or_else(unknown)?;
    if rest.is_empty() {
        return Ok(Reply::json(&list(call)));
    }
    let id = rest.strip_prefix('/').ok_or_else(unknown)?.replace("%2F", "/").replace("%2f", "/");
    Ok(Reply::json(&card(call, call.find_model(&id)?)))
}

fn list(call: &Call<'_>) -> Value {
    let models = &call.behaviour.models;
    let data: Vec<Value> = models.iter().map(|model| card(call, model)).collect();
    match call.engine() {
        // llama-server answers OpenAI's clients and Ollama's in one document.
        Engine::LlamaCpp => {
            let models: Vec<Value> = models.iter().map(|model| llama_cpp::ollama_card(model)).collect();
            json!({"models": models, "object": "list", "data": data})
        }
        _ => json!({"object": "list", "data": data}),
    }
}

fn card(call: &Call<'_>, model: &str) -> Value {
    match call.engine() {
        Engine::OpenAi | Engine::Tgi => openai::card(model, "system"),
        Engine::Ollama => openai::card(model, "library"),
        Engine::TensorRtLlm => openai::card(model, "tensorrt_llm"),
        Engine::Vllm => vllm::card(call, model),
        Engine::Sglang => sglang::card(call, model),
        Engine::LlamaCpp => llama_cpp::card(call, model),
    }
}

/// The calls an engine has before it.
struct Load {
    running: u64,
    waiting: u64,
}

fn load(call: &Call<'_>) -> Load {
    let counters = call.shared.ledger.counters();
    Load { running: counters.running, waiting: counters.waiting }
}

/// The first model, which engines that serve one model are named after.
fn first_model<'a>(call: &'a Call<'_>) -> &'a str {
    call.behaviour.models.first().map_or("", String::as_str)
}
