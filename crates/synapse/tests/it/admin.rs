//! The admin API: who may use it, and what it tells of workers.

use serde_json::json;
use synapse_testkit::{Client, Config, Engine, Gateway, Worker};

use crate::start::{code, gateway};

const WORKERS: &str = "/admin/v1/workers";

fn administrator(gateway: &Gateway, token: &str) -> Client {
    Client::to(gateway.address()).with("authorization", &format!("Bearer {token}"))
}

#[tokio::test]
async fn the_first_start_shows_a_token_and_later_ones_do_not() {
    let gateway = gateway(&Config::new()).await;
    let token = gateway.shown_admin_token();
    assert!(token.starts_with("syna_"), "{}", gateway.banner());
    assert_eq!(administrator(&gateway, &token).get(WORKERS).await.status, 200);
    let gateway = gateway.restart().await;
    assert_eq!(gateway.shown_admin_token(), "");
    assert_eq!(administrator(&gateway, &token).get(WORKERS).await.status, 200);
}

#[tokio::test]
async fn nobody_else_gets_in() {
    let gateway = gateway(&Config::new()).await;
    assert_eq!(code(&gateway.anonymous().get(WORKERS).await), (401, "missing_api_key".to_owned()));
    // Not a caller's key either.
    assert_eq!(code(&gateway.client().get(WORKERS).await), (401, "invalid_api_key".to_owned()));
    let token = gateway.shown_admin_token();
    let two = administrator(&gateway, &token).with("authorization", "Bearer another");
    assert_eq!(code(&two.get(WORKERS).await), (401, "conflicting_credentials".to_owned()));
    let made = gateway.cli_json(&["admin-token", "list"]).await;
    gateway.cli_json(&["admin-token", "revoke", made[0]["id"].as_str().expect("an id")]).await;
    let administrator = administrator(&gateway, &token);
    gateway.until("the end", async || (administrator.get(WORKERS).await.status == 401).then_some(())).await;
    let anew = gateway.cli_json(&["admin-token", "create", "--description", "mine"]).await;
    let mine = Client::to(gateway.address())
        .with("authorization", &format!("Bearer {}", anew["key"].as_str().expect("a token")));
    gateway.until("the new one", async || (mine.get(WORKERS).await.status == 200).then_some(())).await;
    assert_eq!(mine.get("/admin/v1/nothing").await.status, 404);
    assert_eq!(mine.post(WORKERS, &json!({})).await.status, 405);
}

#[tokio::test]
async fn an_administrator_sees_the_workers() {
    let engine = Engine::serving("far", "m").await;
    let groups = json!([{"name": "lab", "ws_auth_keys": ["workers-of-lab"], "api_keys": ["key-of-lab"]}]);
    let gateway = gateway(&Config::new().set("/groups", groups)).await;
    let administrator = administrator(&gateway, &gateway.shown_admin_token());
    assert_eq!(administrator.get(WORKERS).await.json(), json!({"object": "list", "data": []}));
    let (server, upstream) = (format!("ws://{}/ws", gateway.address()), engine.url());
    let flags = ["--server-url", &server, "--upstream", &upstream, "--ws-auth-key", "workers-of-lab"];
    let more = ["--name", "w", "--label", "rack=3", "--max-in-flight", "7", "--health-s", "0.1"];
    let _worker = Worker::start(env!("CARGO_BIN_EXE_synapse"), &[&flags[..], &more].concat());
    let is_well = async || {
        let list = administrator.get(WORKERS).await.json();
        (list["data"][0]["state"] == "healthy" && list["data"][0]["latency_ms"].is_number())
            .then(|| list["data"][0].clone())
    };
    let worker = gateway.until("the worker", is_well).await;
    let told = json!({
        "id": "lab/w", "name": "w", "group": "lab", "address": "127.0.0.1", "engine": engine.kind(),
        "version": env!("CARGO_PKG_VERSION"), "labels": {"rack": "3"}, "models": ["m"], "max_in_flight": 7,
        "in_flight": 0, "locality": "on_prem",
    });
    for (field, value) in told.as_object().expect("fields") {
        assert_eq!(&worker[field], value, "{field}: {worker}");
    }
    assert!(!worker.to_string().contains("workers-of-lab"), "no secret");
}
