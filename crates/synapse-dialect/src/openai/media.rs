//! What of a request is no text: images, audio, files, tokens, and whatever a later version of an API adds. A
//! part is taken for text only if its type says so.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use synapse_core::operation::Operation;

use crate::json::Object;

/// Parts of messages that are text.
const TEXT_PARTS: [&str; 6] =
    ["text", "input_text", "output_text", "refusal", "reasoning_text", "summary_text"];
/// Items of a conversation that are text, messages aside.
const TEXT_ITEMS: [&str; 6] = [
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "reasoning",
    "item_reference",
];
/// Fields beside the messages in which engines take what is no text.
const OTHER_FIELDS: [&str; 10] = [
    "image",
    "images",
    "image_url",
    "mask",
    "image_data",
    "prompt_embeds",
    "prompt_token_ids",
    "input_ids",
    "input_embeds",
    "multi_modal_data",
];

#[derive(Deserialize)]
struct Piece<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(default)]
    text: Option<IgnoredAny>,
    #[serde(borrow, default)]
    image: Option<&'a RawValue>,
    #[serde(borrow, default)]
    images: Option<&'a RawValue>,
    #[serde(borrow, default)]
    image_url: Option<&'a RawValue>,
    #[serde(borrow, default)]
    audio: Option<&'a RawValue>,
    #[serde(borrow, default)]
    audio_url: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input_audio: Option<&'a RawValue>,
    #[serde(borrow, default)]
    video: Option<&'a RawValue>,
    #[serde(borrow, default)]
    video_url: Option<&'a RawValue>,
    #[serde(borrow, default)]
    file: Option<&'a RawValue>,
}

impl Piece<'_> {
    /// Whether a field holds something else, whatever type is given: some engines look at the fields.
    fn has_media(&self) -> bool {
        let fields = [
            self.image,
            self.images,
            self.image_url,
            self.audio,
            self.audio_url,
            self.input_audio,
            self.video,
            self.video_url,
            self.file,
        ];
        fields.into_iter().flatten().any(|field| is_there(field.get()))
    }
}

/// The place of the first thing in a request that is no text; `None` where all of it is.
pub fn first(operation: Operation, body: &[u8]) -> Option<String> {
    // No form is without an upload.
    if matches!(operation, Operation::Transcription | Operation::Translation) {
        return Some("file".to_owned());
    }
    let object = Object::of_checked(body).ok()?;
    if let Some(key) = OTHER_FIELDS.into_iter().find(|key| object.get(key).is_some_and(is_there)) {
        return Some(key.to_owned());
    }
    let messages = || object.get("messages").and_then(|list| in_messages(list, "messages"));
    match operation {
        Operation::Completion => object.get("prompt").and_then(|prompt| tokens(prompt, "prompt")),
        Operation::Embeddings => {
            object.get("input").and_then(|input| tokens(input, "input")).or_else(messages)
        }
        Operation::Moderation => object.get("input").and_then(|input| in_parts(input, "input")),
        Operation::Responses => object.get("input").and_then(|input| in_messages(input, "input")),
        Operation::Rerank => {
            ["query", "documents"].into_iter().find_map(|key| in_parts(object.get(key)?, key))
        }
        _ => messages(),
    }
}

fn is_there(text: &str) -> bool {
    !matches!(text, "null" | "[]" | "{}" | "\"\"" | "false")
}

/// Messages of a chat, or items of a conversation.
fn in_messages(list: &str, at: &str) -> Option<String> {
    if list.starts_with('{') {
        return in_messages(&format!("[{list}]"), at);
    }
    let messages: Vec<&RawValue> = serde_json::from_str(list).ok()?;
    messages.iter().enumerate().find_map(|(index, message)| {
        let at = format!("{at}[{index}]");
        let Ok(piece) = serde_json::from_str::<Piece<'_>>(message.get()) else {
            return (!message.get().starts_with('"')).then_some(at);
        };
        let kind = piece.kind.as_deref().unwrap_or("message");
        if kind != "message" && !TEXT_ITEMS.contains(&kind) {
            return Some(at);
        }
        if piece.has_media() {
            return Some(at);
        }
        [("content", piece.content), ("output", piece.output)]
            .into_iter()
            .find_map(|(key, parts)| in_parts(parts?.get(), &format!("{at}.{key}")))
    })
}

/// The parts of a content, if it is a list of them.
fn in_parts(content: &str, at: &str) -> Option<String> {
    if content.starts_with('{') {
        return (!is_text(content)).then(|| at.to_owned());
    }
    if !content.starts_with('[') {
        return None;
    }
    let parts: Vec<&RawValue> = serde_json::from_str(content).ok()?;
    let other = parts.iter().position(|part| !is_text(part.get()));
    other.map(|index| format!("{at}[{index}]"))
}

fn is_text(part: &str) -> bool {
    if part.starts_with('"') {
        return true;
    }
    let Ok(piece) = serde_json::from_str::<Piece<'_>>(part) else { return false };
    let is_text = piece.kind.as_deref().map_or(piece.text.is_some(), |kind| TEXT_PARTS.contains(&kind));
    is_text && !piece.has_media()
}

/// A prompt in the numbers of one engine's vocabulary.
fn tokens(prompt: &str, at: &str) -> Option<String> {
    if prompt.starts_with('{') {
        return Some(at.to_owned());
    }
    let parts: Vec<&RawValue> = serde_json::from_str(prompt).ok()?;
    let other = parts.iter().position(|part| !part.get().starts_with('"'));
    other.map(|index| format!("{at}[{index}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_chat(content: &str) -> Option<String> {
        let hi = r#"{"role":"user","content":"hi"}"#;
        let body = format!(r#"{{"model":"m","messages":[{hi},{{"role":"user","content":{content}}}]}}"#);
        first(Operation::Chat, body.as_bytes())
    }

    #[test]
    fn what_is_no_text_is_told_by_its_place() {
        for content in ["\"hi\"", "null", r#"[{"type":"text","text":"a"}]"#, r#"["a"]"#, r#"[{"text":"a"}]"#]
        {
            assert_eq!(in_chat(content), None, "{content}");
        }
        for part in [
            r#"{"type":"image_url","image_url":{"url":"x"}}"#,
            r#"{"type":"im\u0061ge_url","image_url":{"url":"x"}}"#,
            r#"{"type":"input_audio","input_audio":{}}"#,
            r#"{"type":"file","file":{}}"#,
            r#"{"type":"hologram"}"#,
            r#"{"image_url":"x"}"#,
            r#"{"type":"text","text":"a","image_url":{"url":"x"}}"#,
            r#"{"text":"a","input_audio":{"data":"x"}}"#,
            "[1]",
            "7",
        ] {
            let place = in_chat(&format!(r#"[{{"type":"text","text":"a"}},{part}]"#));
            assert_eq!(place.as_deref(), Some("messages[1].content[1]"), "{part}");
        }
    }

    #[test]
    fn every_operation_has_its_places() {
        use Operation as O;
        for (operation, body, place) in [
            (O::Completion, r#"{"prompt":"a"}"#, None),
            (O::Completion, r#"{"prompt":[1,2]}"#, Some("prompt[0]")),
            (O::Completion, r#"{"prompt":"a","prompt_embeds":"AAAA"}"#, Some("prompt_embeds")),
            (O::Embeddings, r#"{"input":["a",[1]]}"#, Some("input[1]")),
            (O::Responses, r#"{"input":"a"}"#, None),
            (O::Responses, r#"{"input":[{"role":"user","content":[{"type":"input_text"}]}]}"#, None),
            (
                O::Responses,
                r#"{"input":[{"role":"user","content":[{"type":"input_image"}]}]}"#,
                Some("input[0].content[0]"),
            ),
            (O::Responses, r#"{"input":[{"type":"function_call_output","output":"a"}]}"#, None),
            (O::Responses, r#"{"input":[{"type":"computer_call_output","output":{}}]}"#, Some("input[0]")),
            (O::Chat, r#"{"messages":[{"role":"user","content":"a","images":["AA"]}]}"#, Some("messages[0]")),
            (O::Chat, r#"{"messages":[{"content":"a","image_url":"x"}]}"#, Some("messages[0]")),
            (
                O::Responses,
                r#"{"input":{"role":"user","content":[{"type":"input_file"}]}}"#,
                Some("input[0].content[0]"),
            ),
            (O::Embeddings, r#"{"input":{"image":"x"}}"#, Some("input")),
            (O::Image, r#"{"prompt":"a","image":"x"}"#, Some("image")),
            (O::Moderation, r#"{"input":[{"type":"image_url"}]}"#, Some("input[0]")),
            (O::Rerank, r#"{"query":"a","documents":[{"image":"x"}]}"#, Some("documents[0]")),
            (O::Rerank, r#"{"query":"a","documents":["b",{"text":"c"}]}"#, None),
            (O::Transcription, "--b", Some("file")),
        ] {
            assert_eq!(first(operation, body.as_bytes()).as_deref(), place, "{body}");
        }
    }
}
