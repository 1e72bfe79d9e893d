//! Groups: a key reaches the backends and workers of its own, and those alone.

use serde_json::{Value, json};
use synapse_testkit::{Client, Config, Engine, Gateway, Worker};

use crate::start::{self, code, gateway, setup};

/// A worker that brings this engine to a gateway.
fn worker(gateway: &Gateway, engine: &Engine, name: &str, key: &str) -> Worker {
    start::worker(gateway.address(), &engine.url(), name, key)
}

/// The names of the models that a caller sees; `None` for one who is refused.
async fn seen(client: &Client) -> Option<Vec<String>> {
    let answer = client.get("/v1/models").await;
    if answer.status != 200 {
        return None;
    }
    let listed = answer.json()["data"].as_array().expect("a list").clone();
    Some(listed.iter().map(|model| model["id"].as_str().expect("an id").to_owned()).collect())
}

async fn models(client: &Client) -> Vec<String> {
    seen(client).await.expect("no refusal")
}

/// Waits until a caller sees exactly these models.
async fn until_models(gateway: &Gateway, client: &Client, want: &[&str]) {
    let what = format!("the models {want:?}");
    gateway.until(&what, async || seen(client).await.filter(|models| models == want)).await;
}

/// The id and the text of a new worker key.
async fn worker_key(gateway: &Gateway, args: &[&str]) -> (String, String) {
    let made = gateway.cli_json(&[&["worker-key", "create"], args].concat()).await;
    let text = |field: &str| made[field].as_str().expect("a text").to_owned();
    (text("id"), text("key"))
}

fn not_found() -> (u16, String) {
    (404, "model_not_found".to_owned())
}

#[tokio::test]
async fn a_key_reaches_the_backends_of_its_group_and_no_others() {
    let engines = [Engine::serving("lab", "lab-m").await, Engine::serving("both", "both-m").await];
    let config = Config::with(&[&engines[0], &engines[1]])
        .push("groups", json!({"name": "lab", "api_keys": ["lab-key"]}))
        .set("/backends/0/groups", json!(["lab"]))
        .set("/backends/1/groups", json!(["default", "lab"]));
    let gateway = gateway(&config).await;
    let (lab, others) = (gateway.client_with("lab-key"), gateway.client());
    assert_eq!(models(&lab).await, ["both-m", "lab-m"]);
    assert_eq!(models(&others).await, ["both-m"]);
    assert_eq!(lab.chat("lab-m").await.status, 200);
    assert_eq!(code(&others.chat("lab-m").await), not_found());

    gateway.cli_json(&["team", "create", "zoo"]).await;
    let made = gateway.cli_json(&["key", "create", "--team", "zoo", "--model", "*", "--group", "lab"]).await;
    let issued = gateway.client_with(made["key"].as_str().expect("a key"));
    until_models(&gateway, &issued, &["both-m", "lab-m"]).await;
    let line = gateway.logs().line("\"model\":\"lab-m\"").await;
    let first: Value = serde_json::from_str(&line).expect("a line of JSON");
    let id = first["key"].as_str().expect("an id");
    assert!(id.starts_with("lab-") && !id.contains("lab-key"), "{first}");
    assert_eq!(first["team"], "default");
}

#[tokio::test]
async fn a_worker_joins_the_group_that_its_key_belongs_to() {
    let direct = Engine::serving("direct", "direct-m").await;
    let hidden = Engine::serving("hidden", "hidden-m").await;
    let group = json!({"name": "lab", "ws_auth_keys": ["lab-worker"], "api_keys": ["lab-key"]});
    let config = Config::with(&[&direct]).push("groups", group);
    let gateway = gateway(&config).await;
    let (lab, others) = (gateway.client_with("lab-key"), gateway.client());
    assert_eq!(models(&lab).await, [""; 0]);
    let worker = worker(&gateway, &hidden, "w", "lab-worker");
    until_models(&gateway, &lab, &["hidden-m"]).await;
    assert_eq!(lab.chat("hidden-m").await.status, 200);
    assert_eq!(models(&others).await, ["direct-m"]);
    assert_eq!(code(&others.chat("hidden-m").await), not_found());
    assert_eq!(code(&lab.chat("direct-m").await), not_found());

    // The file no longer has the key.
    gateway.reconfigure(&config.set("/groups/0/ws_auth_keys", json!(["another"])));
    worker.logs().line("the worker's key is not valid any more").await;
    until_models(&gateway, &lab, &[]).await;
}

#[tokio::test]
async fn a_worker_key_made_beside_the_running_gateway_works_until_it_is_revoked() {
    let engine = Engine::serving("e", "m").await;
    let gateway = gateway(&Config::new()).await;
    let (id, key) = worker_key(&gateway, &[]).await;
    let worker = worker(&gateway, &engine, "w", &key);
    let client = gateway.client();
    until_models(&gateway, &client, &["m"]).await;
    assert_eq!(client.chat("m").await.status, 200);
    gateway.cli_json(&["worker-key", "revoke", &id]).await;
    worker.logs().line("the worker's key is not valid any more").await;
    until_models(&gateway, &client, &[]).await;
    for lines in [gateway.logs().lines(), worker.logs().lines()] {
        assert!(!lines.concat().contains(&key), "no log has the key");
    }
}

#[tokio::test]
async fn the_flags_worker_key_is_of_the_default_group_and_lasts_through_reloads() {
    let engine = Engine::serving("e", "m").await;
    let config = Config::new();
    let gateway = setup().arg("--ws-auth-key").arg("my workers").start(&config).await;
    let client = gateway.client();
    let _worker = worker(&gateway, &engine, "w", "my workers");
    until_models(&gateway, &client, &["m"]).await;
    gateway.reconfigure(&config.push("groups", json!({"name": "lab", "api_keys": ["lab-key"]})));
    let lab = gateway.client_with("lab-key");
    until_models(&gateway, &lab, &[]).await;
    assert_eq!(models(&client).await, ["m"]);
}

#[tokio::test]
async fn without_a_worker_key_no_worker_comes_in_however_open_the_gateway_is() {
    let engine = Engine::serving("e", "m").await;
    let gateway = gateway(&Config::new().set("/auth", json!({"mode": "open"}))).await;
    let worker = worker(&gateway, &engine, "w", "anything");
    worker.logs().line("401").await;
    let knock = async |headers: &[(&'static str, &str)]| {
        let mut client = gateway.anonymous();
        for (name, value) in headers {
            client = client.with(name, value);
        }
        client.get("/ws").await.status
    };
    assert_eq!(knock(&[]).await, 401);
    assert_eq!(knock(&[("authorization", "Bearer ")]).await, 401);
    assert_eq!(models(&gateway.anonymous()).await, [""; 0]);
}

#[tokio::test]
async fn callers_keys_and_workers_keys_do_not_pass_for_each_other() {
    let engine = Engine::serving("one", "m").await;
    let group = json!({"name": "default", "ws_auth_keys": ["for-workers"], "api_keys": ["for-callers"]});
    let gateway = gateway(&Config::with(&[&engine]).push("groups", group)).await;
    let (_id, issued) = worker_key(&gateway, &[]).await;
    for key in ["for-workers", &issued] {
        assert_eq!(code(&gateway.client_with(key).chat("m").await), (403, "invalid_api_key".to_owned()));
    }
    for key in ["for-callers", synapse_testkit::KEY] {
        assert_eq!(gateway.client_with(key).get("/ws").await.status, 401);
    }
}
