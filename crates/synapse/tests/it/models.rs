//! `/v1/models` and `/health`: what is known of the fleet, answered from memory.

use serde_json::{Value, json};
use synapse_simulator::Health;
use synapse_testkit::{Config, Engine, Gateway};

use crate::start::{code, gateway};

async fn ids(gateway: &Gateway) -> Vec<String> {
    let listed = gateway.client().get("/v1/models").await.json();
    let ids = listed["data"].as_array().expect("a list").iter().map(|model| model["id"].as_str());
    ids.map(|id| id.expect("an id").to_owned()).collect()
}

async fn model(gateway: &Gateway, id: &str) -> Value {
    gateway.client().get(&format!("/v1/models/{id}")).await.json()
}

/// Two engines that share a model.
async fn overlapping() -> (Engine, Engine) {
    let first = Engine::serving("first", "shared").await;
    let second = Engine::serving("second", "shared").await;
    first.update(|behaviour| behaviour.models.push("org/only-first".to_owned()));
    (first, second)
}

#[tokio::test]
async fn the_models_of_all_backends_are_merged_and_their_instances_counted() {
    let (first, second) = overlapping().await;
    let gateway = gateway(&Config::with(&[&first, &second])).await;
    assert_eq!(ids(&gateway).await, ["org/only-first", "shared"]);
    assert_eq!(model(&gateway, "shared").await["instances"], 2);
    let one = model(&gateway, "org/only-first").await;
    assert_eq!((&one["object"], &one["instances"]), (&json!("model"), &json!(1)));
    assert_eq!(model(&gateway, "org%2Fonly-first").await["id"], "org/only-first");
    // Both serve it, in turn.
    for _ in 0..20 {
        assert_eq!(gateway.client().chat("shared").await.status, 200);
    }
    assert_eq!(first.counters().received + second.counters().received, 20);
}

#[tokio::test]
async fn aliases_are_models_and_patterns_carry_their_star() {
    let (first, second) = overlapping().await;
    let config = Config::with(&[&first, &second])
        .push(
            "models",
            json!({"name": "main", "aliases": ["default"], "deployments": [{"backend": "first", "model": "shared"}]}),
        )
        .push("models", json!({"name": "any/*", "deployments": [{"backend": "first", "model": "*"}]}));
    let gateway = gateway(&config).await;
    assert_eq!(ids(&gateway).await, ["default", "main", "org/only-first", "shared"]);
    for name in ["main", "default", "any/shared", "any/org/only-first"] {
        let answer = gateway.client().chat(name).await;
        assert_eq!((answer.status, answer.header("x-synapse-model")), (200, name));
    }
    assert!(first.last_body().contains("\"org/only-first\""));
    assert_eq!(code(&gateway.client().chat("any/ghost").await), (404, "model_not_found".to_owned()));
    assert_eq!(second.counters().received, 0);
}

#[tokio::test]
async fn a_model_that_appears_is_served_and_one_that_vanishes_is_not() {
    let engine = Engine::serving("one", "m").await;
    let gateway = gateway(&Config::with(&[&engine])).await;
    engine.update(|behaviour| behaviour.models = vec!["new".to_owned()]);
    gateway.until("the new list", async || (ids(&gateway).await == ["new"]).then_some(())).await;
    assert_eq!(gateway.client().chat("new").await.status, 200);
    assert_eq!(code(&gateway.client().chat("m").await), (404, "model_not_found".to_owned()));
}

#[tokio::test]
async fn a_model_survives_one_failed_look_but_not_two() {
    let engine = Engine::serving("one", "m").await;
    // Slow enough that exactly one look can fail.
    let looks = json!({"local": false, "health_s": 1, "models_s": 1});
    let gateway = gateway(&Config::with(&[&engine]).set("/discovery", looks)).await;
    // A look at such an engine is two requests: for its health, and for its models.
    let look_fails = async || {
        let before = engine.counters().probes;
        engine.update(|behaviour| behaviour.health = Health::Failing);
        engine.until(|counters| counters.probes >= before + 2).await;
    };
    look_fails().await;
    engine.update(|behaviour| behaviour.health = Health::Ready);
    assert_eq!(ids(&gateway).await, ["m"]);
    assert_eq!(gateway.client().chat("m").await.status, 200);
    let before = engine.counters().probes;
    engine.until(|counters| counters.probes >= before + 2).await;
    assert_eq!(ids(&gateway).await, ["m"]);

    look_fails().await;
    gateway.until("the model's end", async || ids(&gateway).await.is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_model_whose_only_backend_is_down_is_unavailable_not_unknown() {
    let mut engine = Engine::serving("one", "m").await;
    let looks = json!({"local": false, "health_s": 1, "models_s": 1});
    let gateway = gateway(&Config::with(&[&engine]).set("/discovery", looks)).await;
    engine.die().await;
    gateway.until("the model's end", async || ids(&gateway).await.is_empty().then_some(())).await;
    assert_eq!(code(&gateway.client().chat("m").await), (503, "no_backend_available".to_owned()));
}

#[tokio::test]
async fn a_backend_that_hangs_slows_neither_models_nor_health() {
    let (live, dead) = overlapping().await;
    let dead = dead.that(|behaviour| behaviour.health = Health::Silent);
    let gateway = crate::start::setup().without_discovery().start(&Config::with(&[&live, &dead])).await;
    gateway.until("the live one's models", async || (ids(&gateway).await.len() == 2).then_some(())).await;
    // Its first check is still waiting for an answer; nobody else is.
    let health = gateway.anonymous().get("/health").await.json();
    assert_eq!(health["backends"]["first"]["status"], "healthy", "{health}");
    assert_ne!(health["backends"]["second"]["status"], "healthy", "{health}");
}

#[tokio::test]
async fn health_tells_each_backends_state_and_is_always_200() {
    let (mut first, second) = overlapping().await;
    let gateway = gateway(&Config::with(&[&first, &second])).await;
    let status = async || gateway.anonymous().get("/health").await;
    assert_eq!(status().await.json()["status"], "healthy");
    first.die().await;
    let degraded = gateway.until("a degraded fleet", async || {
        Some(status().await).filter(|answer| answer.json()["status"] == "degraded")
    });
    let degraded = degraded.await;
    assert_eq!(
        (degraded.status, &degraded.json()["backends"]["first"]["status"]),
        (200, &json!("unhealthy"))
    );
    assert_eq!(gateway.client().chat("shared").await.status, 200);
    second.update(|behaviour| behaviour.health = Health::Loading);
    let all_down = gateway.until("an unhealthy fleet", async || {
        Some(status().await).filter(|answer| answer.json()["status"] == "unhealthy")
    });
    assert_eq!(all_down.await.status, 200);
    second.update(|behaviour| behaviour.health = Health::Ready);
    gateway.metric("synapse_backend_up", &[("backend", "second")], |up| up == 1.0).await;
    assert_eq!(gateway.client().chat("shared").await.status, 200);
}
