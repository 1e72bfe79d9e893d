//! `/v1/moderations`: a text is flagged for each category whose name it contains.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::fault::Fault;
use crate::reply::{Reply, Work};

const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

#[derive(Deserialize)]
struct ModerationRequest {
    model: Option<String>,
    #[serde(default)]
    input: Value,
}

pub(super) fn answer(call: &Call<'_>) -> Result<Reply, Fault> {
    let request: ModerationRequest = call.json()?;
    let model = match &request.model {
        Some(name) => call.model(Some(name))?,
        // The one operation whose model may be left out.
        None => call.behaviour.models.first().cloned().unwrap_or_default(),
    };
    let results: Vec<Value> = match &request.input {
        Value::String(text) => vec![result(text)],
        Value::Array(inputs) => inputs.iter().map(|input| result(text_of(input))).collect(),
        _ => return Err(Fault::missing("input")),
    };
    let document = json!({"id": call.id("modr-"), "model": model, "results": results});
    Ok(Reply::json(&document).after(Work::with(model)))
}

/// An input is a text or a part of a message.
fn text_of(input: &Value) -> &str {
    input.as_str().or_else(|| input["text"].as_str()).unwrap_or_default()
}

fn result(text: &str) -> Value {
    let flags = CATEGORIES.map(|category| (category, text.contains(category)));
    let by_category = |value: fn(bool) -> Value| -> Map<String, Value> {
        flags.iter().map(|(category, flagged)| ((*category).to_owned(), value(*flagged))).collect()
    };
    json!({
        "flagged": flags.iter().any(|(_, flagged)| *flagged),
        "categories": by_category(Value::Bool),
        "category_scores": by_category(|flagged| json!(if flagged { 0.98 } else { 0.01 })),
        "category_applied_input_types": by_category(|_| json!(["text"])),
    })
}
