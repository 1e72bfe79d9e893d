//! What the simulated model says: text, structured output or tool calls, from the prompt and the seed.
//! Wire formats turn their requests into a [`Task`] and its [`Answer`] into their replies.

use serde_json::{Value, json};

use crate::schema;
use crate::text;

/// A user message that begins with this is answered with the rest of it.
const ECHO: &str = "echo:";

/// A request for generated text, whatever format it came in.
#[derive(Debug, Default)]
pub(crate) struct Task {
    /// The whole prompt, from which the text follows.
    pub(crate) prompt: String,
    /// The message to answer, where the last word was the user's.
    pub(crate) question: Option<String>,
    pub(crate) seed: Option<u64>,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) stop: Vec<String>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) tool_choice: ToolChoice,
    /// Whether several tools may be called at once.
    pub(crate) parallel_tools: bool,
    pub(crate) format: Format,
}

/// A function the caller offers.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) parameters: Value,
}

/// Which tools are to be called.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    /// Those the question mentions by name.
    #[default]
    Auto,
    None,
    Required,
    Named(String),
}

/// The form of the text.
#[derive(Debug, Default)]
pub(crate) enum Format {
    #[default]
    Text,
    JsonObject,
    JsonSchema(Value),
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    Stop,
    Length,
    ToolCalls,
}

impl Finish {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// One function to call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    pub(crate) arguments: Value,
}

/// What was generated for one choice.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The text, token by token; empty where tools are called.
    pub(crate) tokens: Vec<String>,
    pub(crate) tool_calls: Vec<ToolCall>,
    pub(crate) finish: Finish,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        self.tokens.concat()
    }

    /// The tokens generated, arguments of tools included.
    pub(crate) fn token_count(&self) -> u32 {
        let arguments: u32 =
            self.tool_calls.iter().map(|call| 1 + text::count_tokens(&call.arguments.to_string())).sum();
        text::count(self.tokens.len()) + arguments
    }
}

impl Task {
    /// The answer for choice `index`, `length` tokens long unless the task says otherwise.
    pub(crate) fn answer(&self, length: u32, seed: u64, index: u32) -> Answer {
        let seed = self.seed.unwrap_or(seed) ^ text::hash(self.prompt.as_bytes());
        let seed = seed.wrapping_add(u64::from(index));
        let tool_calls = self.tool_calls(seed);
        if !tool_calls.is_empty() {
            // A caller who names the tool knows what it gets; the API then calls the end a plain stop.
            let named = matches!(self.tool_choice, ToolChoice::Named(_));
            let finish = if named { Finish::Stop } else { Finish::ToolCalls };
            return Answer { tokens: Vec::new(), tool_calls, finish };
        }
        self.truncated(self.tokens(length, seed))
    }

    fn tokens(&self, length: u32, seed: u64) -> Vec<String> {
        let short = || text::words(seed, length.min(8)).concat();
        match &self.format {
            Format::JsonObject => text::tokenise(&json!({"answer": short()}).to_string()),
            Format::JsonSchema(schema) => text::tokenise(&schema::instance(schema, &short()).to_string()),
            Format::Text => match self.question.as_deref().and_then(|question| question.strip_prefix(ECHO)) {
                Some(rest) => text::tokenise(rest.trim_start()),
                None => text::words(seed, length),
            },
        }
    }

    /// The tokens up to the first stop string or the limit.
    fn truncated(&self, mut tokens: Vec<String>) -> Answer {
        let whole = tokens.concat();
        let stop = self.stop.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| whole.find(stop)).min();
        if let Some(stop) = stop {
            tokens = text::tokenise(&whole[..stop]);
        }
        let limit = self.max_tokens.map_or(usize::MAX, |limit| limit as usize);
        let finish = if tokens.len() > limit { Finish::Length } else { Finish::Stop };
        tokens.truncate(limit);
        Answer { tokens, tool_calls: Vec::new(), finish }
    }

    fn tool_calls(&self, seed: u64) -> Vec<ToolCall> {
        let mentioned =
            |tool: &&Tool| self.question.as_ref().is_some_and(|question| question.contains(&tool.name));
        let mut chosen: Vec<&Tool> = match &self.tool_choice {
            ToolChoice::None => Vec::new(),
            ToolChoice::Named(name) => self.tools.iter().filter(|tool| tool.name == *name).collect(),
            ToolChoice::Auto | ToolChoice::Required => self.tools.iter().filter(mentioned).collect(),
        };
        if chosen.is_empty() && self.tool_choice == ToolChoice::Required {
            chosen.extend(self.tools.first());
        }
        if !self.parallel_tools {
            chosen.truncate(1);
        }
        let words = text::words(seed, 3).concat();
        chosen
            .into_iter()
            .map(|tool| ToolCall { name: tool.name.clone(), arguments: arguments(&tool.parameters, &words) })
            .collect()
    }
}

/// Arguments are an object, even where a tool describes none.
fn arguments(parameters: &Value, text: &str) -> Value {
    if parameters.is_object() { schema::instance(parameters, text) } else { json!({}) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(question: &str) -> Task {
        Task { prompt: question.to_owned(), question: Some(question.to_owned()), ..Task::default() }
    }

    fn weather() -> Tool {
        let parameters =
            json!({"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}});
        Tool { name: "get_weather".to_owned(), parameters }
    }

    #[test]
    fn an_echoed_message_comes_back_whatever_its_length() {
        let answer = ask("echo: one two three").answer(2, 0, 0);
        assert_eq!(answer.text(), "one two three");
        assert_eq!(answer.finish, Finish::Stop);
    }

    #[test]
    fn the_limit_ends_an_answer_with_length() {
        let answer = Task { max_tokens: Some(3), ..ask("hello") }.answer(10, 0, 0);
        assert_eq!((answer.token_count(), answer.finish), (3, Finish::Length));
        let answer = Task { max_tokens: Some(10), ..ask("hello") }.answer(10, 0, 0);
        assert_eq!((answer.token_count(), answer.finish), (10, Finish::Stop));
    }

    #[test]
    fn the_first_stop_string_ends_the_text_before_it() {
        let task =
            Task { stop: vec!["four".to_owned(), " three".to_owned()], ..ask("echo: one two three four") };
        assert_eq!(task.answer(9, 0, 0).text(), "one two");
    }

    #[test]
    fn the_request_s_seed_goes_before_the_engine_s() {
        let text = |seed, engine| Task { seed, ..ask("hello") }.answer(12, engine, 0).text();
        assert_eq!(text(Some(5), 1), text(Some(5), 2));
        assert_ne!(text(None, 1), text(None, 2));
    }

    #[test]
    fn choices_differ() {
        assert_ne!(ask("hello").answer(12, 0, 0).text(), ask("hello").answer(12, 0, 1).text());
    }

    #[test]
    fn a_mentioned_tool_is_called_with_its_required_arguments() {
        let task = Task { tools: vec![weather()], ..ask("please get_weather for Bern") };
        let answer = task.answer(9, 0, 0);
        assert_eq!(answer.finish, Finish::ToolCalls);
        assert!(answer.tool_calls[0].arguments["city"].is_string());
    }

    #[test]
    fn a_tool_is_left_alone_unless_mentioned_or_required() {
        let tools = || vec![weather()];
        assert!(Task { tools: tools(), ..ask("hello") }.answer(9, 0, 0).tool_calls.is_empty());
        let required = Task { tools: tools(), tool_choice: ToolChoice::Required, ..ask("hello") };
        assert_eq!(required.answer(9, 0, 0).tool_calls.len(), 1);
        let forbidden = Task { tools: tools(), tool_choice: ToolChoice::None, ..ask("get_weather") };
        assert!(forbidden.answer(9, 0, 0).tool_calls.is_empty());
    }

    #[test]
    fn structured_output_parses_and_has_what_the_schema_requires() {
        let format = Format::JsonSchema(weather().parameters);
        let text = Task { format, ..ask("hello") }.answer(9, 0, 0).text();
        assert!(serde_json::from_str::<Value>(&text).unwrap()["city"].is_string());
    }
}
