//! Keys: who may call, and what.

use std::process::Output;

use hyper::Method;
use serde_json::{Value, json};
use synapse_testkit::{Answer, Client, Config, Engine, Gateway, KEY};

use crate::start::{code, gateway, setup, single};

async fn with_team() -> (Engine, Gateway) {
    let (engine, gateway) = single().await;
    gateway.cli_json(&["team", "create", "lab"]).await;
    (engine, gateway)
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("{field} in {value}")).to_owned()
}

/// A new key of team `lab`, in force.
async fn issue(gateway: &Gateway, args: &[&str]) -> (String, Client) {
    let made = gateway.cli_json(&[&["key", "create", "--team", "lab"], args].concat()).await;
    let client = gateway.client_with(&text(&made, "key"));
    until_not(gateway, &client, "invalid_api_key").await;
    (text(&made, "id"), client)
}

/// Asks until the answer's code is another.
async fn until_not(gateway: &Gateway, client: &Client, unwanted: &str) -> Answer {
    let asked = gateway.until("another answer", async || {
        Some(client.chat("m").await).filter(|answer| code(answer).1 != unwanted)
    });
    asked.await
}

#[tokio::test]
async fn a_key_made_beside_the_running_gateway_works_and_a_revoked_one_does_not() {
    let (_engine, gateway) = with_team().await;
    let (id, client) = issue(&gateway, &["--model", "*"]).await;
    assert_eq!(client.chat("m").await.status, 200);
    gateway.cli_json(&["key", "revoke", &id]).await;
    assert_eq!(code(&until_not(&gateway, &client, "").await), (403, "key_revoked".to_owned()));
}

#[tokio::test]
async fn a_disabled_key_and_a_disabled_team_are_refused_until_enabled() {
    let (_engine, gateway) = with_team().await;
    let (id, client) = issue(&gateway, &["--model", "*"]).await;
    for (off, on) in [
        (&["key", "update", &id, "--disable"][..], &["key", "update", &id, "--enable"][..]),
        (&["team", "disable", "lab"], &["team", "enable", "lab"]),
    ] {
        gateway.cli_json(off).await;
        assert_eq!(code(&until_not(&gateway, &client, "").await), (403, "key_disabled".to_owned()));
        gateway.cli_json(on).await;
        assert_eq!(until_not(&gateway, &client, "key_disabled").await.status, 200);
    }
}

#[tokio::test]
async fn while_a_rotation_overlaps_both_secrets_work() {
    let (_engine, gateway) = with_team().await;
    let (id, old) = issue(&gateway, &["--model", "*"]).await;
    let rotated = gateway.cli_json(&["key", "rotate", &id, "--overlap", "1h"]).await;
    let new = gateway.client_with(&text(&rotated, "key"));
    assert_eq!(until_not(&gateway, &new, "invalid_api_key").await.status, 200);
    assert_eq!(old.chat("m").await.status, 200);

    let again = gateway.cli_json(&["key", "rotate", &id, "--overlap", "0"]).await;
    let newest = gateway.client_with(&text(&again, "key"));
    assert_eq!(until_not(&gateway, &newest, "invalid_api_key").await.status, 200);
    assert_eq!(code(&new.chat("m").await), (403, "invalid_api_key".to_owned()));
}

#[tokio::test]
async fn an_expired_key_says_so_to_its_owner() {
    let (_engine, gateway) = with_team().await;
    let (_id, client) = issue(&gateway, &["--model", "*", "--expires", "2s"]).await;
    assert_eq!(code(&until_not(&gateway, &client, "").await), (403, "key_expired".to_owned()));
}

#[tokio::test]
async fn a_key_reaches_only_its_models_and_sees_no_others() {
    let engine = Engine::serving("one", "m").await;
    engine.update(|behaviour| behaviour.models = vec!["m".to_owned(), "secret-m".to_owned()]);
    let gateway = gateway(&Config::with(&[&engine])).await;
    gateway.cli_json(&["team", "create", "lab"]).await;
    let (_id, client) = issue(&gateway, &["--model", "m*"]).await;
    let listed = client.get("/v1/models").await.json();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(client.get("/v1/models/m").await.status, 200);
    // Whether it exists or not.
    for model in ["secret-m", "ghost"] {
        let refused = (403, "model_not_allowed".to_owned());
        assert_eq!(code(&client.chat(model).await), refused, "{model}");
        assert_eq!(code(&client.get(&format!("/v1/models/{model}")).await), refused, "{model}");
    }
    assert_eq!(code(&client.chat("m-ghost").await), (404, "model_not_found".to_owned()));
}

#[tokio::test]
async fn open_mode_asks_nobody_for_a_key() {
    let engine = Engine::serving("one", "m").await;
    let gateway = gateway(&Config::with(&[&engine]).set("/auth", json!({"mode": "open"}))).await;
    assert_eq!(gateway.anonymous().chat("m").await.status, 200);
    assert_eq!(gateway.client_with("anything").chat("m").await.status, 200);
    assert!(gateway.banner().contains("none needed"), "{}", gateway.banner());
}

#[tokio::test]
async fn a_key_of_the_operators_own_spelling_belongs_to_the_default_team() {
    let engine = Engine::serving("one", "m").await;
    let config = Config::with(&[&engine]).set("/auth", json!({}));
    let gateway = setup().arg("--api-auth-key").arg("my own key").start(&config).await;
    assert_eq!(gateway.client_with("my own key").chat("m").await.status, 200);
    let lines = gateway.logs().accesses_reach(1).await;
    assert_eq!((&lines[0]["key"], &lines[0]["team"]), (&json!("api-auth-key"), &json!("default")));
}

#[tokio::test]
async fn the_first_start_shows_a_key_that_works_and_the_second_shows_none() {
    let engine = Engine::serving("one", "m").await;
    let config = Config::with(&[&engine]).set("/auth", json!({}));
    let gateway = gateway(&config).await;
    let key = gateway.shown_key();
    assert!(key.starts_with("syn_"), "{}", gateway.banner());
    assert_eq!(gateway.client_with(&key).chat("m").await.status, 200);
    assert!(!gateway.logs().lines().concat().contains(&key));
    let again = gateway.restart().await;
    assert!(!again.banner().contains("syn_"), "{}", again.banner());
    assert_eq!(again.client_with(&key).chat("m").await.status, 200);
}

#[tokio::test]
async fn a_key_may_come_in_any_usual_header_but_not_as_two() {
    let (_engine, gateway) = single().await;
    let anonymous = gateway.anonymous();
    let asked = async |headers: &[(&'static str, &str)]| {
        let mut request = anonymous.request(Method::GET, "/v1/models", "");
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().expect("a value"));
        }
        code(&anonymous.send(request).await)
    };
    let fine = (200, String::new());
    for name in ["x-api-key", "api-key", "x-goog-api-key"] {
        assert_eq!(asked(&[(name, KEY)]).await, fine, "{name}");
    }
    let bearer = format!("bearer {KEY}");
    assert_eq!(asked(&[("authorization", &bearer), ("x-api-key", KEY)]).await, fine);
    let conflict = (401, "conflicting_credentials".to_owned());
    assert_eq!(asked(&[("authorization", &bearer), ("x-api-key", "other")]).await, conflict);
    assert_eq!(asked(&[("authorization", &bearer), ("authorization", "Bearer other")]).await, conflict);
    assert_eq!(asked(&[("authorization", "Basic eA==")]).await, (401, "missing_api_key".to_owned()));
}

#[tokio::test]
async fn two_gateways_do_not_share_a_data_folder() {
    let (_engine, gateway) = single().await;
    let Output { status, stderr, .. } = gateway.cli(&["serve", "--port", "0", "--data-dir", "data"]).await;
    assert_eq!(status.code(), Some(1), "{}", String::from_utf8_lossy(&stderr));
}
