//! `/api/chat` and `/api/generate`: one document, or a line for each token. A request without a prompt
//! loads or unloads the model.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::fault::Fault;
use crate::generation::{Answer, Finish, Format, Task, ToolCall};
use crate::openai;
use crate::reply::{Framing, Reply, Script, Work};
use crate::text;
use crate::tokens::Usage;

#[derive(Deserialize)]
struct Request {
    model: Option<String>,
    #[serde(default)]
    messages: Vec<Value>,
    prompt: Option<String>,
    system: Option<String>,
    stream: Option<bool>,
    #[serde(default)]
    format: Value,
    #[serde(default)]
    options: Sampling,
    #[serde(default)]
    tools: Vec<Value>,
    #[serde(default)]
    keep_alive: Value,
}

#[derive(Default, Deserialize)]
struct Sampling {
    seed: Option<i64>,
    /// Negative means no limit.
    num_predict: Option<i64>,
    #[serde(default)]
    stop: Vec<String>,
}

/// Which of the two routes a reply belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Chat,
    Generate,
}

pub(super) fn chat(call: &Call<'_>) -> Result<Reply, Fault> {
    let request: Request = call.json()?;
    let texts: Vec<String> =
        request.messages.iter().map(|message| openai::message_text(&message["content"])).collect();
    let asked = request.messages.last().is_some_and(|last| last["role"] == "user");
    let task = Task {
        prompt: texts.join("\n"),
        question: texts.into_iter().next_back().filter(|_| asked),
        tools: openai::task_tools(&request.tools),
        ..task(&request)
    };
    let is_empty = request.messages.is_empty();
    answer(call, &request, Route::Chat, (!is_empty).then_some(task))
}

pub(super) fn generate(call: &Call<'_>) -> Result<Reply, Fault> {
    let request: Request = call.json()?;
    let question = request.prompt.clone().filter(|prompt| !prompt.is_empty());
    let asked = question.clone().map(|prompt| Task {
        prompt: request.system.iter().cloned().chain([prompt]).collect::<Vec<_>>().join("\n"),
        question,
        ..task(&request)
    });
    answer(call, &request, Route::Generate, asked)
}

fn task(request: &Request) -> Task {
    let format = match &request.format {
        Value::String(_) => Format::JsonObject,
        Value::Object(_) => Format::JsonSchema(request.format.clone()),
        _ => Format::Text,
    };
    Task {
        seed: request.options.seed.map(i64::cast_unsigned),
        max_tokens: request.options.num_predict.and_then(|limit| u32::try_from(limit).ok()),
        stop: request.options.stop.clone(),
        parallel_tools: true,
        format,
        ..Task::default()
    }
}

fn answer(call: &Call<'_>, request: &Request, route: Route, task: Option<Task>) -> Result<Reply, Fault> {
    let model = call.model(request.model.as_deref())?;
    let Some(task) = task else { return Ok(residence(call, request, route, &model)) };
    let answer = task.answer(call.behaviour.tokens, call.shared.options.seed, 0);
    let usage = call.usage(&model, &task.prompt, answer.token_count());
    let keeps = !keeps_nothing(request);
    let work = Work { keeps, ..Work::on(model.as_str(), usage, answer.token_count()) };
    let lines = Lines { call, model, route };
    if request.stream.unwrap_or(true) {
        Ok(lines.stream(&answer, usage, work))
    } else {
        Ok(lines.whole(&answer, usage).after(work))
    }
}

/// A `keep_alive` of zero, as a number or a duration, unloads the model after the reply.
fn keeps_nothing(request: &Request) -> bool {
    match &request.keep_alive {
        Value::Number(seconds) => seconds.as_f64() == Some(0.0),
        Value::String(duration) => duration.trim_end_matches(char::is_alphabetic) == "0",
        _ => false,
    }
}

/// The answer to a request without a prompt.
fn residence(call: &Call<'_>, request: &Request, route: Route, model: &str) -> Reply {
    let unloads = keeps_nothing(request);
    if unloads {
        call.shared.residents.unload(model);
    } else {
        call.shared.residents.load(model, call.behaviour);
    }
    let lines = Lines { call, model: model.to_owned(), route };
    let mut document = lines.line(json!(""), None, true);
    document.insert("done_reason".to_owned(), json!(if unloads { "unload" } else { "load" }));
    Reply::json(&Value::Object(document))
}

/// The lines of one reply.
struct Lines<'a> {
    call: &'a Call<'a>,
    model: String,
    route: Route,
}

impl Lines<'_> {
    fn whole(&self, answer: &Answer, usage: Usage) -> Reply {
        let mut document = self.line(json!(answer.text()), tool_calls(answer), true);
        document.append(&mut self.closing(answer, usage));
        Reply::json(&Value::Object(document))
    }

    fn stream(&self, answer: &Answer, usage: Usage, work: Work) -> Reply {
        let mut script = Script::new(Framing::Ndjson);
        for token in &answer.tokens {
            script.token(&Value::Object(self.line(json!(token), None, false)));
        }
        if let Some(calls) = tool_calls(answer) {
            // Tool calls come whole, in one line.
            script.token(&Value::Object(self.line(json!(""), Some(calls), false)));
        }
        let mut last = self.line(json!(""), None, true);
        last.append(&mut self.closing(answer, usage));
        script.mark(&Value::Object(last));
        script.reply(work)
    }

    fn line(&self, text: Value, tool_calls: Option<Value>, done: bool) -> Map<String, Value> {
        let mut line = Map::new();
        line.insert("model".to_owned(), json!(self.model));
        line.insert("created_at".to_owned(), json!(super::now()));
        match self.route {
            Route::Generate => line.insert("response".to_owned(), text),
            Route::Chat => {
                let mut message = json!({"role": "assistant", "content": text});
                if let Some(calls) = tool_calls {
                    message["tool_calls"] = calls;
                }
                line.insert("message".to_owned(), message)
            }
        };
        line.insert("done".to_owned(), json!(done));
        line
    }

    /// The account at the end of a reply, in nanoseconds.
    fn closing(&self, answer: &Answer, usage: Usage) -> Map<String, Value> {
        let reason = if answer.finish == Finish::Length { "length" } else { "stop" };
        let behaviour = self.call.behaviour;
        let nanos =
            |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1);
        let prompt = behaviour.until_first_token(usage.processed());
        let evaluation = behaviour.itl.saturating_mul(usage.completion);
        let mut closing = Map::new();
        let mut put = |key: &str, value: Value| closing.insert(key.to_owned(), value);
        put("done_reason", json!(reason));
        if self.route == Route::Generate {
            put("context", json!([text::count_tokens(&answer.text())]));
        }
        put("total_duration", json!(nanos(prompt.saturating_add(evaluation))));
        put("load_duration", json!(1));
        put("prompt_eval_count", json!(usage.prompt));
        put("prompt_eval_duration", json!(nanos(prompt)));
        put("eval_count", json!(usage.completion));
        put("eval_duration", json!(nanos(evaluation)));
        closing
    }
}

/// Ollama's arguments are an object, not a string.
fn tool_calls(answer: &Answer) -> Option<Value> {
    let call = |tool: &ToolCall| json!({"function": {"name": tool.name, "arguments": tool.arguments}});
    (!answer.tool_calls.is_empty()).then(|| answer.tool_calls.iter().map(call).collect())
}
