//! `/api/embed` and its predecessor `/api/embeddings`.

use serde::Deserialize;
use serde_json::json;

use crate::call::Call;
use crate::fault::Fault;
use crate::openai::{self, EmbeddingInput};
use crate::reply::{Reply, Work};
use crate::text;

#[derive(Deserialize)]
struct EmbedRequest {
    model: Option<String>,
    input: Option<EmbeddingInput>,
    prompt: Option<String>,
    dimensions: Option<usize>,
}

pub(super) fn embed(call: &Call<'_>) -> Result<Reply, Fault> {
    let request: EmbedRequest = call.json()?;
    let model = call.model(request.model.as_deref())?;
    let texts = request.input.map(|input| input.texts()).unwrap_or_default();
    let largest = call.shared.options.embedding_dim;
    let dimensions = request.dimensions.unwrap_or(largest).min(largest);
    let embeddings: Vec<Vec<f32>> =
        texts.iter().map(|text| openai::embed(text, dimensions, call.shared.options.seed)).collect();
    let prompt: u32 = texts.iter().map(|text| text::count_tokens(text)).sum();
    let document = json!({
        "model": model,
        "embeddings": embeddings,
        "total_duration": call.behaviour.ttft.as_nanos(),
        "load_duration": 0,
        "prompt_eval_count": prompt,
    });
    Ok(Reply::json(&document).after(Work::reading(model, prompt)))
}

pub(super) fn embeddings(call: &Call<'_>) -> Result<Reply, Fault> {
    let request: EmbedRequest = call.json()?;
    let model = call.model(request.model.as_deref())?;
    let options = &call.shared.options;
    let vector = openai::embed(&request.prompt.unwrap_or_default(), options.embedding_dim, options.seed);
    Ok(Reply::json(&json!({"embedding": vector})).after(Work::with(model)))
}
