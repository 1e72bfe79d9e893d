//! `/v1/responses`: one document, or the events that build it up.

use serde::Deserialize;
use serde_json::{Value, json};

use super::request;
use crate::call::{Call, unix_now};
use crate::fault::Fault;
use crate::generation::{Answer, Finish, Task};
use crate::reply::{Framing, Reply, Script, Work};
use crate::text;
use crate::tokens::Usage;

#[derive(Debug, Deserialize)]
struct ResponsesRequest {
    model: Option<String>,
    input: Option<Input>,
    instructions: Option<String>,
    #[serde(default)]
    stream: Option<bool>,
    max_output_tokens: Option<u32>,
    #[serde(default)]
    tools: Vec<Value>,
    #[serde(default)]
    tool_choice: Value,
    parallel_tool_calls: Option<bool>,
    #[serde(default)]
    text: Value,
    #[serde(default)]
    metadata: Value,
    previous_response_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Items(Vec<Value>),
}

impl ResponsesRequest {
    fn task(&self) -> Result<Task, Fault> {
        let mut task = Task {
            max_tokens: self.max_output_tokens,
            tools: request::task_tools(&self.tools),
            tool_choice: request::tool_choice(&self.tool_choice),
            parallel_tools: self.parallel_tool_calls.unwrap_or(true),
            format: request::format(&self.text["format"]),
            ..Task::default()
        };
        match self.input.as_ref().ok_or_else(|| Fault::missing("input"))? {
            Input::Text(text) => {
                task.question = Some(text.clone());
                task.prompt.clone_from(text);
            }
            Input::Items(items) => request::read_messages(&mut task, items),
        }
        if let Some(instructions) = &self.instructions {
            task.prompt = format!("{instructions}\n{}", task.prompt);
        }
        Ok(task)
    }
}

pub(super) fn answer(call: &Call<'_>) -> Result<Reply, Fault> {
    let request: ResponsesRequest = call.json()?;
    let model = call.model(request.model.as_deref())?;
    let task = request.task()?;
    call.check_context(text::count_tokens(&task.prompt))?;
    let answer = task.answer(call.behaviour.tokens, call.shared.options.seed, 0);
    let usage = call.usage(&model, &task.prompt, answer.token_count());
    let response = Response { call, request: &request, model, usage, answer };
    if request.stream.unwrap_or(false) {
        return Ok(response.stream());
    }
    Ok(Reply::json(&response.finished()).after(response.work()))
}

struct Response<'a> {
    call: &'a Call<'a>,
    request: &'a ResponsesRequest,
    model: String,
    usage: Usage,
    answer: Answer,
}

impl Response<'_> {
    fn work(&self) -> Work {
        Work::on(self.model.as_str(), self.usage, self.answer.token_count())
    }

    /// The document with everything in it.
    fn finished(&self) -> Value {
        let cut = self.answer.finish == Finish::Length;
        let mut document = self.document(if cut { "incomplete" } else { "completed" });
        if cut {
            document["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        document["output"] = self.output().into();
        document["usage"] = json!({
            "input_tokens": self.usage.prompt,
            "input_tokens_details": {"cached_tokens": self.usage.cached, "cache_write_tokens": 0},
            "output_tokens": self.usage.completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.usage.total(),
        });
        document
    }

    fn document(&self, status: &str) -> Value {
        let request = self.request;
        let or = |value: &Value, default: Value| if value.is_null() { default } else { value.clone() };
        json!({
            "id": self.call.id("resp_"),
            "object": "response",
            "created_at": unix_now(),
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": null,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "model": self.model,
            "output": [],
            "parallel_tool_calls": request.parallel_tool_calls.unwrap_or(true),
            "previous_response_id": request.previous_response_id,
            "reasoning": {"effort": null, "summary": null},
            "store": false,
            "temperature": 1.0,
            "text": or(&request.text, json!({"format": {"type": "text"}})),
            "tool_choice": or(&request.tool_choice, json!("auto")),
            "tools": request.tools,
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": null,
            "metadata": or(&request.metadata, json!({})),
        })
    }

    fn output(&self) -> Vec<Value> {
        if self.answer.tool_calls.is_empty() {
            let status = if self.answer.finish == Finish::Length { "incomplete" } else { "completed" };
            return vec![self.message(status, json!([text_part(&self.answer.text())]))];
        }
        let calls = self.answer.tool_calls.iter().enumerate();
        calls
            .map(|(index, tool)| self.function_call(index, &tool.name, &tool.arguments.to_string()))
            .collect()
    }

    fn message(&self, status: &str, content: Value) -> Value {
        json!({"id": self.call.id("msg_"), "type": "message", "status": status, "role": "assistant", "content": content})
    }

    fn function_call(&self, index: usize, name: &str, arguments: &str) -> Value {
        json!({
            "id": self.call.id(&format!("fc_{index}")), "type": "function_call", "status": "completed",
            "call_id": self.call.id(&format!("call_{index}")), "name": name, "arguments": arguments,
        })
    }

    fn stream(&self) -> Reply {
        let mut events = Events { script: Script::new(Framing::Sse), sequence: 0 };
        events.add("response.created", json!({"response": self.document("in_progress")}));
        events.add("response.in_progress", json!({"response": self.document("in_progress")}));
        let output = self.output();
        if self.answer.tool_calls.is_empty() {
            self.stream_message(&mut events, &output[0]);
        }
        for (index, _) in self.answer.tool_calls.iter().enumerate() {
            stream_function_call(&mut events, index, &output[index]);
        }
        let finished = self.finished();
        let last =
            if finished["status"] == "incomplete" { "response.incomplete" } else { "response.completed" };
        events.add(last, json!({"response": finished}));
        events.script.reply(self.work())
    }

    fn stream_message(&self, events: &mut Events, item: &Value) {
        let text = self.answer.text();
        let at = json!({"item_id": item["id"], "output_index": 0, "content_index": 0});
        let begun = self.message("in_progress", json!([]));
        events.add("response.output_item.added", json!({"output_index": 0, "item": begun}));
        events.add("response.content_part.added", with(&at, json!({"part": text_part("")})));
        for token in &self.answer.tokens {
            events.token("response.output_text.delta", with(&at, json!({"delta": token, "logprobs": []})));
        }
        events.add("response.output_text.done", with(&at, json!({"text": text, "logprobs": []})));
        events.add("response.content_part.done", with(&at, json!({"part": text_part(&text)})));
        events.add("response.output_item.done", json!({"output_index": 0, "item": item}));
    }
}

fn stream_function_call(events: &mut Events, index: usize, item: &Value) {
    let at = json!({"item_id": item["id"], "output_index": index});
    let begun = with(item, json!({"status": "in_progress", "arguments": ""}));
    events.add("response.output_item.added", json!({"output_index": index, "item": begun}));
    for piece in text::tokenise(item["arguments"].as_str().unwrap_or_default()) {
        events.token("response.function_call_arguments.delta", with(&at, json!({"delta": piece})));
    }
    let whole = json!({"arguments": item["arguments"], "name": item["name"]});
    events.add("response.function_call_arguments.done", with(&at, whole));
    events.add("response.output_item.done", json!({"output_index": index, "item": item}));
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

/// `base` with more fields, or other values for its own.
fn with(base: &Value, fields: Value) -> Value {
    let mut whole = base.clone();
    if let (Value::Object(whole), Value::Object(fields)) = (&mut whole, fields) {
        whole.extend(fields);
    }
    whole
}

/// Numbered events with a name, on the wire and in the document.
struct Events {
    script: Script,
    sequence: u64,
}

impl Events {
    fn add(&mut self, name: &str, fields: Value) {
        self.push(name, fields, false);
    }

    fn token(&mut self, name: &str, fields: Value) {
        self.push(name, fields, true);
    }

    fn push(&mut self, name: &str, fields: Value, is_token: bool) {
        let event = with(&json!({"type": name, "sequence_number": self.sequence}), fields);
        self.sequence += 1;
        self.script.named(name, &event, is_token);
    }
}
