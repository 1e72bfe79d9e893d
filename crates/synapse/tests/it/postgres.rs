//! Gateways and commands on a real PostgreSQL.

use std::process::Command;

use synapse_testkit::{Answer, Client, Config, Engine, Gateway, KEY, Postgres};

use crate::{
    cli::text,
    start::{code, gateway},
};

/// Gateways on one database.
async fn gateways<const N: usize>(engine: &Engine, url: &str) -> [Gateway; N] {
    let config = Config::with(&[engine]).set("/database/url", url);
    let mut gateways = Vec::new();
    for _ in 0..N {
        gateways.push(gateway(&config).await);
    }
    gateways.try_into().unwrap_or_else(|_| unreachable!("as many as were started"))
}

/// A key of a new team, made by the command line.
async fn issue(gateway: &Gateway, url: &str) -> (String, String) {
    gateway.cli_json(&["team", "create", "lab", "--database-url", url]).await;
    let new = ["key", "create", "--team", "lab", "--model", "*", "--database-url", url];
    let made = gateway.cli_json(&new).await;
    (text(&made, "id").to_owned(), text(&made, "key").to_owned())
}

/// Asks until the answer's code is this.
async fn until(gateway: &Gateway, client: &Client, wanted: &str) -> Answer {
    let asked = gateway.until(wanted, async || {
        Some(client.chat("m").await).filter(|answer| match answer.status {
            200 => wanted == "ok",
            _ => code(answer).1 == wanted,
        })
    });
    asked.await
}

#[tokio::test]
async fn gateways_on_one_database_know_the_same_keys() {
    let engine = Engine::serving("one", "m").await;
    let url = Postgres::shared().await.database().await;
    let gateways: [_; 2] = gateways(&engine, &url).await;
    let (id, key) = issue(&gateways[0], &url).await;
    for gateway in &gateways {
        until(gateway, &gateway.client_with(&key), "ok").await;
    }
    gateways[1].cli_json(&["key", "revoke", &id, "--database-url", &url]).await;
    for gateway in &gateways {
        until(gateway, &gateway.client_with(&key), "key_revoked").await;
    }
}

#[tokio::test]
async fn while_the_database_is_away_requests_go_on_and_changes_are_caught_up_with() {
    let engine = Engine::serving("one", "m").await;
    let mut postgres = Postgres::start().await;
    let url = postgres.database().await;
    let [gateway] = gateways(&engine, &url).await;
    let (id, key) = issue(&gateway, &url).await;
    let client = gateway.client_with(&key);
    until(&gateway, &client, "ok").await;
    postgres.die();
    gateway
        .logs()
        .until("the loss to be told", |lines| {
            lines.iter().any(|line| line.contains("the key store cannot be read")).then_some(())
        })
        .await;
    for client in [&client, &gateway.client_with(KEY)] {
        assert_eq!(client.chat("m").await.status, 200);
    }
    postgres.start_again().await;
    gateway.cli_json(&["key", "revoke", &id, "--database-url", &url]).await;
    until(&gateway, &client, "key_revoked").await;
    let password = url.split(['@', ':']).nth(2).expect("a password");
    assert!(gateway.logs().lines().iter().all(|line| !line.contains(password)));
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_explained_without_its_password() {
    let shared = Postgres::shared().await;
    for (url, remedy) in [
        (shared.url("synapse", "swordfish", "postgres"), "correct them in the URL"),
        (shared.url("synapse", "open-sesame", "none"), "create it with `CREATE DATABASE`"),
        ("postgres://synapse:swordfish@127.0.0.1:1/x".to_owned(), "no PostgreSQL answers there"),
        ("postgres://synapse:hun?ter2@127.0.0.1:1/x".to_owned(), "write postgres://user:password@host"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_synapse"))
            .args(["team", "list", "--database-url", &url])
            .output()
            .expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(remedy), "{said}");
        assert!(
            ["swordfish", "open-sesame", "hun", "ter2"].iter().all(|secret| !said.contains(secret)),
            "{said}"
        );
    }
}
