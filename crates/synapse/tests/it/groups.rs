//! Groups of keys and backends. What groups mean to workers is shown with these, in `tunnel.rs`.

use serde_json::{Value, json};
use synapse_testkit::{Config, Engine};

use crate::{
    start::{code, gateway, setup},
    tunnel::{listed, until_listed, worker_with},
};

#[tokio::test]
async fn a_key_reaches_the_backends_of_its_group_and_no_others() {
    let engines = [Engine::serving("lab", "lab-m").await, Engine::serving("both", "both-m").await];
    let config = Config::with(&[&engines[0], &engines[1]])
        .push("groups", json!({"name": "lab", "api_keys": ["lab-key"]}))
        .set("/backends/0/groups", json!(["lab"]))
        .set("/backends/1/groups", json!(["default", "lab"]));
    let gateway = gateway(&config).await;
    let (lab, others) = (gateway.client_with("lab-key"), gateway.client());
    assert_eq!(listed(&lab).await, ["both-m", "lab-m"]);
    assert_eq!(listed(&others).await, ["both-m"]);
    assert_eq!(lab.chat("lab-m").await.status, 200);
    assert_eq!(code(&others.chat("lab-m").await), (404, "model_not_found".to_owned()));

    gateway.cli_json(&["team", "create", "zoo"]).await;
    let made = gateway.cli_json(&["key", "create", "--team", "zoo", "--model", "*", "--group", "lab"]).await;
    let issued = gateway.client_with(made["key"].as_str().expect("a key"));
    gateway.until("the key", async || (issued.chat("lab-m").await.status == 200).then_some(())).await;
    let line = gateway.logs().line("\"model\":\"lab-m\"").await;
    let first: Value = serde_json::from_str(&line).expect("a line of JSON");
    let id = first["key"].as_str().expect("an id");
    assert!(id.starts_with("lab-") && !id.contains("lab-key"), "{first}");
    assert_eq!(first["team"], "default");
}

#[tokio::test]
async fn the_flags_worker_key_is_of_the_default_group_and_lasts_through_reloads() {
    let engine = Engine::serving("e", "m").await;
    let config = Config::new();
    let gateway = setup().arg("--ws-auth-key").arg("my workers").start(&config).await;
    let client = gateway.client();
    let _worker = worker_with("my workers", gateway.address(), &engine, "w");
    until_listed(&gateway, &client, &["m"]).await;
    gateway.reconfigure(&config.push("groups", json!({"name": "lab", "api_keys": ["lab-key"]})));
    let lab = gateway.client_with("lab-key");
    gateway.until("the new key", async || (lab.get("/v1/models").await.status == 200).then_some(())).await;
    assert_eq!(listed(&lab).await, [""; 0]);
    assert_eq!(listed(&client).await, ["m"]);
}

#[tokio::test]
async fn without_a_worker_key_no_worker_comes_in_however_open_the_gateway_is() {
    let engine = Engine::serving("e", "m").await;
    let gateway = gateway(&Config::new().set("/auth", json!({"mode": "open"}))).await;
    let worker = worker_with("anything", gateway.address(), &engine, "w");
    worker.logs().line("401").await;
    assert_eq!(gateway.anonymous().get("/ws").await.status, 401);
    assert_eq!(listed(&gateway.anonymous()).await, [""; 0]);
}

#[tokio::test]
async fn callers_keys_and_workers_keys_do_not_pass_for_each_other() {
    let engine = Engine::serving("one", "m").await;
    let group = json!({"name": "default", "ws_auth_keys": ["for-workers"], "api_keys": ["for-callers"]});
    let gateway = gateway(&Config::with(&[&engine]).push("groups", group)).await;
    let made = gateway.cli_json(&["worker-key", "create"]).await;
    for key in ["for-workers", made["key"].as_str().expect("a key")] {
        assert_eq!(code(&gateway.client_with(key).chat("m").await), (403, "invalid_api_key".to_owned()));
    }
    for key in ["for-callers", synapse_testkit::KEY] {
        assert_eq!(gateway.client_with(key).get("/ws").await.status, 401);
    }
}
