//! The hosted API: the plainest model card, and the headers of a service with accounts and limits.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::call::Call;

/// When every simulated model was made; a constant, so that lists compare equal.
pub(super) const CREATED: i64 = 1_767_225_600;

const HEADERS: [(HeaderName, &str); 9] = [
    (HeaderName::from_static("openai-organization"), "org-simulated"),
    (HeaderName::from_static("openai-processing-ms"), "1"),
    (HeaderName::from_static("openai-version"), "2020-10-01"),
    (HeaderName::from_static("x-ratelimit-limit-requests"), "10000"),
    (HeaderName::from_static("x-ratelimit-limit-tokens"), "2000000"),
    (HeaderName::from_static("x-ratelimit-remaining-requests"), "9999"),
    (HeaderName::from_static("x-ratelimit-remaining-tokens"), "1999000"),
    (HeaderName::from_static("x-ratelimit-reset-requests"), "6ms"),
    (HeaderName::from_static("x-ratelimit-reset-tokens"), "1m0s"),
];

pub(super) fn card(model: &str, owner: &str) -> Value {
    json!({"id": model, "object": "model", "created": CREATED, "owned_by": owner})
}

pub(super) fn sign(call: &Call<'_>, headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::try_from(call.id("req_")) {
        headers.insert("x-request-id", id);
    }
}
