//! From requests to alerts, and from alerts to webhooks that may be away for a while.

use std::net::SocketAddr;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use synapse_testkit::{Config, Engine, Gateway, Script, Setup};

use crate::{
    dlp::{token, under},
    start::{gateway, saying, setup},
};

const FINE: &str = "HTTP/1.1 204 No Content\r\n\r\n";
/// The bytes of the signing secret.
const SECRET: [u8; 32] = [7; 32];

/// A gateway to be that tells of three refused keys, to a webhook at this URL.
fn telling(url: &str, engine: &Engine) -> Config {
    let secret = format!("whsec_{}", BASE64_STANDARD.encode(SECRET));
    let webhook = json!({"name": "ops", "url": url, "secret": secret, "allow_private": true});
    let storm = json!({"refused_keys": {"count": 3}});
    Config::with(&[engine])
        .set("/anomaly", json!({"rules": storm}))
        .set("/alerts", json!({"webhooks": [webhook]}))
}

async fn storm(gateway: &Gateway) {
    for number in 0..3 {
        let answer = gateway.client_with(&format!("sk-wrong-{number}")).chat("m").await;
        assert_eq!(answer.status, 403);
    }
}

/// The alert that is listed, once there is one.
async fn alert(gateway: &Gateway) -> Value {
    gateway
        .until("an alert", async || {
            let listed = gateway.cli_json(&["alert", "list"]).await;
            listed.as_array().and_then(|alerts| alerts.first()).cloned()
        })
        .await
}

/// How the delivery of an alert stands, once it is so.
async fn delivery(gateway: &Gateway, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    gateway
        .until("the delivery", async || {
            let shown = gateway.cli_json(&["alert", "show", id]).await;
            Some(shown["deliveries"][0].clone()).filter(&is_so)
        })
        .await
}

/// A header of a request as it came.
fn header<'r>(request: &'r str, name: &str) -> &'r str {
    let prefix = format!("{name}: ");
    request.lines().find_map(|line| line.strip_prefix(prefix.as_str())).unwrap_or_default()
}

/// The document in a request, whose signature must be right.
fn verified(request: &str) -> Value {
    let (_, body) = request.split_once("\r\n\r\n").expect("a body");
    let (id, timestamp) = (header(request, "webhook-id"), header(request, "webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(&SECRET).expect("a key");
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    let signature = header(request, "webhook-signature").strip_prefix("v1,").expect("a version");
    let signature = BASE64_STANDARD.decode(signature).expect("Base64");
    mac.verify_slice(&signature).expect("the right signature");
    let document: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(document["data"]["id"], id);
    document
}

#[tokio::test]
async fn a_storm_of_refused_keys_is_an_alert_that_arrives_signed() {
    let (engine, receiver) = (Engine::serving("one", "m").await, Script::saying(FINE).await);
    let gateway = gateway(&telling(&receiver.url(), &engine)).await;
    storm(&gateway).await;
    let alert = alert(&gateway).await;
    assert_eq!((&alert["rule"], &alert["source"]), (&json!("refused_keys"), &json!("127.0.0.0/24")));
    let id = alert["id"].as_str().expect("an id");
    delivery(&gateway, id, |delivery| delivery["progress"] == "delivered").await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    let document = verified(&requests[0]);
    assert_eq!((&document["data"]["id"], &document["data"]["severity"]), (&json!(id), &json!("high")));
    let labels = [("rule", "refused_keys"), ("severity", "high")];
    gateway.metric("synapse_alerts_total", &labels, |count| count == 1.0).await;
    gateway.metric("synapse_webhook_deliveries_total", &[("result", "delivered")], |n| n == 1.0).await;
}

#[tokio::test]
async fn a_storm_from_many_networks_is_an_alert_though_none_of_them_does_much() {
    let (engine, receiver) = (Engine::serving("one", "m").await, Script::saying(FINE).await);
    let config = telling(&receiver.url(), &engine).set("/server/trusted_proxies", json!(["127.0.0.0/8"]));
    let gateway = gateway(&config).await;
    for network in 0..12 {
        let address = format!("203.0.{network}.9");
        let stranger = gateway.client_with("no-such-key").with("x-forwarded-for", &address);
        assert_eq!(stranger.chat("m").await.status, 403);
    }
    let alert = alert(&gateway).await;
    assert_eq!((&alert["rule"], &alert["source"]), (&json!("refused_keys"), &json!("many networks")));
}

#[tokio::test]
async fn an_alert_outlasts_the_gateway_and_arrives_when_its_receiver_is_back() {
    let engine = Engine::serving("one", "m").await;
    let address: SocketAddr = {
        let nobody = Script::saying(FINE).await;
        nobody.address()
    };
    let mut gateway = gateway(&telling(&format!("http://{address}/hook?x=1"), &engine)).await;
    storm(&gateway).await;
    let id = alert(&gateway).await["id"].as_str().expect("an id").to_owned();
    let tried = delivery(&gateway, &id, |delivery| delivery["attempts"] != 0).await;
    assert_eq!(tried["progress"], "pending");
    gateway.die();
    let receiver = Script::saying_at(address, FINE).await;
    let gateway = gateway.start_again().await;
    delivery(&gateway, &id, |delivery| delivery["progress"] == "delivered").await;
    let request = receiver.requests().remove(0);
    assert!(request.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{request}");
    assert_eq!(verified(&request)["data"]["id"], id);
}

#[tokio::test]
async fn an_alert_is_seen_to_and_its_like_are_muted() {
    let (engine, receiver) = (Engine::serving("one", "m").await, Script::saying(FINE).await);
    let config = telling(&receiver.url(), &engine).set("/anomaly/rules/refused_keys/cool_down_m", 0);
    let gateway = gateway(&config).await;
    storm(&gateway).await;
    let id = alert(&gateway).await["id"].as_str().expect("an id").to_owned();
    let seen = gateway.cli_json(&["alert", "ack", &id]).await;
    assert_eq!(seen["state"]["is"], "acknowledged");
    gateway.cli_json(&["alert", "mute", &id, "--for", "1h"]).await;
    storm(&gateway).await;
    let muted = gateway
        .until("muted alerts", async || {
            let listed = gateway.cli_json(&["alert", "list", "--state", "muted"]).await;
            listed.as_array().cloned().filter(|alerts| alerts.len() > 1)
        })
        .await;
    assert_ne!(muted[0]["id"], id);
    let newest = gateway.cli_json(&["alert", "show", muted[0]["id"].as_str().expect("an id")]).await;
    assert_eq!(newest["deliveries"], json!([]));
}

#[tokio::test]
async fn requests_that_are_stopped_or_fail_again_and_again_are_alerts_of_their_key_and_team() {
    let broken = Script::saying("HTTP/1.1 500 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    let rules = json!({"dlp_blocks": {"count": 2}, "errors": {"count": 3}});
    let config = Config::new()
        .backend_at("script", "openai", &broken.url())
        .model("m", &[json!({"backend": "script", "model": "m"})])
        .set("/anomaly", json!({"rules": rules}));
    let gateway = setup().without_discovery().start(&under(json!({"base": "cloud"}), config)).await;
    for _ in 0..2 {
        let stopped = gateway.client().post("/v1/chat/completions", &saying("m", &token())).await;
        assert_eq!(stopped.json()["error"]["code"], "dlp_blocked");
    }
    for _ in 0..5 {
        assert!(gateway.client().chat("m").await.status >= 500);
    }
    let mut alerts = gateway
        .until("two alerts", async || {
            let listed = gateway.cli_json(&["alert", "list"]).await;
            listed.as_array().cloned().filter(|alerts| alerts.len() > 1)
        })
        .await;
    alerts.sort_by_key(|alert| alert["rule"].to_string());
    let subjects: Vec<_> =
        alerts.iter().map(|alert| (&alert["rule"], &alert["key"], &alert["team"])).collect();
    let (blocks, errors, team) = (json!("dlp_blocks"), json!("errors"), json!("default"));
    assert_eq!(subjects, [(&blocks, &json!("it"), &team), (&errors, &Value::Null, &team)]);
}

#[tokio::test]
async fn where_nobody_needs_a_key_what_fails_and_what_is_stopped_is_told_of_too() {
    let broken = Script::saying("HTTP/1.1 500 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    let rules = json!({"dlp_blocks": {"count": 2}, "errors": {"count": 3}});
    let config = Config::new()
        .backend_at("script", "openai", &broken.url())
        .model("m", &[json!({"backend": "script", "model": "m"})])
        .set("/auth", json!({"mode": "open", "open": {"dlp_policy": "p"}}))
        .set("/dlp", json!({"policies": [{"name": "p", "base": "cloud"}]}))
        .set("/anomaly", json!({"rules": rules}));
    let gateway = setup().without_discovery().start(&config).await;
    for _ in 0..2 {
        let stopped = gateway.client().post("/v1/chat/completions", &saying("m", &token())).await;
        assert_eq!(stopped.json()["error"]["code"], "dlp_blocked", "{}", stopped.text());
    }
    for _ in 0..5 {
        assert!(gateway.client().chat("m").await.status >= 500);
    }
    let alerts = gateway.until("two alerts", async || {
        let listed = gateway.cli_json(&["alert", "list"]).await;
        listed.as_array().cloned().filter(|alerts| alerts.len() > 1)
    });
    let mut subjects: Vec<_> =
        alerts.await.iter().map(|alert| format!("{} {}", alert["rule"], alert["source"])).collect();
    subjects.sort();
    assert_eq!(subjects, [r#""dlp_blocks" "127.0.0.0/24""#, r#""errors" "everybody""#]);
}

async fn try_webhook(setup: Setup, url: &str, allow_private: bool) -> (bool, String) {
    let webhook = json!({"name": "ops", "url": url, "format": "slack", "allow_private": allow_private});
    let config = Config::new().set("/alerts", json!({"webhooks": [webhook]}));
    let file = setup.folder().join("hooks.yaml");
    std::fs::write(&file, config.text()).expect("a file");
    let output = setup.cli(&["webhook", "test", "ops", "--config", "hooks.yaml"]).await;
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).expect("UTF-8"))
}

#[tokio::test]
async fn a_webhook_can_be_tried_and_its_path_is_not_told() {
    let fine = Script::saying(FINE).await;
    let (is_well, said) = try_webhook(setup(), &format!("{}/hidden", fine.url()), true).await;
    assert_eq!((is_well, said.as_str()), (true, "ops answered 204\n"));
    assert!(fine.requests()[0].contains("This is a test"));
    let broken = Script::saying("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n").await;
    let (is_well, said) = try_webhook(setup(), &format!("{}/hidden", broken.url()), true).await;
    assert!(!is_well && said.contains("it answered 500") && !said.contains("hidden"), "{said}");
    let (is_well, said) = try_webhook(setup(), "https://127.0.0.1:1/hidden", false).await;
    assert!(!is_well && said.contains("no public address") && !said.contains("hidden"), "{said}");
}
