//! The plainest model card, as the hosted API has it.

use serde_json::{Value, json};

/// When every simulated model was made; a constant, so that lists compare equal.
pub(super) const CREATED: i64 = 1_767_225_600;

pub(super) fn card(model: &str, owner: &str) -> Value {
    json!({"id": model, "object": "model", "created": CREATED, "owned_by": owner})
}
