//! `/v1/images/generations`: the same small picture for every prompt.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::{Call, unix_now};
use crate::fault::Fault;
use crate::reply::{Reply, Work};
use crate::text;

/// A PNG of one blue pixel.
const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGMwTpsJAAICATNWh+JUAAAAAElFTkSuQmCC";

#[derive(Deserialize)]
struct ImageRequest {
    model: Option<String>,
    prompt: Option<String>,
    n: Option<u32>,
}

pub(super) fn answer(call: &Call<'_>) -> Result<Reply, Fault> {
    let request: ImageRequest = call.json()?;
    let model = call.model(request.model.as_deref())?;
    let prompt = request.prompt.ok_or_else(|| Fault::missing("prompt"))?;
    let count = request.n.unwrap_or(1);
    if !(1..=10).contains(&count) {
        return Err(Fault::invalid("'n' must be between 1 and 10."));
    }
    let data: Vec<Value> = (0..count).map(|_| json!({"b64_json": PICTURE})).collect();
    let (input, output) = (text::count_tokens(&prompt), 272 * count);
    let usage = json!({
        "input_tokens": input, "output_tokens": output, "total_tokens": input + output,
        "input_tokens_details": {"text_tokens": input, "image_tokens": 0},
    });
    let document = json!({"created": unix_now(), "data": data, "usage": usage});
    Ok(Reply::json(&document).after(Work::with(model)))
}
