//! OpenAI's surface, which every engine imitates in part: which operations an engine serves, and where
//! each is answered.

mod audio;
mod chat;
mod completions;
mod dress;
mod embeddings;
mod images;
mod logprobs;
mod moderations;
mod multipart;
mod request;
mod rerank;
mod responses;
mod speech;
mod vectors;

pub(crate) use request::{message_text, task_tools};
pub(crate) use vectors::{EmbeddingInput, embed};

use crate::call::Call;
use crate::fault::Fault;
use crate::options::Engine;
use crate::reply::Reply;

/// Answers a call on one of OpenAI's routes.
pub(crate) fn answer(call: &Call<'_>) -> Result<Reply, Fault> {
    let route = operation(call.path).filter(|operation| serves(call.engine(), operation));
    match route {
        Some("chat/completions") => chat::answer(call),
        Some("completions") => completions::answer(call),
        Some("embeddings") => embeddings::answer(call),
        Some("responses") => responses::answer(call),
        Some("rerank") => rerank::answer(call),
        Some("moderations") => moderations::answer(call),
        Some("images/generations") => images::answer(call),
        Some("audio/speech") => speech::answer(call),
        Some("audio/transcriptions") => audio::answer(call, audio::Job::Transcribe),
        Some("audio/translations") => audio::answer(call, audio::Job::Translate),
        _ => Err(Fault::unknown_route(call.method, call.path)),
    }
}

/// The operation a path names. Rerank is not OpenAI's and goes by three paths.
fn operation(path: &str) -> Option<&str> {
    match path {
        "/rerank" | "/v2/rerank" => Some("rerank"),
        _ => path.strip_prefix("/v1/"),
    }
}

/// What an engine offers; `openai` stands for a provider that offers everything.
fn serves(engine: Engine, operation: &str) -> bool {
    let common = matches!(operation, "chat/completions" | "completions");
    let more = match engine {
        Engine::OpenAi => true,
        Engine::Vllm => matches!(
            operation,
            "responses" | "embeddings" | "rerank" | "audio/transcriptions" | "audio/translations"
        ),
        Engine::Sglang | Engine::LlamaCpp => matches!(operation, "responses" | "embeddings" | "rerank"),
        Engine::Ollama => matches!(operation, "responses" | "embeddings"),
        Engine::TensorRtLlm => operation == "responses",
        Engine::Tgi => false,
    };
    common || more
}
