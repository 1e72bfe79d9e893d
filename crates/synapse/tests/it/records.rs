//! Records: every request leaves exactly one, with what became of it.

use std::collections::HashMap;

use hyper::Method;
use serde_json::{Value, json};
use synapse_simulator::InterruptionKind;
use synapse_testkit::Gateway;

use crate::start::{saying, single};

/// The only line of each request, by its identifier.
async fn by_id(gateway: &Gateway, count: usize) -> HashMap<String, Value> {
    let lines = gateway.logs().accesses_reach(count).await;
    let ids = lines.iter().map(|line| line["request_id"].as_str().expect("an id").to_owned());
    let map: HashMap<String, Value> = ids.zip(lines.clone()).collect();
    assert_eq!((map.len(), lines.len()), (count, count), "{lines:#?}");
    map
}

#[tokio::test]
async fn every_request_leaves_one_line_with_its_outcome() {
    let (engine, gateway) = single().await;
    let client = gateway.client();
    let mut expected = Vec::new();
    let mut note = |answer: &synapse_testkit::Answer, outcome: &'static str, code: &'static str| {
        expected.push((answer.header("x-request-id").to_owned(), answer.status, outcome, code));
    };
    note(&client.chat("m").await, "completed", "");
    note(&client.stream("m").await, "completed", "");
    note(&client.get("/v1/models").await, "completed", "");
    note(&client.get("/v1/models/m").await, "completed", "");
    note(&client.send(client.request(Method::HEAD, "/v1/models", "")).await, "completed", "");
    note(&client.chat("ghost").await, "rejected", "model_not_found");
    note(&client.post_text("/v1/chat/completions", "{").await, "rejected", "invalid_json");
    note(&client.get("/nowhere").await, "rejected", "not_found");
    note(&client.get("/v1/chat/completions").await, "rejected", "method_not_allowed");
    note(&gateway.anonymous().chat("m").await, "rejected", "missing_api_key");
    note(&gateway.client_with("wrong").chat("m").await, "rejected", "invalid_api_key");
    engine.set(engine.behaviour().failing(500));
    note(&client.chat("m").await, "failed", "upstream_error");
    engine.set(engine.behaviour().failing(400));
    note(&client.chat("m").await, "rejected", "upstream_rejected");
    engine.update(|behaviour| behaviour.status = None);
    engine.set(engine.behaviour().interrupted(4, InterruptionKind::Eof));
    note(&client.stream("m").await, "failed", "upstream_truncated");

    let lines = by_id(&gateway, expected.len()).await;
    for (id, status, outcome, code) in expected {
        let line = &lines[&id];
        assert_eq!(
            (&line["status"], &line["outcome"], line["code"].as_str().unwrap_or_default()),
            (&json!(status), &json!(outcome), code),
            "{line}"
        );
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("synapse_audit_records_total", &[]), 14.0);
    assert_eq!(metrics.sum("synapse_requests_total", &[]), 14.0);
}

#[tokio::test]
async fn a_record_tells_who_asked_whom_for_what_and_what_it_cost() {
    let (_engine, gateway) = single().await;
    gateway.client().stream("m").await;
    let line = gateway.logs().accesses_reach(1).await.remove(0);
    for (field, value) in [
        ("route", json!("POST /v1/chat/completions")),
        ("key", json!("it")),
        ("team", json!("default")),
        ("address", json!("127.0.0.1")),
        ("model", json!("m")),
        ("backend", json!("one")),
        ("attempts", json!(1)),
        ("stream", json!(true)),
        ("finish_reason", json!("stop")),
        ("output_tokens", json!(8)),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("synapse_tokens_total", &[("direction", "output"), ("model", "m")]), 8.0);
    assert_eq!(metrics.sum("synapse_requests_total", &[("backend", "one"), ("status", "200")]), 1.0);
}

#[tokio::test]
async fn neither_prompts_nor_replies_nor_keys_are_ever_logged() {
    let setup = crate::start::setup().arg("--log-level").arg("trace");
    let engine = synapse_testkit::Engine::serving("one", "m").await;
    let gateway = setup.start(&synapse_testkit::Config::with(&[&engine])).await;
    let client = gateway.client();
    let canary = saying("m", "echo: canary-of-the-prompt");
    assert!(client.post("/v1/chat/completions", &canary).await.text().contains("canary"));
    engine.set(engine.behaviour().failing(500));
    client.post("/v1/chat/completions", &canary).await;
    client.post_text("/v1/chat/completions", "{\"canary-of-the-prompt\":").await;
    gateway.client_with("wrong-canary").chat("m").await;
    gateway.logs().accesses_reach(4).await;
    let said = gateway.logs().lines().join("\n");
    for secret in ["canary", synapse_testkit::KEY] {
        assert!(!said.contains(secret), "{:?}", said.lines().find(|line| line.contains(secret)));
    }
    assert!(!gateway.metrics().await.text().contains("canary"));
}

#[tokio::test]
async fn names_that_callers_make_up_are_no_labels() {
    let (_engine, gateway) = single().await;
    for at in 0..20 {
        gateway.client().chat(&format!("made-up-{at}")).await;
        gateway.client().get(&format!("/made-up-{at}")).await;
    }
    assert!(!gateway.metrics().await.text().contains("made-up"));
}

#[tokio::test]
async fn the_access_log_can_be_switched_off() {
    let engine = synapse_testkit::Engine::serving("one", "m").await;
    let config = synapse_testkit::Config::with(&[&engine]).set("/logs/access", false);
    let mut gateway = crate::start::gateway(&config).await;
    gateway.client().chat("m").await;
    gateway.terminate();
    gateway.ended().await;
    assert_eq!(gateway.logs().accesses(), [] as [Value; 0]);
}
