//! `/v1/rerank` and `/v2/rerank`, after Jina and Cohere: documents by their likeness to a query.

use serde::Deserialize;
use serde_json::{Value, json};

use super::vectors::{cosine, embed};
use crate::call::Call;
use crate::fault::Fault;
use crate::options::Engine;
use crate::reply::{Reply, Work};
use crate::text;

#[derive(Deserialize)]
struct RerankRequest {
    model: Option<String>,
    query: Option<String>,
    documents: Option<Vec<Document>>,
    top_n: Option<usize>,
    return_documents: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    Text(String),
    Object { text: String },
}

impl Document {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Object { text } => text,
        }
    }
}

pub(super) fn answer(call: &Call<'_>) -> Result<Reply, Fault> {
    let request: RerankRequest = call.json()?;
    let model = call.model(request.model.as_deref())?;
    let query = request.query.ok_or_else(|| Fault::missing("query"))?;
    let documents = request.documents.ok_or_else(|| Fault::missing("documents"))?;
    let options = &call.shared.options;
    let vector = |text: &str| embed(text, options.embedding_dim, options.seed);
    let asked = vector(&query);
    let score = |document: &Document| f64::midpoint(1.0, cosine(&asked, &vector(document.text())));
    let mut ranked: Vec<(usize, f64)> = documents.iter().map(score).enumerate().collect();
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    ranked.truncate(request.top_n.unwrap_or(usize::MAX));

    // vLLM returns the documents whatever is asked.
    let returns_documents = call.engine() == Engine::Vllm || request.return_documents.unwrap_or(false);
    let result = |(index, score): (usize, f64)| {
        let mut result = json!({"index": index, "relevance_score": score});
        if returns_documents {
            result["document"] = json!({"text": documents[index].text()});
        }
        result
    };
    let results: Vec<Value> = ranked.into_iter().map(result).collect();
    let read: u32 = documents.iter().map(|document| text::count_tokens(document.text())).sum();
    let tokens = read + text::count_tokens(&query);
    let document = if call.path == "/v2/rerank" && call.engine() == Engine::OpenAi {
        let billed = json!({"api_version": {"version": "2"}, "billed_units": {"search_units": 1}});
        json!({"id": call.id("rerank-"), "results": results, "meta": billed})
    } else {
        json!({
            "id": call.id("rerank-"), "model": model, "object": "list",
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens}, "results": results,
        })
    };
    Ok(Reply::json(&document).after(Work::reading(model, tokens)))
}
