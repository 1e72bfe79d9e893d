//! Chat and completions in OpenAI's format.

use serde_json::{Value, json};
use synapse_simulator::{Engine, Options};

use crate::client::{self, Answer, options, start};

const CHAT: &str = "/v1/chat/completions";

fn chat(content: &str) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": content}]})
}

fn with(mut request: Value, fields: Value) -> Value {
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    request
}

fn streamed_text(answer: &Answer) -> String {
    let chunks = answer.chunks();
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn a_chat_is_answered_with_text_a_finish_reason_and_usage() {
    let sim = client::engine(Engine::OpenAi).await;
    let reply = sim.post(CHAT, &chat("how are you today")).await.json();
    assert_eq!(reply["object"], "chat.completion");
    assert_eq!(reply["model"], "m");
    assert_eq!(reply["choices"][0]["message"]["role"], "assistant");
    assert_eq!(reply["choices"][0]["finish_reason"], "stop");
    assert_eq!(reply["usage"]["prompt_tokens"], 4);
    assert_eq!(reply["usage"]["completion_tokens"], 6);
    assert_eq!(reply["usage"]["total_tokens"], 10);
}

#[tokio::test]
async fn a_stream_says_what_the_document_says() {
    let sim = client::engine(Engine::Vllm).await;
    let whole = sim.post(CHAT, &chat("hello")).await.json();
    let stream = sim.post(CHAT, &with(chat("hello"), json!({"stream": true}))).await;
    assert_eq!(stream.headers["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(whole["choices"][0]["message"]["content"], streamed_text(&stream));
    let chunks = stream.chunks();
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
    assert_eq!(stream.data().last(), Some(&"[DONE]"));
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()), "usage was not asked for");
}

#[tokio::test]
async fn usage_comes_in_a_last_chunk_without_choices() {
    let sim = client::engine(Engine::OpenAi).await;
    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let chunks = sim.post(CHAT, &with(chat("hello"), options)).await.chunks();
    let (last, others) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 6);
    assert!(others.iter().all(|chunk| chunk["usage"].is_null()));
}

#[tokio::test]
async fn an_echo_obeys_stop_and_max_tokens() {
    let sim = client::engine(Engine::OpenAi).await;
    let text = async |fields| {
        let reply = sim.post(CHAT, &with(chat("echo: one two three four"), fields)).await.json();
        let choice = &reply["choices"][0];
        (choice["message"]["content"].as_str().unwrap().to_owned(), choice["finish_reason"].clone())
    };
    assert_eq!(text(json!({})).await, ("one two three four".to_owned(), json!("stop")));
    assert_eq!(text(json!({"stop": " three"})).await, ("one two".to_owned(), json!("stop")));
    assert_eq!(text(json!({"stop": ["four", "two"]})).await, ("one ".to_owned(), json!("stop")));
    assert_eq!(text(json!({"max_tokens": 2})).await, ("one two".to_owned(), json!("length")));
    assert_eq!(text(json!({"max_completion_tokens": 1})).await, ("one".to_owned(), json!("length")));
}

#[tokio::test]
async fn the_same_seed_gives_the_same_reply_on_another_simulator() {
    let content = async |seed| {
        let sim = start(Options { seed, ..options() }).await;
        sim.post(CHAT, &chat("hello")).await.json()["choices"][0]["message"]["content"].clone()
    };
    assert_eq!(content(3).await, content(3).await);
    assert_ne!(content(3).await, content(4).await);
}

#[tokio::test]
async fn n_choices_differ_and_are_numbered() {
    let sim = client::engine(Engine::OpenAi).await;
    let reply = sim.post(CHAT, &with(chat("hello"), json!({"n": 3}))).await.json();
    let choices = reply["choices"].as_array().unwrap();
    assert_eq!(choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    assert_ne!(choices[0]["message"], choices[1]["message"]);
    assert_eq!(reply["usage"]["completion_tokens"], 18);
    let stream = sim.post(CHAT, &with(chat("hello"), json!({"n": 3, "stream": true}))).await;
    let finished =
        stream.chunks().iter().filter(|chunk| chunk["choices"][0]["finish_reason"] == "stop").count();
    assert_eq!(finished, 3);
}

fn weather() -> Value {
    json!({"tools": [{"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "required": ["city", "unit"], "properties": {
        "city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}
    }}}}]})
}

#[tokio::test]
async fn a_tool_that_is_mentioned_is_called() {
    let sim = client::engine(Engine::OpenAi).await;
    let reply = sim.post(CHAT, &with(chat("use get_weather please"), weather())).await.json();
    let choice = &reply["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], Value::Null);
    let function = &choice["message"]["tool_calls"][0]["function"];
    assert_eq!(function["name"], "get_weather");
    let arguments: Value = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments["unit"], "celsius");
    assert!(arguments["city"].is_string());
}

#[tokio::test]
async fn streamed_arguments_put_together_are_the_whole_ones() {
    let sim = client::engine(Engine::OpenAi).await;
    let request = with(with(chat("anything"), weather()), json!({"tool_choice": "required"}));
    let whole = sim.post(CHAT, &request).await.json();
    let chunks = sim.post(CHAT, &with(request, json!({"stream": true}))).await.chunks();
    let deltas: Vec<&Value> =
        chunks.iter().filter_map(|chunk| chunk.pointer("/choices/0/delta/tool_calls/0")).collect();
    assert_eq!(deltas[0]["function"], json!({"name": "get_weather", "arguments": ""}));
    assert!(deltas[0]["id"].is_string() && deltas[1].get("id").is_none());
    let arguments: String =
        deltas.iter().filter_map(|delta| delta["function"]["arguments"].as_str()).collect();
    assert_eq!(whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], arguments);
    assert!(deltas.len() > 2, "arguments come in pieces");
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn structured_output_is_json_that_fits_the_schema() {
    let sim = client::engine(Engine::Vllm).await;
    let schema =
        json!({"type": "object", "required": ["score"], "properties": {"score": {"type": "integer"}}});
    let format =
        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}});
    let reply = sim.post(CHAT, &with(chat("rate it"), format)).await.json();
    let content: Value =
        serde_json::from_str(reply["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
    assert!(content["score"].is_i64());
}

#[tokio::test]
async fn log_probabilities_come_for_every_token() {
    let sim = client::engine(Engine::OpenAi).await;
    let wanted = json!({"logprobs": true, "top_logprobs": 2});
    let reply = sim.post(CHAT, &with(chat("hello"), wanted)).await.json();
    let content = reply["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), 6);
    assert!(content.iter().all(|entry| entry["top_logprobs"].as_array().unwrap().len() == 2));
    let text: String = content.iter().map(|entry| entry["token"].as_str().unwrap()).collect();
    assert_eq!(reply["choices"][0]["message"]["content"], text);
}

#[tokio::test]
async fn completions_answer_each_prompt() {
    let sim = client::engine(Engine::Vllm).await;
    let request = json!({"model": "m", "prompt": ["echo: a b", "echo: c"], "logprobs": 1});
    let reply = sim.post("/v1/completions", &request).await.json();
    assert_eq!(reply["object"], "text_completion");
    assert_eq!(reply["choices"][0]["text"], "a b");
    assert_eq!(reply["choices"][1]["text"], "c");
    assert_eq!(reply["choices"][0]["logprobs"]["text_offset"], json!([0, 1]));
    let stream = sim.post("/v1/completions", &with(request, json!({"stream": true}))).await;
    let chunks = stream.chunks();
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, "a bc");
}

#[tokio::test]
async fn llama_cpp_gives_timings_in_either_form() {
    let sim = client::engine(Engine::LlamaCpp).await;
    let whole = sim.post(CHAT, &chat("hello")).await.json();
    assert_eq!(whole["timings"]["predicted_n"], 6);
    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let chunks = sim.post(CHAT, &with(chat("hello"), options)).await.chunks();
    assert_eq!(chunks.last().unwrap()["timings"]["predicted_n"], 6);
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_in_the_engine_s_words() {
    for engine in Engine::ALL {
        let sim = client::engine(engine).await;
        let nonsense = sim.post(CHAT, &json!([1])).await;
        assert!(nonsense.status.is_client_error(), "{engine}");
        assert!(nonsense.json().get("error").is_some() || nonsense.json()["object"] == "error", "{engine}");
    }
}

#[tokio::test]
async fn an_unknown_model_is_refused() {
    let ask = async |engine| {
        let request = with(chat("hello"), json!({"model": "other"}));
        let answer = client::engine(engine).await.post(CHAT, &request).await;
        (answer.status.as_u16(), answer.json())
    };
    assert_eq!(ask(Engine::OpenAi).await.0, 404);
    assert_eq!(ask(Engine::Vllm).await.1["error"]["type"], "NotFoundError");
    assert_eq!(ask(Engine::LlamaCpp).await.1["error"]["code"], 400);
    assert_eq!(ask(Engine::Ollama).await.1["error"]["message"], "model 'other' not found");
    assert_eq!(ask(Engine::Tgi).await.0, 200, "TGI serves its one model under any name");
}

#[tokio::test]
async fn a_prompt_beyond_the_context_is_refused() {
    let sim = start(Options { context_length: 3, ..options() }).await;
    let refused = sim.post(CHAT, &chat("one two three four")).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["error"]["code"], "context_length_exceeded");
}

#[tokio::test]
async fn a_repeated_prompt_is_found_in_the_prefix_cache() {
    let sim = client::engine(Engine::Vllm).await;
    let long = chat(&"word ".repeat(40));
    sim.post(CHAT, &long).await;
    let usage = &sim.post(CHAT, &long).await.json()["usage"];
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 32);
}
