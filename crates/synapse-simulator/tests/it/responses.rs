//! The responses format, whole and as events.

use serde_json::{Value, json};
use synapse_simulator::Engine;

use crate::client;

const RESPONSES: &str = "/v1/responses";

#[tokio::test]
async fn a_response_has_a_message_and_usage() {
    let sim = client::engine(Engine::OpenAi).await;
    let request = json!({"model": "m", "input": "echo: one two", "instructions": "be brief"});
    let reply = sim.post(RESPONSES, &request).await.json();
    assert_eq!((&reply["object"], &reply["status"]), (&json!("response"), &json!("completed")));
    assert_eq!(reply["output"][0]["content"][0]["text"], "one two");
    assert_eq!((&reply["usage"]["input_tokens"], &reply["usage"]["output_tokens"]), (&json!(5), &json!(2)));
}

#[tokio::test]
async fn a_response_that_is_cut_off_is_incomplete() {
    let sim = client::engine(Engine::OpenAi).await;
    let request = json!({"model": "m", "max_output_tokens": 1, "input": [{"role": "user", "content": [
        {"type": "input_text", "text": "echo: one two"}]}]});
    let reply = sim.post(RESPONSES, &request).await.json();
    assert_eq!(reply["status"], "incomplete");
    assert_eq!(reply["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(reply["output"][0]["content"][0]["text"], "one");
}

async fn events(request: Value) -> Vec<Value> {
    let sim = client::engine(Engine::OpenAi).await;
    let answer = sim.post(RESPONSES, &request).await;
    let events = answer.chunks();
    let names: Vec<&str> = answer.text().lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names, events.iter().map(|event| event["type"].as_str().unwrap()).collect::<Vec<_>>());
    let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    events
}

fn of_type<'a>(events: &'a [Value], wanted: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == wanted).collect()
}

#[tokio::test]
async fn events_lead_from_created_to_completed() {
    let events = events(json!({"model": "m", "stream": true, "input": "echo: one two three"})).await;
    assert_eq!(events[0]["type"], "response.created");
    let deltas = of_type(&events, "response.output_text.delta");
    assert_eq!(
        deltas.iter().map(|event| event["delta"].as_str().unwrap()).collect::<String>(),
        "one two three"
    );
    assert_eq!(of_type(&events, "response.output_text.done")[0]["text"], "one two three");
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["id"], events[0]["response"]["id"]);
    assert_eq!(last["response"]["usage"]["output_tokens"], 3);
}

#[tokio::test]
async fn functions_are_called_with_streamed_arguments() {
    let tool = json!({"type": "function", "name": "get_time", "parameters": {
        "type": "object", "required": ["zone"], "properties": {"zone": {"type": "string"}}}});
    let request =
        json!({"model": "m", "stream": true, "input": "hello", "tools": [tool], "tool_choice": "required"});
    let events = events(request).await;
    let deltas = of_type(&events, "response.function_call_arguments.delta");
    let arguments: String = deltas.iter().map(|event| event["delta"].as_str().unwrap()).collect();
    assert!(serde_json::from_str::<Value>(&arguments).unwrap()["zone"].is_string());
    let item = &events.last().unwrap()["response"]["output"][0];
    assert_eq!((&item["type"], &item["name"]), (&json!("function_call"), &json!("get_time")));
    assert_eq!(item["arguments"], arguments);
}
