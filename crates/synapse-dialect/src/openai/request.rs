//! Requests with a JSON body: the fields that decide their way, and the edits on the way out.

use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use synapse_core::{
    error::{Fault, FaultKind},
    operation::Operation,
};

use super::{
    preferences::{self, Preferences},
    prompt::is_like,
};
use crate::{
    bounded::Count,
    json::{Edits, Element, Inside, Object, quote},
};

/// What the gateway reads of a request. The body itself stays as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The model asked for.
    pub model: String,
    /// Whether the reply is to be streamed.
    pub stream: bool,
    /// Whether the caller asked for the usage chunk of a stream.
    pub wants_usage: bool,
    /// Whether the engine keeps something of the request, so that it must not be sent twice.
    pub has_side_effects: bool,
    /// How many choices a complete reply has: `n`, for each prompt.
    pub choices: u32,
    /// What the caller wishes of the request's way.
    pub preferences: Option<Box<Preferences>>,
    /// What the request is expected to cost an engine, in tokens: a rough guess from its length and
    /// from how much it asks for.
    pub tokens: u32,
    /// The most tokens of reply that the request allows for each choice, where it says so.
    pub max_output: Option<u32>,
    /// Where the body may have to be changed for an engine.
    pub places: Places,
}

/// Where a body may have to be changed, so that it need not be read again for that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The value of `model`.
    model: Option<Range<usize>>,
    /// The value of `stream_options`.
    stream_options: Option<Range<usize>>,
    /// Fields that no engine gets to see.
    private: Vec<Range<usize>>,
    /// Behind the opening brace.
    begin: usize,
    /// Whether any field stays that a new one before it must be parted from.
    keeps_fields: bool,
}

impl Shape {
    /// The shape of the body after edits that leave what it says as it is, but for how much it asks for; `None`
    /// where the body must be read anew to tell.
    pub fn after(&self, edits: &Edits, length: usize, max_output: Option<u32>) -> Option<Self> {
        let places = self.places.after(edits)?;
        Some(Self { tokens: tokens(max_output, length), max_output, places, ..self.clone() })
    }
}

impl Places {
    fn after(&self, edits: &Edits) -> Option<Self> {
        let moved = |range: &Option<Range<usize>>| match range {
            Some(range) => edits.moved(range).map(Some),
            None => Some(None),
        };
        // Which comma goes with a private field depends on what stands before it.
        if edits.overlap() || !self.private.is_empty() {
            return None;
        }
        Some(Self {
            model: moved(&self.model)?,
            stream_options: moved(&self.stream_options)?,
            private: Vec::new(),
            // What is put in stands behind the brace, and whoever is bound has more than private fields.
            begin: self.begin,
            keeps_fields: true,
        })
    }

    fn of(object: &Object<'_>) -> Self {
        Self {
            model: object.value_range("model"),
            stream_options: object.value_range("stream_options"),
            private: object.ranges_of(&preferences::FIELDS).collect(),
            begin: object.begin(),
            keeps_fields: object.keys().any(|key| !preferences::FIELDS.contains(&key)),
        }
    }
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

/// Reads a request of `operation`.
///
/// # Errors
/// `invalid_json`, `missing_field` or `invalid_field`, naming the field.
pub fn read(operation: Operation, body: &[u8]) -> Result<Shape, Fault> {
    let inside = Inside { list: "messages", names: ["role", "content"], at_most: MAX_MESSAGES };
    let (object, messages) = Object::parse_into(body, inside).map_err(|e| {
        Fault::new(FaultKind::InvalidJson, format!("The request body must be one JSON object: {e}."))
    })?;
    // Some engines read keys without regard to case, and would see another request than the gateway.
    if let Some(key) = object.keys().find(|key| is_like(key, &DECISIVE)) {
        return Err(invalid(key, "is not spelled as the API has it"));
    }
    let stream = field::<bool>(&object, "stream", "true or false")?.unwrap_or(false);
    if object.get("stream_options").is_some_and(|text| text != "null" && !text.starts_with('{')) {
        return Err(invalid("stream_options", "must be an object"));
    }
    let options = field::<StreamOptions>(&object, "stream_options", "an object")?;
    if options.is_some() && !stream {
        return Err(invalid("stream_options", "is only allowed when `stream` is true"));
    }
    let mut preferences = preferences::read(&object)?;
    let model = match field::<String>(&object, "model", "a string")? {
        Some(model) => model,
        // The first of several models is the one asked for.
        None => preferences.as_mut().and_then(|p| p.take_first()).ok_or_else(|| missing("model"))?,
    };
    check_model_name(&model)?;
    for key in required(operation) {
        if object.get(key).is_none_or(|value| value == "null") {
            return Err(missing(key));
        }
    }
    if operation == Operation::Chat {
        check_messages(&object, &messages)?;
    }
    check_numbers(&object)?;
    let max_output = max_output(&object);
    Ok(Shape {
        model,
        stream,
        wants_usage: options.and_then(|o| o.include_usage).unwrap_or(false),
        has_side_effects: has_side_effects(operation, &object),
        choices: choices(operation, &object)?,
        preferences,
        tokens: tokens(max_output, body.len()),
        max_output,
        places: Places::of(&object),
    })
}

/// The fields that decide a request's way, and what its key allows.
const DECISIVE: [&str; 8] =
    ["model", "models", "provider", "messages", "prompt", "input", "instructions", "stream"];

/// Bytes of JSON per token, roughly.
const BYTES_PER_TOKEN: usize = 4;
/// How much is generated where the request does not say.
const USUAL_OUTPUT: u32 = 256;

/// The largest of the fields that bound a reply: which one of them an engine obeys is its own business.
pub(super) fn max_output(object: &Object<'_>) -> Option<u32> {
    let limits = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
    limits.into_iter().filter_map(|key| whole_tokens(object.read(key).ok()??)).max()
}

/// A number of tokens, which may have been written with a fraction; `None` for -1, which bounds nothing.
pub(super) fn whole_tokens(number: f64) -> Option<u32> {
    (number >= 0.0).then(|| number.ceil() as u32)
}

fn tokens(limit: Option<u32>, length: usize) -> u32 {
    // Limits are often far above what is needed.
    let output = limit.map_or(USUAL_OUTPUT, |limit| limit.min(4 * USUAL_OUTPUT));
    u32::try_from(length / BYTES_PER_TOKEN).unwrap_or(u32::MAX).saturating_add(output)
}

/// The most messages of a chat.
const MAX_MESSAGES: usize = 2048;
/// The most choices for a prompt.
const MAX_CHOICES: u32 = 1024;
/// The longest model name, in bytes.
const MAX_MODEL: usize = 256;

/// Checks a model's name before it goes into messages, records and logs.
///
/// # Errors
/// `missing_field` or `invalid_field`.
pub fn check_model_name(model: &str) -> Result<(), Fault> {
    if model.is_empty() {
        return Err(missing("model"));
    }
    if model.len() > MAX_MODEL || model.chars().any(char::is_control) {
        return Err(invalid("model", "must be at most 256 bytes long, without control characters"));
    }
    Ok(())
}

/// The fields without which an operation makes no sense.
const fn required(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::Chat => &["messages"],
        Operation::Completion | Operation::Image => &["prompt"],
        Operation::Embeddings | Operation::Moderation | Operation::Speech => &["input"],
        Operation::Rerank => &["query", "documents"],
        Operation::Responses | Operation::Transcription | Operation::Translation => &[],
    }
}

fn check_messages(object: &Object<'_>, messages: &[Element<'_, 2>]) -> Result<(), Fault> {
    if !object.get("messages").is_some_and(|text| text.starts_with('[')) {
        return Err(invalid("messages", "must be a list of objects, each with a `role`"));
    }
    if messages.is_empty() {
        return Err(invalid("messages", "must have at least one message"));
    }
    if messages.len() > MAX_MESSAGES {
        return Err(invalid("messages", &format!("must have at most {MAX_MESSAGES} messages")));
    }
    for (at, message) in messages.iter().enumerate() {
        let Some([role, content]) = message else {
            return Err(invalid(&format!("messages[{at}]"), "must be an object"));
        };
        if !role.is_some_and(|role| role.starts_with('"') && role.len() > 2) {
            return Err(invalid(&format!("messages[{at}].role"), "must be a text that is not empty"));
        }
        if !content.is_none_or(|content| content.starts_with(['"', '[', 'n'])) {
            let what = "must be a text, a list of parts, or null";
            return Err(invalid(&format!("messages[{at}].content"), what));
        }
    }
    Ok(())
}

/// Numbers that no engine can honour. What is a little too large for one is for the engine to say;
/// to some, -1 means without limit.
fn check_numbers(object: &Object<'_>) -> Result<(), Fault> {
    const TOKENS: [&str; 4] = ["max_tokens", "max_completion_tokens", "max_output_tokens", "min_tokens"];
    const AMOUNTS: [&str; 4] = ["temperature", "top_p", "presence_penalty", "frequency_penalty"];
    for key in TOKENS {
        let tokens = field::<f64>(object, key, "a number")?.unwrap_or(0.0);
        if !(-1.0..=f64::from(u32::MAX)).contains(&tokens) {
            return Err(invalid(key, "is beyond what any engine can count"));
        }
    }
    AMOUNTS.iter().try_for_each(|key| field::<f64>(object, key, "a number").map(|_| ()))
}

fn choices(operation: Operation, object: &Object<'_>) -> Result<u32, Fault> {
    let n = field::<u32>(object, "n", "a whole number")?.unwrap_or(1);
    if !(1..=MAX_CHOICES).contains(&n) {
        return Err(invalid("n", &format!("must be between 1 and {MAX_CHOICES}")));
    }
    if operation != Operation::Completion {
        return Ok(n);
    }
    // A list of texts or of token lists is a batch; a list of tokens is one prompt.
    let inner = object.get("prompt").and_then(|prompt| prompt.strip_prefix('[')).map(str::trim_start);
    if !inner.is_some_and(|first| first.starts_with(['"', '['])) {
        return Ok(n);
    }
    let batch = object.read::<Count>("prompt").ok().flatten().unwrap_or_default();
    Ok(n.saturating_mul(batch.0.max(1)))
}

/// The Responses API stores by default, and background work goes on after the reply.
fn has_side_effects(operation: Operation, object: &Object<'_>) -> bool {
    let is = |key, value| object.get(key) == Some(value);
    match operation {
        Operation::Responses => !is("store", "false") || is("background", "true"),
        _ => is("store", "true") || is("background", "true"),
    }
}

pub(super) fn field<'a, T: Deserialize<'a>>(
    object: &Object<'a>,
    key: &str,
    what: &str,
) -> Result<Option<T>, Fault> {
    object.read(key).map_err(|_| invalid(key, &format!("must be {what}")))
}

fn missing(key: &str) -> Fault {
    Fault::new(FaultKind::MissingField, format!("The field `{key}` is required.")).param(key.to_owned())
}

pub(super) fn invalid(key: &str, what: &str) -> Fault {
    Fault::new(FaultKind::InvalidField, format!("The field `{key}` {what}.")).param(key.to_owned())
}

/// The body to send to an engine that calls the model `upstream_model`. Streams of chats and
/// completions always ask for usage, so that tokens can be counted.
pub fn rewrite(operation: Operation, shape: &Shape, body: &Bytes, upstream_model: &str) -> Bytes {
    let ask_usage =
        shape.stream && !shape.wants_usage && matches!(operation, Operation::Chat | Operation::Completion);
    if !ask_usage && shape.model == upstream_model && shape.preferences.is_none() {
        return body.clone();
    }
    let places = &shape.places;
    let mut edits = Edits::default();
    let mut added = Vec::new();
    match &places.model {
        Some(range) => edits.replace(range.clone(), quote(upstream_model)),
        None => added.push(format!("\"model\":{}", quote(upstream_model))),
    }
    if ask_usage {
        let options = places.stream_options.clone();
        let present = options.clone().and_then(|range| std::str::from_utf8(&body[range]).ok());
        let options_text = with_usage(present);
        match options {
            Some(range) => edits.replace(range, options_text),
            None => added.push(format!("\"stream_options\":{options_text}")),
        }
    }
    for range in &places.private {
        edits.replace(range.clone(), "");
    }
    if !added.is_empty() {
        let comma = if places.keeps_fields { "," } else { "" };
        edits.replace(places.begin..places.begin, added.join(",") + comma);
    }
    edits.apply(body)
}

/// The caller's `stream_options` with `include_usage` set.
fn with_usage(present: Option<&str>) -> String {
    let fallback = || r#"{"include_usage":true}"#.to_owned();
    let Some(text) = present.filter(|text| *text != "null") else { return fallback() };
    let Ok(object) = Object::parse(text.as_bytes()) else { return fallback() };
    let mut edits = Edits::default();
    edits.set(&object, "include_usage", "true");
    let edited = edits.apply(&Bytes::copy_from_slice(text.as_bytes()));
    String::from_utf8(edited.to_vec()).unwrap_or_else(|_| fallback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = r#"{"messages":[{"role":"user","content":"hi"}],"model":"m","seed":1.0}"#;

    fn rewritten(body: &str, model: &str) -> String {
        let shape = read(Operation::Chat, body.as_bytes()).expect("a request");
        let body = Bytes::copy_from_slice(body.as_bytes());
        String::from_utf8(rewrite(Operation::Chat, &shape, &body, model).to_vec()).expect("UTF-8")
    }

    fn refusal(operation: Operation, body: &str) -> (&'static str, String) {
        let fault = read(operation, body.as_bytes()).expect_err("a refusal");
        (fault.kind.code(), fault.param.unwrap_or_default().into_owned())
    }

    #[test]
    fn a_request_nobody_edits_keeps_its_bytes() {
        assert_eq!(rewritten(CHAT, "m"), CHAT);
    }

    #[test]
    fn only_the_models_name_changes() {
        assert_eq!(rewritten(CHAT, "org/m:8b"), CHAT.replace("\"m\"", "\"org/m:8b\""));
    }

    #[test]
    fn the_first_of_several_models_is_asked_for_where_none_stands_alone() {
        let body = CHAT.replace("\"model\":\"m\"", "\"models\":[\"m\",\"n\"]");
        let shape = read(Operation::Chat, body.as_bytes()).expect("a request");
        assert_eq!((&*shape.model, shape.preferences.map(|p| p.models)), ("m", Some(vec!["n".to_owned()])));
        let sent: serde_json::Value = serde_json::from_str(&rewritten(&body, "m")).expect("JSON");
        assert_eq!((&sent["model"], sent.get("models")), (&"m".into(), None));
    }

    #[test]
    fn engines_do_not_see_the_callers_wishes() {
        let sent = |body: &'static str| {
            let shape = read(Operation::Responses, body.as_bytes()).expect("a request");
            rewrite(Operation::Responses, &shape, &Bytes::from_static(body.as_bytes()), "m")
        };
        assert_eq!(sent(r#"{"models":["a"],"provider":{},"model":"m"}"#), r#"{"model":"m"}"#);
        assert_eq!(sent(r#"{"model":"m", "models" : ["a"] , "seed":1}"#), r#"{"model":"m" , "seed":1}"#);
        assert_eq!(sent(r#"{"model":"m","provider":{}}"#), r#"{"model":"m"}"#);
        assert_eq!(sent(r#"{"models":["m"]}"#), r#"{"model":"m"}"#);
        assert_eq!(sent(r#"{"models":["m"],"seed":1,"provider":{}}"#), r#"{"model":"m","seed":1}"#);
    }

    #[test]
    fn a_request_costs_what_it_says_and_what_it_asks_for() {
        let cost = |body: &str| read(Operation::Completion, body.as_bytes()).expect("a request").tokens;
        assert_eq!(cost(r#"{"model":"m","prompt":"a"}"#), 6 + 256);
        assert_eq!(cost(r#"{"model":"m","prompt":"a","max_tokens":10}"#), 10 + 10);
        assert_eq!(cost(r#"{"model":"m","prompt":"a","max_tokens":100000}"#), 11 + 1024);
    }

    #[test]
    fn a_bound_counts_however_its_number_is_written() {
        let bound = |number: &str| {
            let body = format!(r#"{{"model":"m","prompt":"a","max_tokens":{number}}}"#);
            read(Operation::Completion, body.as_bytes()).expect("a request").max_output
        };
        for (number, tokens) in [("100000.0", 100_000), ("1e5", 100_000), ("99.1", 100), ("0", 0)] {
            assert_eq!(bound(number), Some(tokens), "{number}");
        }
        assert_eq!(bound("4294967294.5"), Some(u32::MAX));
        assert_eq!((bound("-1"), bound("-0.5"), bound("null")), (None, None, None));
    }

    #[test]
    fn a_stream_asks_for_usage_and_keeps_the_callers_options() {
        let plain = CHAT.replace("\"seed\"", "\"stream\":true,\"seed\"");
        assert!(rewritten(&plain, "m").contains(r#""stream_options":{"include_usage":true}"#));
        let options = plain.replace("\"seed\"", r#""stream_options":{"x":[1]},"seed""#);
        assert!(rewritten(&options, "m").contains(r#""stream_options":{"include_usage":true,"x":[1]}"#));
        let wanted = plain.replace("\"seed\"", r#""stream_options":{"include_usage":true},"seed""#);
        assert_eq!(rewritten(&wanted, "m"), wanted);
    }

    #[test]
    fn a_wrong_request_is_refused_by_the_fields_name() {
        let chat = Operation::Chat;
        assert_eq!(refusal(chat, "{").0, "invalid_json");
        assert_eq!(refusal(chat, r#"{"messages":[{"role":"user"}]}"#), ("missing_field", "model".into()));
        assert_eq!(refusal(chat, r#"{"model":"m"}"#), ("missing_field", "messages".into()));
        assert_eq!(refusal(chat, r#"{"model":"a\nb"}"#), ("invalid_field", "model".into()));
        assert_eq!(refusal(chat, &format!(r#"{{"model":"{}"}}"#, "m".repeat(257))).0, "invalid_field");
        assert_eq!(refusal(chat, r#"{"model":7,"messages":[]}"#), ("invalid_field", "model".into()));
        assert_eq!(refusal(chat, r#"{"model":"m","messages":[]}"#), ("invalid_field", "messages".into()));
        assert_eq!(refusal(chat, r#"{"model":"m","messages":[{"role":""}]}"#).1, "messages[0].role");
        let stream = r#"{"model":"m","messages":[{"role":"user"}],"stream":"true"}"#;
        assert_eq!(refusal(chat, stream), ("invalid_field", "stream".into()));
        let options = r#"{"model":"m","messages":[{"role":"user"}],"stream_options":{}}"#;
        assert_eq!(refusal(chat, options), ("invalid_field", "stream_options".into()));
        assert_eq!(refusal(Operation::Embeddings, r#"{"model":"m"}"#).1, "input");
        assert_eq!(refusal(Operation::Rerank, r#"{"model":"m","query":"q"}"#).1, "documents");
    }

    #[test]
    fn a_complete_reply_has_n_choices_for_each_prompt() {
        let count = |body: &str| read(Operation::Completion, body.as_bytes()).expect("a request").choices;
        assert_eq!(count(r#"{"model":"m","prompt":"a"}"#), 1);
        assert_eq!(count(r#"{"model":"m","prompt":["a","b"],"n":2}"#), 4);
        assert_eq!(count(r#"{"model":"m","prompt":[1,2,3],"n":2}"#), 2);
    }

    #[test]
    fn a_key_that_only_some_engines_would_know_is_refused() {
        for key in ["Model", "MESSAGES", "meſſages", "Input"] {
            let body = CHAT.replace("\"seed\"", &format!("\"{key}\""));
            assert_eq!(refusal(Operation::Chat, &body), ("invalid_field", key.to_owned()));
        }
    }

    #[test]
    fn responses_have_side_effects_unless_told_otherwise() {
        let read =
            |body: &str| read(Operation::Responses, body.as_bytes()).expect("a request").has_side_effects;
        assert!(read(r#"{"model":"m","input":"x"}"#));
        assert!(!read(r#"{"model":"m","input":"x","store":false}"#));
        assert!(read(r#"{"model":"m","input":"x","store":false,"background":true}"#));
    }
}
