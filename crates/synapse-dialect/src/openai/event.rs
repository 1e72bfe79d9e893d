//! What a single event of a streamed reply is.

use serde_json::Value;
use synapse_core::operation::Operation;

use crate::sse;

/// What an event is, before anything was released to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Nothing a caller would miss: comments, a role, "created".
    Preamble,
    /// Content, or the end of a reply without any.
    Content,
    /// The mark after the last event.
    End,
    /// The engine reports a failure.
    Error,
    /// Not what the protocol allows.
    Malformed,
}

/// Tells preamble from content, parsing the event.
pub fn classify(operation: Operation, event: &[u8]) -> EventKind {
    let parsed = sse::Event::parse(event);
    let Some(data) = parsed.data else { return EventKind::Preamble };
    let data = data.trim_ascii();
    if data == b"[DONE]" {
        return EventKind::End;
    }
    if parsed.name == Some(b"error") {
        return EventKind::Error;
    }
    if data.is_empty() {
        return EventKind::Preamble;
    }
    let Ok(json) = serde_json::from_slice::<Value>(data) else { return EventKind::Malformed };
    if is_error(&json) {
        return EventKind::Error;
    }
    let content = match operation {
        Operation::Chat => {
            any_choice(&json, |choice| choice["delta"].as_object().is_some_and(delta_has_content))
        }
        Operation::Completion => {
            any_choice(&json, |choice| choice["text"].as_str().is_some_and(|t| !t.is_empty()))
        }
        Operation::Responses => !is_responses_preamble(&json),
        _ => true,
    };
    if content { EventKind::Content } else { EventKind::Preamble }
}

fn is_error(json: &Value) -> bool {
    json.get("error").is_some_and(|e| !e.is_null())
        || matches!(json["type"].as_str(), Some("error" | "response.failed"))
        || json["object"] == "error"
}

fn any_choice(json: &Value, test: impl Fn(&Value) -> bool) -> bool {
    let choices = json["choices"].as_array().map(Vec::as_slice).unwrap_or_default();
    choices.iter().any(|choice| !choice["finish_reason"].is_null() || test(choice))
}

/// Anything but a role and empty fillers is content: engines name reasoning and audio differently.
fn delta_has_content(delta: &serde_json::Map<String, Value>) -> bool {
    delta.iter().any(|(key, value)| match value {
        Value::Null => false,
        Value::String(text) => key != "role" && !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    })
}

fn is_responses_preamble(json: &Value) -> bool {
    matches!(
        json["type"].as_str(),
        Some(
            "response.created"
                | "response.queued"
                | "response.in_progress"
                | "response.output_item.added"
                | "response.content_part.added"
                | "response.reasoning_summary_part.added"
        )
    )
}

/// A line that needs no closer look.
pub(super) fn is_plausible(line: &[u8]) -> bool {
    let Some(data) = line.strip_prefix(b"data:") else { return is_known(line) };
    let data = data.trim_ascii();
    data.is_empty() || data == b"[DONE]" || (data.starts_with(b"{") && data.ends_with(b"}"))
}

/// A line that event streams have.
pub(super) fn is_known(line: &[u8]) -> bool {
    line.is_empty()
        || line[0] == b':'
        || [&b"data"[..], b"event", b"id", b"retry"].iter().any(|f| line.starts_with(f))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(data: &str) -> EventKind {
        classify(Operation::Chat, format!("data: {data}\n\n").as_bytes())
    }

    #[test]
    fn a_role_and_fillers_are_preamble() {
        assert_eq!(
            chat(r#"{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#),
            EventKind::Preamble
        );
        assert_eq!(
            chat(r#"{"choices":[{"delta":{"role":"assistant","content":null,"tool_calls":[]}}]}"#),
            EventKind::Preamble
        );
        assert_eq!(classify(Operation::Chat, b": ping\n\n"), EventKind::Preamble);
    }

    #[test]
    fn text_tools_reasoning_and_an_end_are_content() {
        for delta in [r#"{"content":"x"}"#, r#"{"reasoning_content":"x"}"#, r#"{"tool_calls":[{"index":0}]}"#]
        {
            assert_eq!(
                chat(&format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#)),
                EventKind::Content,
                "{delta}"
            );
        }
        assert_eq!(chat(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#), EventKind::Content);
        assert_eq!(chat("[DONE]"), EventKind::End);
    }

    #[test]
    fn errors_and_garbage_are_told_apart() {
        assert_eq!(chat(r#"{"error":{"message":"boom"}}"#), EventKind::Error);
        assert_eq!(chat(r#"{"object":"error","message":"boom"}"#), EventKind::Error);
        assert_eq!(chat("{\"choices\":"), EventKind::Malformed);
    }
}
