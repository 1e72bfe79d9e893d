//! The parts of a request that OpenAI's formats share: messages, tools, stop strings and limits. What
//! each format does with them is in its own file.

use serde::Deserialize;
use serde_json::Value;

use crate::generation::{Format, Task, Tool, ToolChoice};

/// What a chat or a completion may ask for besides its prompt.
#[derive(Debug, Deserialize)]
pub(super) struct Sampling {
    #[serde(default)]
    pub(super) stream: Option<bool>,
    #[serde(default)]
    pub(super) stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    pub(super) n: Option<u32>,
    #[serde(default)]
    stop: Option<Stop>,
    #[serde(default)]
    seed: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct StreamOptions {
    #[serde(default)]
    pub(super) include_usage: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
}

impl Sampling {
    pub(super) fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(super) fn includes_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|options| options.include_usage)
    }

    /// A task with these limits and no prompt yet.
    pub(super) fn task(&self) -> Task {
        let stop = match &self.stop {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop.clone()],
            Some(Stop::Several(stops)) => stops.clone(),
        };
        Task {
            seed: self.seed.map(i64::cast_unsigned),
            max_tokens: self.max_completion_tokens.or(self.max_tokens),
            stop,
            parallel_tools: true,
            ..Task::default()
        }
    }
}

/// The text of a message's content: a string, or the text parts of a list.
pub(crate) fn message_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// Writes `messages` into the task as its prompt, and the last one as its question if a user asks it.
pub(super) fn read_messages(task: &mut Task, messages: &[Value]) {
    let texts: Vec<String> = messages.iter().map(|message| message_text(&message["content"])).collect();
    task.prompt = texts.join("\n");
    if messages.last().is_some_and(|last| last["role"] == "user") {
        task.question = texts.into_iter().next_back();
    }
}

/// The functions in a `tools` list, in the nested form of chat or the flat one of responses.
pub(crate) fn task_tools(tools: &[Value]) -> Vec<Tool> {
    let functions = tools.iter().map(|tool| tool.get("function").unwrap_or(tool));
    functions
        .filter_map(|function| {
            let name = function["name"].as_str()?.to_owned();
            Some(Tool { name, parameters: function["parameters"].clone() })
        })
        .collect()
}

/// The meaning of `tool_choice`, in either form.
pub(super) fn tool_choice(choice: &Value) -> ToolChoice {
    match choice.as_str() {
        Some("none") => ToolChoice::None,
        Some("required") => ToolChoice::Required,
        Some(_) => ToolChoice::Auto,
        None => {
            let name = choice.pointer("/function/name").or_else(|| choice.get("name"));
            name.and_then(Value::as_str).map_or(ToolChoice::Auto, |name| ToolChoice::Named(name.to_owned()))
        }
    }
}

/// The meaning of `response_format`, or of the `text.format` of responses, whose schema is not nested.
pub(super) fn format(wanted: &Value) -> Format {
    match wanted["type"].as_str() {
        Some("json_object") => Format::JsonObject,
        Some("json_schema") => {
            let schema = wanted.pointer("/json_schema/schema").or_else(|| wanted.get("schema"));
            schema.map_or(Format::JsonObject, |schema| Format::JsonSchema(schema.clone()))
        }
        _ => Format::Text,
    }
}
