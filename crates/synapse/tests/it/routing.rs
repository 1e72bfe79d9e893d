//! Which backend serves: by the caller's wishes, by the conversation, by the length of the request.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use synapse_testkit::{Answer, Config, Engine, Gateway, Script};

use crate::start::{code, gateway, pair, saying, setup, with};

async fn wishing(gateway: &Gateway, model: &str, wishes: Value) -> Answer {
    gateway.client().post("/v1/chat/completions", &with(saying(model, "hi"), wishes)).await
}

#[tokio::test]
async fn a_caller_may_order_pick_and_refuse_backends() {
    let (first, second, gateway) = pair().await;
    for (wishes, backend) in [
        (json!({"order": ["SECOND"]}), "second"),
        (json!({"only": ["second"]}), "second"),
        (json!({"ignore": ["first"]}), "second"),
        (json!({"sort": "latency"}), "first"),
    ] {
        let answer = wishing(&gateway, "m", json!({"provider": wishes})).await;
        assert_eq!(answer.header("x-synapse-backend"), backend, "{wishes}");
    }
    for engine in [&first, &second] {
        assert!(!engine.last_body().contains("provider"), "engines do not see it: {}", engine.last_body());
    }
}

#[tokio::test]
async fn a_caller_may_do_without_fallbacks() {
    let (first, second, gateway) = pair().await;
    first.set(first.behaviour().failing(500));
    assert_eq!(wishing(&gateway, "m", json!({"provider": {"allow_fallbacks": false}})).await.status, 502);
    assert_eq!(second.counters().received, 0);
    let ordered = json!({"provider": {"allow_fallbacks": false, "order": ["first", "second"]}});
    assert_eq!(wishing(&gateway, "m", ordered).await.header("x-synapse-backend"), "second");
}

#[tokio::test]
async fn wishes_that_leave_no_backend_are_the_callers_mistake() {
    let (_first, _second, gateway) = pair().await;
    let answer = wishing(&gateway, "m", json!({"provider": {"only": ["elsewhere"]}})).await;
    assert_eq!(code(&answer), (400, "invalid_field".to_owned()));
    assert_eq!(answer.json()["error"]["param"], "provider");
}

#[tokio::test]
async fn a_caller_may_name_further_models_within_what_its_key_allows() {
    let (first, second) = (Engine::serving("first", "m").await, Engine::serving("second", "n").await);
    first.set(first.behaviour().failing(500));
    let keys = json!([
        {"id": "wide", "secret": "wide-key"},
        {"id": "narrow", "secret": "narrow-key", "models": ["m"]},
    ]);
    let gateway = gateway(&Config::with(&[&first, &second]).set("/auth/static_keys", keys)).await;
    let body = with(saying("m", "hi"), json!({"models": ["n"]}));
    let answer = gateway.client_with("wide-key").post("/v1/chat/completions", &body).await;
    assert_eq!((answer.status, answer.header("x-synapse-backend")), (200, "second"));
    assert!(!second.last_body().contains("models"), "{}", second.last_body());
    assert_eq!(gateway.client_with("narrow-key").post("/v1/chat/completions", &body).await.status, 502);
}

#[tokio::test]
async fn a_request_too_long_for_a_model_goes_to_the_one_named_for_that() {
    let refusal = r#"{"error":{"message":"This model's maximum context length is 10 tokens.","code":400}}"#;
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {}",
        refusal.len()
    );
    let small = Script::saying(format!("{head}\r\nconnection: close\r\n\r\n{refusal}")).await;
    let large = Engine::serving("large", "l").await;
    let config = Config::new()
        .backend_at("small", "openai", &small.url())
        .backend(&large)
        .model("s", &[json!({"backend": "small", "model": "s"})])
        .model("l", &[json!({"backend": "large", "model": "l"})]);
    let alone = setup().without_discovery().start(&config).await;
    let refused = alone.client().chat("s").await;
    assert_eq!(code(&refused), (400, "context_length_exceeded".to_owned()));
    let wired = config.set("/models/0/context_fallbacks", json!(["l"]));
    let gateway = setup().without_discovery().start(&wired).await;
    let served = gateway.client().chat("s").await;
    assert_eq!((served.status, served.header("x-synapse-backend")), (200, "large"));
    assert_eq!(served.header("x-synapse-attempts"), "2");
}

#[tokio::test]
async fn with_prefix_affinity_a_conversation_stays_where_it_began() {
    let engines = [
        Engine::serving("one", "m").await,
        Engine::serving("two", "m").await,
        Engine::serving("three", "m").await,
    ];
    let config = Config::with(&[&engines[0], &engines[1], &engines[2]]).set("/routing/affinity", "prefix");
    let gateway = gateway(&config).await;
    let mut used = BTreeSet::new();
    for conversation in 0..12 {
        let mut messages = vec![
            json!({"role": "system", "content": "The same for all."}),
            json!({"role": "user", "content": format!("Conversation {conversation}.")}),
        ];
        let mut backends = BTreeSet::new();
        for turn in 0..3 {
            let body = json!({"model": "m", "messages": messages});
            let answer = gateway.client().post("/v1/chat/completions", &body).await;
            backends.insert(answer.header("x-synapse-backend").to_owned());
            messages.push(json!({"role": "assistant", "content": "Well."}));
            messages.push(json!({"role": "user", "content": format!("Turn {turn}.")}));
        }
        assert_eq!(backends.len(), 1, "conversation {conversation} moved: {backends:?}");
        used.extend(backends);
    }
    assert!(used.len() > 1, "not all follow the system message to one place");
}

#[tokio::test]
async fn a_backend_that_says_when_it_will_be_back_is_left_alone_until_then() {
    let head = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 120\r\ncontent-length: 0";
    let away = Script::saying(format!("{head}\r\nconnection: close\r\n\r\n")).await;
    let engine = Engine::serving("one", "m").await;
    let config = Config::new().backend_at("away", "openai", &away.url()).backend(&engine).model(
        "m",
        &[json!({"backend": "away", "model": "m"}), json!({"backend": "one", "model": "m", "order": 2})],
    );
    let gateway = setup().without_discovery().start(&config).await;
    for _ in 0..3 {
        assert_eq!(gateway.client().chat("m").await.header("x-synapse-backend"), "one");
    }
    assert_eq!(away.calls(), 1);
}

#[tokio::test]
async fn a_caller_may_say_how_long_it_is_going_to_wait() {
    let engine = Engine::serving("one", "m").await.that(|behaviour| behaviour.hang_before_head = true);
    let gateway = gateway(&Config::with(&[&engine])).await;
    let client = gateway.client();
    let mut request =
        client.request(hyper::Method::POST, "/v1/chat/completions", saying("m", "hi").to_string());
    request.headers_mut().insert("x-request-timeout", "0.1".parse().expect("a value"));
    let answer = client.send(request).await;
    assert_eq!(code(&answer), (504, "upstream_timeout".to_owned()));
}
