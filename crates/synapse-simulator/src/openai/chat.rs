//! `/v1/chat/completions`: one document, or chunks of it.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::request::{self, Sampling};
use super::{dress, logprobs};
use crate::call::Call;
use crate::fault::Fault;
use crate::generation::{Answer, Task, ToolCall};
use crate::options::Engine;
use crate::reply::{Framing, Reply, Script, Work};
use crate::text;
use crate::tokens::Usage;

/// More choices than this are not generated at once.
const CHOICES: u32 = 128;

#[derive(Debug, Deserialize)]
struct ChatRequest {
    model: Option<String>,
    messages: Option<Vec<Value>>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
    #[serde(default)]
    tool_choice: Value,
    #[serde(default)]
    parallel_tool_calls: Option<bool>,
    #[serde(default)]
    response_format: Value,
    #[serde(default)]
    logprobs: Option<bool>,
    #[serde(default)]
    top_logprobs: Option<u32>,
    #[serde(flatten)]
    sampling: Sampling,
}

impl ChatRequest {
    fn task(&self) -> Result<Task, Fault> {
        let messages = self.messages.as_deref().ok_or_else(|| Fault::missing("messages"))?;
        if messages.is_empty() {
            return Err(Fault::invalid("'messages' must contain at least one message."));
        }
        let mut task = self.sampling.task();
        request::read_messages(&mut task, messages);
        task.tools = request::task_tools(self.tools.as_deref().unwrap_or_default());
        task.tool_choice = request::tool_choice(&self.tool_choice);
        task.parallel_tools = self.parallel_tool_calls.unwrap_or(true);
        task.format = request::format(&self.response_format);
        Ok(task)
    }

    /// How many alternatives each token's log probability comes with, if it is wanted at all.
    fn logprobs(&self) -> Option<u32> {
        self.logprobs.unwrap_or(false).then(|| self.top_logprobs.unwrap_or(0))
    }
}

pub(super) fn answer(call: &Call<'_>) -> Result<Reply, Fault> {
    let request: ChatRequest = call.json()?;
    let model = call.model(request.model.as_deref())?;
    let task = request.task()?;
    let choices = request.sampling.n.unwrap_or(1);
    if !(1..=CHOICES).contains(&choices) {
        return Err(Fault::invalid(format!("'n' must be between 1 and {CHOICES}.")));
    }
    call.check_context(text::count_tokens(&task.prompt))?;
    let seed = call.shared.options.seed;
    let answers: Vec<Answer> =
        (0..choices).map(|index| task.answer(call.behaviour.tokens, seed, index)).collect();
    let completion = answers.iter().map(Answer::token_count).sum();
    let chat = Chat {
        call,
        id: call.id("chatcmpl-"),
        usage: call.usage(&model, &task.prompt, completion),
        model,
        answers,
        logprobs: request.logprobs(),
    };
    if request.sampling.streams() {
        Ok(chat.stream(request.sampling.includes_usage()))
    } else {
        Ok(chat.whole())
    }
}

/// A generated chat, ready to be written down either way.
struct Chat<'a> {
    call: &'a Call<'a>,
    id: String,
    model: String,
    usage: Usage,
    answers: Vec<Answer>,
    logprobs: Option<u32>,
}

impl Chat<'_> {
    fn whole(&self) -> Reply {
        let choices: Vec<Value> =
            (0..).zip(&self.answers).map(|(index, answer)| self.choice(index, answer)).collect();
        let mut document = dress::document(self.call, &self.id, "chat.completion", &self.model);
        document.insert("choices".to_owned(), Value::Array(choices));
        document.insert("usage".to_owned(), dress::usage(self.call.engine(), self.usage));
        dress::finish_document(self.call, &mut document, self.usage);
        Reply::json(&Value::Object(document)).after(self.work())
    }

    fn work(&self) -> Work {
        let longest = self.answers.iter().map(Answer::token_count).max().unwrap_or(0);
        Work::on(self.model.as_str(), self.usage, longest)
    }

    fn choice(&self, index: u32, answer: &Answer) -> Value {
        let mut message = json!({"role": "assistant", "content": answer.text()});
        if self.call.engine() == Engine::OpenAi {
            message["refusal"] = Value::Null;
            message["annotations"] = json!([]);
        }
        if !answer.tool_calls.is_empty() {
            message["content"] = Value::Null;
            let calls = (0..).zip(&answer.tool_calls);
            message["tool_calls"] =
                calls.map(|(position, tool)| self.tool_call(index, position, tool)).collect();
        }
        let logprobs = self.logprobs.map(|top| token_logprobs(&answer.tokens, top));
        let mut choice = Map::new();
        choice.insert("index".to_owned(), json!(index));
        choice.insert("message".to_owned(), message);
        choice.insert("logprobs".to_owned(), json!(logprobs));
        choice.insert("finish_reason".to_owned(), json!(answer.finish.as_str()));
        dress::finish_choice(self.call.engine(), &mut choice);
        Value::Object(choice)
    }

    fn tool_call(&self, choice: u32, position: u32, tool: &ToolCall) -> Value {
        json!({
            "id": self.tool_call_id(choice, position),
            "type": "function",
            "function": {"name": tool.name, "arguments": tool.arguments.to_string()},
        })
    }

    fn tool_call_id(&self, choice: u32, position: u32) -> String {
        self.call.id(&format!("call_{choice}{position}"))
    }

    fn stream(&self, includes_usage: bool) -> Reply {
        let engine = self.call.engine();
        let mut base = dress::document(self.call, &self.id, "chat.completion.chunk", &self.model);
        if includes_usage && engine == Engine::OpenAi {
            base.insert("usage".to_owned(), Value::Null);
        }
        let mut chunks = Chunks { script: Script::new(Framing::Sse), base };
        for (index, answer) in (0..).zip(&self.answers) {
            let content = if answer.tool_calls.is_empty() { json!("") } else { Value::Null };
            chunks.mark(choice(index, json!({"role": "assistant", "content": content}), None));
        }
        self.stream_text(&mut chunks);
        self.stream_tool_calls(&mut chunks);
        for (index, answer) in (0..).zip(&self.answers) {
            chunks.finish(engine, choice(index, json!({}), Some(answer.finish.as_str())));
        }
        if engine == Engine::LlamaCpp {
            chunks.base.insert("timings".to_owned(), dress::timings(self.call.behaviour, self.usage));
        }
        if includes_usage {
            chunks.base.insert("usage".to_owned(), dress::usage(engine, self.usage));
            chunks.bare();
        }
        chunks.script.done();
        chunks.script.reply(self.work())
    }

    /// The texts of all choices, in step, as an engine generates them.
    fn stream_text(&self, chunks: &mut Chunks) {
        let steps = self.answers.iter().map(|answer| answer.tokens.len()).max().unwrap_or(0);
        for step in 0..steps {
            let mut waits = true;
            for (index, answer) in (0..).zip(&self.answers) {
                let Some(token) = answer.tokens.get(step) else { continue };
                let mut choice = choice(index, json!({"content": token}), None);
                if let Some(top) = self.logprobs {
                    choice["logprobs"] = token_logprobs(std::slice::from_ref(token), top);
                }
                chunks.add(choice, waits);
                waits = false;
            }
        }
    }

    fn stream_tool_calls(&self, chunks: &mut Chunks) {
        for (index, answer) in (0..).zip(&self.answers) {
            for (position, tool) in (0..).zip(&answer.tool_calls) {
                let opening = json!({"tool_calls": [{
                    "index": position, "id": self.tool_call_id(index, position), "type": "function",
                    "function": {"name": tool.name, "arguments": ""},
                }]});
                chunks.add(choice(index, opening, None), true);
                for piece in text::tokenise(&tool.arguments.to_string()) {
                    let delta =
                        json!({"tool_calls": [{"index": position, "function": {"arguments": piece}}]});
                    chunks.add(choice(index, delta, None), true);
                }
            }
        }
    }
}

fn choice(index: u32, delta: Value, finish: Option<&str>) -> Value {
    json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish})
}

fn token_logprobs(tokens: &[String], top: u32) -> Value {
    let content: Vec<Value> = tokens.iter().map(|token| logprobs::entry(token, top)).collect();
    json!({"content": content, "refusal": null})
}

/// Chunks that share their beginning.
struct Chunks {
    script: Script,
    base: Map<String, Value>,
}

impl Chunks {
    fn add(&mut self, choice: Value, is_token: bool) {
        self.push(json!([choice]), is_token);
    }

    fn mark(&mut self, choice: Value) {
        self.add(choice, false);
    }

    fn finish(&mut self, engine: Engine, mut choice: Value) {
        if let Value::Object(choice) = &mut choice {
            dress::finish_choice(engine, choice);
        }
        self.mark(choice);
    }

    /// The chunk without choices that carries the usage.
    fn bare(&mut self) {
        self.push(json!([]), false);
    }

    fn push(&mut self, choices: Value, is_token: bool) {
        let mut chunk = self.base.clone();
        chunk.insert("choices".to_owned(), choices);
        let chunk = Value::Object(chunk);
        if is_token { self.script.token(&chunk) } else { self.script.mark(&chunk) }
    }
}
