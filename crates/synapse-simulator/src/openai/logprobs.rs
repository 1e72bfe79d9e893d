//! Invented but consistent log probabilities: the same token always has the same one.

use serde_json::{Value, json};

use crate::text::{self, Random};

/// The log probability of `token`: between -1 and 0.
fn logprob(token: &str) -> f64 {
    -Random::new(text::hash(token.as_bytes())).fraction()
}

/// The chat format's entry for `token`, with its `top` likeliest alternatives, itself first.
pub(super) fn entry(token: &str, top: u32) -> Value {
    let own = logprob(token);
    let alternatives: Vec<Value> = (0..top.min(20))
        .map(|rank| {
            let alternative = if rank == 0 { token.to_owned() } else { format!("{token}~{rank}") };
            document(&alternative, own - f64::from(rank))
        })
        .collect();
    let mut entry = document(token, own);
    entry["top_logprobs"] = Value::Array(alternatives);
    entry
}

fn document(token: &str, logprob: f64) -> Value {
    json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()})
}

/// The legacy format of completions, for `tokens` that begin at character `offset` of the text.
pub(super) fn legacy(tokens: &[String], top: u32, offset: usize) -> Value {
    let mut end = offset;
    let offsets: Vec<usize> = tokens
        .iter()
        .map(|token| {
            let start = end;
            end += token.chars().count();
            start
        })
        .collect();
    let alternatives = tokens.iter().map(|token| {
        let ranked = (0..top.min(5)).map(|rank| {
            let alternative = if rank == 0 { token.clone() } else { format!("{token}~{rank}") };
            (alternative, json!(logprob(token) - f64::from(rank)))
        });
        Value::Object(ranked.collect())
    });
    json!({
        "tokens": tokens,
        "token_logprobs": tokens.iter().map(|token| logprob(token)).collect::<Vec<_>>(),
        "top_logprobs": alternatives.collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}
