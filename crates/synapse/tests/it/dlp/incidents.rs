//! Incidents: one for each affected request, with counts and places, and never the text.

use serde_json::{Value, json};
use synapse_testkit::Config;

use super::{card, single_under, token, under};
use crate::start::{gateway, saying, single};

async fn listed(gateway: &synapse_testkit::Gateway, count: usize) -> Vec<Value> {
    gateway
        .until("incidents are stored", async || {
            let listed = gateway.cli_json(&["incident", "list"]).await;
            let listed = listed.as_array().cloned().unwrap_or_default();
            (listed.len() >= count).then_some(listed)
        })
        .await
}

#[tokio::test]
async fn a_request_in_which_something_is_found_is_one_incident() {
    let (_engine, gateway) = single().await;
    let text = format!("{0} and {0}", card());
    let body = json!({"model": "m", "messages": [{"role": "user", "content": text}, {"role": "user", "content": text}]});
    let answer = gateway.client().post("/v1/chat/completions", &body).await;
    gateway.client().chat("m").await;
    let found = listed(&gateway, 1).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    let incident = &found[0];
    assert_eq!(incident["request"], answer.header("x-request-id"));
    assert_eq!((&incident["action"], &incident["severity"]), (&json!("redact"), &json!("high")));
    assert_eq!((&incident["policy"], &incident["model"]), (&json!("on_prem"), &json!("m")));
    let finding = &incident["findings"][0];
    assert_eq!((&finding["category"], &finding["count"]), (&json!("credit_card_visa"), &json!(4)));
    assert_eq!(finding["paths"], json!(["messages[0].content", "messages[1].content"]));
    let id = incident["id"].as_str().expect("an id");
    let shown = gateway.cli(&["incident", "show", id]).await;
    let shown = String::from_utf8(shown.stdout).expect("UTF-8");
    assert!(shown.contains("credit_card_visa × 4") && !shown.contains(&card()), "{shown}");
}

#[tokio::test]
async fn a_refusal_names_its_incident() {
    let (_engine, gateway) = single_under(json!({"base": "cloud"})).await;
    let answer = gateway.client().post("/v1/chat/completions", &saying("m", &token())).await;
    let id = answer.json()["error"]["incident_id"].clone();
    let found = listed(&gateway, 1).await;
    assert_eq!((&found[0]["id"], &found[0]["action"]), (&id, &json!("block")));
    let lines = gateway.logs().accesses_reach(1).await;
    assert_eq!((&lines[0]["incident"], &lines[0]["outcome"]), (&id, &json!("blocked")));
    let labels = [("action", "block"), ("direction", "prompt"), ("category", "gitlab-pat")];
    gateway.metric("synapse_dlp_findings_total", &labels, |count| count == 1.0).await;
}

#[tokio::test]
async fn incidents_are_exported_for_programs_and_for_spreadsheets() {
    let (_engine, gateway) = single().await;
    for _ in 0..3 {
        gateway.client().post("/v1/chat/completions", &saying("m", &card())).await;
    }
    listed(&gateway, 3).await;
    let export = async |args: &[&str]| {
        let out = gateway.cli(&[&["incident", "export"], args].concat()).await;
        String::from_utf8(out.stdout).expect("UTF-8")
    };
    let lines = export(&[]).await;
    assert_eq!(lines.lines().count(), 3);
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    let table = export(&["--format", "csv", "--team", "default", "--since", "1h"]).await;
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.starts_with("id,at,request,"), "{table}");
    assert_eq!(export(&["--category", "us_ssn"]).await, "");
}

#[tokio::test]
async fn incidents_of_the_last_moment_are_stored_before_the_gateway_ends() {
    let (_engine, mut gateway) = single().await;
    for _ in 0..20 {
        gateway.client().post("/v1/chat/completions", &saying("m", &card())).await;
    }
    gateway.terminate();
    assert!(gateway.ended().await.success());
    assert_eq!(gateway.cli_json(&["incident", "list"]).await.as_array().map(Vec::len), Some(20));
}

#[tokio::test]
async fn no_value_is_written_anywhere() {
    let engine = synapse_testkit::Engine::serving("one", "m").await;
    let config = under(json!({"base": "cloud"}), Config::with(&[&engine])).set("/logs/level", "trace");
    let gateway = gateway(&config).await;
    let canary = ["zanzibar", "quokka"].concat();
    for text in [format!("{canary} {}", card()), format!("{canary} {}", token())] {
        for path in ["/v1/chat/completions", "/v1/responses", "/v1/nothing"] {
            gateway.client().post(path, &saying("m", &text)).await;
            gateway.client_with(&token()).post(path, &saying("m", &text)).await;
        }
    }
    listed(&gateway, 2).await;
    let metrics = gateway.metrics().await;
    assert!(metrics.sum("synapse_dlp_findings_total", &[]) > 0.0);
    let logs = gateway.logs().lines().join("\n");
    let database = std::fs::read(gateway.folder().join("data/synapse.db")).expect("the database");
    let journal = std::fs::read(gateway.folder().join("data/synapse.db-wal")).unwrap_or_default();
    for secret in [card(), token(), canary] {
        assert!(!logs.contains(&secret), "in the logs");
        for bytes in [&database, &journal] {
            assert!(
                !bytes.windows(secret.len()).any(|window| window == secret.as_bytes()),
                "in the database"
            );
        }
    }
}
