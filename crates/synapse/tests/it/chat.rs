//! Chats: what reaches the engine, and what comes back.

use serde_json::{Value, json};
use synapse_testkit::Config;

use crate::start::{gateway, saying, single, with};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_request_nobody_edits_reaches_the_engine_byte_for_byte() {
    let (engine, gateway) = single().await;
    let body = "{ \"zeta\":[1.0, 1e3,  12345678901234567890],\t\"messages\":[{\"role\":\"user\",\"content\":\"echo: h\\u00e9 \\ud83d\\ude00\",\"x\":null}],\n \"model\":\"m\", \"alpha\":{\"b\":1,\"a\":2}, \"temperature\":0.70 }";
    let answer = gateway.client().post_text(CHAT, body).await;
    assert_eq!((answer.status, answer.content().as_str()), (200, "hé 😀"));
    assert_eq!(engine.last_body(), body);
}

#[tokio::test]
async fn the_engines_name_for_the_model_is_the_only_change() {
    let engine = synapse_testkit::Engine::serving("one", "org/m:8b").await;
    let places = [json!({"backend": "one", "model": "org/m:8b"})];
    let gateway = gateway(&Config::with(&[&engine]).model("public", &places)).await;
    let body = r#"{"zeta": 1.0, "model": "public", "messages": [{"role":"user","content":"the \"model\": \"public\" of all"}]}"#;
    let answer = gateway.client().post_text(CHAT, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(engine.last_body(), body.replacen("public", "org/m:8b", 1));
    assert_eq!(answer.header("x-synapse-model"), "public");
}

#[tokio::test]
async fn a_stream_arrives_whole_and_in_order() {
    let (_engine, gateway) = single().await;
    let words = "echo: one two three four five six seven eight nine ten";
    let answer = gateway
        .client()
        .post(CHAT, &with(saying("m", words), json!({"stream": true, "max_tokens": 50})))
        .await;
    assert!(answer.header("content-type").starts_with("text/event-stream"));
    assert_eq!((answer.content().as_str(), answer.is_done(), answer.broken), (&words[6..], true, false));
}

#[tokio::test]
async fn the_usage_chunk_is_the_callers_only_if_asked_for() {
    let (engine, gateway) = single().await;
    let client = gateway.client();
    let plain = client.post(CHAT, &with(saying("m", "hi"), json!({"stream": true}))).await;
    let has_usage = |chunk: &Value| chunk["usage"].is_object();
    assert!(!plain.chunks().iter().any(has_usage), "{}", plain.text());
    assert!(engine.last_body().contains("\"include_usage\":true"), "tokens are counted all the same");

    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let asked = client.post(CHAT, &with(saying("m", "hi"), options)).await;
    assert!(asked.chunks().last().is_some_and(has_usage), "{}", asked.text());

    let lines = gateway.logs().accesses_reach(2).await;
    assert!(lines.iter().all(|line| line["output_tokens"].as_u64() > Some(0)), "{lines:#?}");
}

#[tokio::test]
async fn tools_and_their_calls_pass_in_both_modes() {
    let (engine, gateway) = single().await;
    let tools = json!({"tools": [{"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]
    }}}]});
    let body = with(saying("m", "What is the weather?"), tools);
    let plain = gateway.client().post(CHAT, &body).await.json();
    assert_eq!(plain["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(plain["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "weather");
    assert_eq!(engine.last_body(), body.to_string());

    let streamed = gateway.client().post(CHAT, &with(body, json!({"stream": true}))).await;
    let named = |chunk: &Value| {
        chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["name"].as_str() == Some("weather")
    };
    assert!(streamed.chunks().iter().any(named) && streamed.is_done(), "{}", streamed.text());
}

#[tokio::test]
async fn several_choices_logprobs_and_json_mode_pass() {
    let (_engine, gateway) = single().await;
    let client = gateway.client();
    let several = client.post(CHAT, &with(saying("m", "hi"), json!({"n": 3}))).await.json();
    assert_eq!(several["choices"].as_array().map(Vec::len), Some(3));

    let probable = json!({"logprobs": true, "top_logprobs": 2});
    let probable = client.post(CHAT, &with(saying("m", "hi"), probable)).await.json();
    let first = &probable["choices"][0]["logprobs"]["content"][0];
    assert_eq!(first["top_logprobs"].as_array().map(Vec::len), Some(2), "{probable}");

    let schema = json!({"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]});
    let format = json!({"type": "json_schema", "json_schema": {"name": "person", "schema": schema}});
    let typed = client.post(CHAT, &with(saying("m", "hi"), json!({"response_format": format}))).await;
    let content: Value = serde_json::from_str(&typed.content()).expect("JSON in the reply");
    assert!(content["age"].is_i64(), "{content}");
}

#[tokio::test]
async fn the_engine_sees_neither_the_callers_key_nor_its_cookies() {
    let (engine, gateway) = single().await;
    let client = gateway.client();
    let mut request = client.request(hyper::Method::POST, CHAT, saying("m", "hi").to_string());
    for (name, value) in [("cookie", "session=1"), ("x-api-key", synapse_testkit::KEY), ("x-mine", "1")] {
        request.headers_mut().insert(name, value.parse().expect("a value"));
    }
    request.headers_mut().insert("traceparent", "00-1-2-01".parse().expect("a value"));
    request.headers_mut().insert("x-request-id", "my-own-id".parse().expect("a value"));
    assert_eq!(client.send(request).await.header("x-request-id"), "my-own-id");
    let seen = engine.requests().pop().expect("a call").headers;
    for name in ["authorization", "cookie", "x-api-key", "x-mine"] {
        assert!(!seen.contains_key(name), "{name} in {seen:?}");
    }
    assert_eq!(seen["traceparent"], "00-1-2-01");
    assert_eq!(seen["x-request-id"], "my-own-id");
}

#[tokio::test]
async fn the_engines_own_key_is_sent_and_nobody_else_sees_it() {
    let options = synapse_simulator::Options {
        api_key: Some("engine-secret".to_owned()),
        ..synapse_testkit::Engine::options("m")
    };
    let engine = synapse_testkit::Engine::start("one", options).await;
    let config = Config::with(&[&engine]).set("/backends/0/api_key", "engine-secret");
    let gateway = gateway(&config).await;
    let answer = gateway.client().chat("m").await;
    assert_eq!(answer.status, 200);
    assert!(!format!("{:?}", answer.headers).contains("engine-secret"));
    gateway.logs().accesses_reach(1).await;
    assert!(!gateway.logs().lines().concat().contains("engine-secret"));
}

#[tokio::test]
async fn who_served_is_told_unless_that_is_switched_off() {
    let (engine, told) = single().await;
    let answer = told.client().chat("m").await;
    assert_eq!((answer.header("x-synapse-backend"), answer.header("x-synapse-attempts")), ("one", "1"));

    let silent = gateway(&Config::with(&[&engine]).set("/server/response_headers", false)).await;
    let answer = silent.client().chat("m").await;
    assert_eq!((answer.header("x-synapse-backend"), answer.header("x-synapse-attempts")), ("", ""));
}
