//! Ollama's native API: its routes, and the models it lists.

mod cards;
mod embed;
mod generate;

use http::Method;
use serde::Deserialize;
use serde_json::json;

use crate::call::Call;
use crate::fault::Fault;
use crate::reply::Reply;

/// Answers discovery, or nothing if the path is not one of Ollama's own.
pub(crate) fn probe(call: &Call<'_>) -> Result<Option<Reply>, Fault> {
    let document = match call.path {
        "/" => return Ok(Some(Reply::text("Ollama is running"))),
        "/api/version" => json!({"version": "0.13.0"}),
        "/api/tags" => cards::tags(call),
        "/api/ps" => cards::ps(call),
        "/api/show" if call.method == Method::POST => cards::show(call, &named(call)?),
        _ => return Ok(None),
    };
    Ok(Some(Reply::json(&document)))
}

/// Answers a call for work.
pub(crate) fn answer(call: &Call<'_>) -> Result<Reply, Fault> {
    match call.path {
        "/api/chat" => generate::chat(call),
        "/api/generate" => generate::generate(call),
        "/api/embed" => embed::embed(call),
        "/api/embeddings" => embed::embeddings(call),
        _ => Err(Fault::unknown_route(call.method, call.path)),
    }
}

#[derive(Deserialize)]
struct Named {
    model: Option<String>,
    name: Option<String>,
}

/// The model a request is about, under either of the names the field has had.
fn named(call: &Call<'_>) -> Result<String, Fault> {
    let request: Named = call.json()?;
    let name = request.model.or(request.name).ok_or_else(|| Fault::invalid("model is required"))?;
    call.find_model(&name).map(str::to_owned)
}

/// The current time as Ollama writes it.
fn now() -> String {
    jiff::Timestamp::now().to_string()
}
