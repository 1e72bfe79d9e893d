//! `/v1/embeddings`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::vectors::{EmbeddingInput, embed};
use crate::call::Call;
use crate::fault::Fault;
use crate::options::Engine;
use crate::reply::{Reply, Work};
use crate::text;

#[derive(Debug, Deserialize)]
struct EmbeddingRequest {
    model: Option<String>,
    input: Option<EmbeddingInput>,
    #[serde(default)]
    encoding_format: Option<String>,
    #[serde(default)]
    dimensions: Option<usize>,
}

pub(super) fn answer(call: &Call<'_>) -> Result<Reply, Fault> {
    let request: EmbeddingRequest = call.json()?;
    let model = call.model(request.model.as_deref())?;
    let texts = request.input.as_ref().ok_or_else(|| Fault::missing("input"))?.texts();
    if texts.is_empty() {
        return Err(Fault::invalid("'input' must not be empty."));
    }
    let largest = call.shared.options.embedding_dim;
    let dimensions = request.dimensions.unwrap_or(largest);
    if dimensions == 0 || dimensions > largest {
        return Err(Fault::invalid(format!("'dimensions' must be between 1 and {largest}.")));
    }
    let as_base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => return Err(Fault::invalid(format!("'{other}' is not one of 'float', 'base64'."))),
    };
    let mut prompt = 0;
    let mut data = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let length = text::count_tokens(text);
        call.check_context(length)?;
        prompt += length;
        let vector = embed(text, dimensions, call.shared.options.seed);
        data.push(json!({"object": "embedding", "index": index, "embedding": encoded(&vector, as_base64)}));
    }
    let mut document = json!({"object": "list", "data": data, "model": model});
    if call.engine() == Engine::Vllm {
        document["id"] = json!(call.id("embd-"));
        document["created"] = json!(crate::call::unix_now());
    }
    document["usage"] = json!({"prompt_tokens": prompt, "total_tokens": prompt});
    Ok(Reply::json(&document).after(Work::reading(model, prompt)))
}

fn encoded(vector: &[f32], as_base64: bool) -> Value {
    if !as_base64 {
        return json!(vector);
    }
    let bytes: Vec<u8> = vector.iter().flat_map(|component| component.to_le_bytes()).collect();
    json!(STANDARD.encode(bytes))
}
