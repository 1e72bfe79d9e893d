//! Ollama's native API.

use http::StatusCode;
use serde_json::{Value, json};
use synapse_simulator::{Engine, Options};

use crate::client::{self, Sim, options, start};

async fn ollama() -> Sim {
    client::engine(Engine::Ollama).await
}

fn chat(content: &str) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": content}]})
}

#[tokio::test]
async fn a_chat_streams_one_document_a_line_unless_told_otherwise() {
    let sim = ollama().await;
    let stream = sim.post("/api/chat", &chat("echo: one two")).await;
    assert_eq!(stream.headers["content-type"], "application/x-ndjson");
    let lines = stream.lines();
    let text: String = lines.iter().map(|line| line["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(text, "one two");
    let (last, others) = lines.split_last().unwrap();
    assert!(others.iter().all(|line| line["done"] == false));
    assert_eq!((&last["done"], &last["done_reason"]), (&json!(true), &json!("stop")));
    assert_eq!((&last["prompt_eval_count"], &last["eval_count"]), (&json!(3), &json!(2)));

    let mut request = chat("echo: one two");
    request["stream"] = json!(false);
    let whole = sim.post("/api/chat", &request).await.json();
    assert_eq!(whole["message"]["content"], "one two");
    assert_eq!(whole["eval_count"], 2);
}

#[tokio::test]
async fn generate_obeys_its_options() {
    let sim = ollama().await;
    let request =
        json!({"model": "m:latest", "prompt": "hello", "stream": false, "options": {"num_predict": 2}});
    let reply = sim.post("/api/generate", &request).await.json();
    assert_eq!(reply["done_reason"], "length");
    assert_eq!(reply["eval_count"], 2);
    let request = json!({"model": "m", "prompt": "hello", "stream": false, "format": "json"});
    let reply = sim.post("/api/generate", &request).await.json();
    assert!(serde_json::from_str::<Value>(reply["response"].as_str().unwrap()).unwrap().is_object());
}

#[tokio::test]
async fn tool_arguments_are_an_object() {
    let sim = ollama().await;
    let mut request = chat("call get_time");
    request["tools"] = json!([{"type": "function", "function": {"name": "get_time", "parameters": {
        "type": "object", "required": ["zone"], "properties": {"zone": {"type": "string"}}}}}]);
    let lines = sim.post("/api/chat", &request).await.lines();
    let call = &lines[0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "get_time");
    assert!(call["arguments"]["zone"].is_string());
}

#[tokio::test]
async fn models_are_listed_shown_and_loaded_on_demand() {
    let sim =
        start(Options { engine: Engine::Ollama, models: vec!["m:latest".to_owned()], ..options() }).await;
    assert_eq!(sim.get("/api/tags").await.json()["models"][0]["name"], "m:latest");
    assert_eq!(sim.post("/api/show", &json!({"model": "m"})).await.json()["details"]["format"], "gguf");
    let running = async || sim.get("/api/ps").await.json()["models"].as_array().unwrap().len();
    assert_eq!(running().await, 0);
    let loaded = sim.post("/api/generate", &json!({"model": "m"})).await.json();
    assert_eq!(loaded["done_reason"], "load");
    assert_eq!(running().await, 1);
    let unloaded = sim.post("/api/generate", &json!({"model": "m", "keep_alive": 0})).await.json();
    assert_eq!(unloaded["done_reason"], "unload");
    assert_eq!(running().await, 0);
}

#[tokio::test]
async fn both_embedding_routes_give_the_same_vector() {
    let sim = ollama().await;
    let new = sim.post("/api/embed", &json!({"model": "m", "input": ["hello", "you"]})).await.json();
    let old = sim.post("/api/embeddings", &json!({"model": "m", "prompt": "hello"})).await.json();
    assert_eq!(new["embeddings"].as_array().unwrap().len(), 2);
    assert_eq!(new["embeddings"][0], old["embedding"]);
    assert_eq!(new["prompt_eval_count"], 2);
}

#[tokio::test]
async fn an_unknown_model_is_a_bare_message() {
    let sim = ollama().await;
    let refused = sim.post("/api/chat", &json!({"model": "x", "messages": []})).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert_eq!(refused.json(), json!({"error": "model 'x' not found"}));
}

#[tokio::test]
async fn openai_s_routes_work_beside_its_own() {
    let sim = ollama().await;
    let reply = sim.post("/v1/chat/completions", &chat("echo: hi")).await.json();
    assert_eq!(reply["choices"][0]["message"]["content"], "hi");
    assert_eq!(reply["system_fingerprint"], "fp_ollama");
}
