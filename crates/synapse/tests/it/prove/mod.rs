//! The promises that come with a figure. The gate runs them small and asserts that nothing is lost;
//! with `SYNAPSE_PROVE=1` they run at full scale, hold the figures to their limits, and write them
//! to docs/proof.md. `make prove` does that with a release build.

mod balance;
mod classes;
mod comings;
mod crossing;
mod crowds;
mod deaths;
mod dlp;
mod exact;
mod figures;
mod fleets;
mod leaving;
mod limits;
mod outages;
mod shutdown;
mod traffic;
mod tunnel;
mod webhooks;

use std::{fs, time::Duration};

use serde_json::json;
use synapse_testkit::{Config, Engine};

use crate::{
    load::Load,
    reload::reload_under_load,
    start::{gateway, setup},
};
use figures::{Figure, at_scale};

#[tokio::test]
async fn an_engine_that_dies_under_load_costs_no_request() {
    let requests = at_scale(5_000, 200);
    let (mut first, second) = (Engine::serving("first", "m").await, Engine::serving("second", "m").await);
    let gateway = gateway(&Config::with(&[&first, &second])).await;
    let load = Load::plain(&gateway, 16);
    load.serves(requests / 2).await;
    first.die().await;
    load.serves(requests / 2).await;
    let (failed, served) = load.stop().await;
    assert!(second.counters().completed > 0);
    Figure {
        key: "1-engine-death",
        test: "an_engine_that_dies_under_load_costs_no_request",
        promise: "One of two engines is killed under load: no request fails",
        measured: failed as f64,
        unit: format!("failed of {served} plain requests by 16 callers"),
        limit: 0.0,
    }
    .hold();
}

#[tokio::test]
async fn reloads_cost_no_request() {
    let reloads = at_scale(100, 3);
    let (first, second) = (Engine::serving("first", "m").await, Engine::serving("second", "m").await);
    let gateway = gateway(&Config::with(&[&first, &second])).await;
    let (failed, served) = reload_under_load(&gateway, &[&first, &second], reloads as u32).await;
    Figure {
        key: "4-reloads",
        test: "reloads_cost_no_request",
        promise: "The configuration is changed under load, backends included: no request fails",
        measured: failed as f64,
        unit: format!("failed of {served} requests, half of them streamed, over {reloads} reloads"),
        limit: 0.0,
    }
    .hold();
}

/// Resident memory of a process in MiB, where the system tells.
fn resident_mib(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

#[tokio::test]
async fn an_idle_gateway_is_small() {
    let engine = Engine::serving("one", "m").await;
    let gateway = gateway(&Config::with(&[&engine])).await;
    assert_eq!(gateway.client().chat("m").await.status, 200);
    let Some(resident) = resident_mib(gateway.pid()) else { return };
    Figure {
        key: "5-memory",
        test: "an_idle_gateway_is_small",
        promise: "Memory of a gateway that has served one request",
        measured: resident,
        unit: "MiB resident".to_owned(),
        limit: 20.0,
    }
    .hold();
}

#[tokio::test]
async fn the_first_answer_comes_soon_after_the_start() {
    let ports = ["--demo", "--port", "0", "--metrics-port", "0"];
    let setup = ports.into_iter().fold(setup().without_discovery(), |setup, arg| setup.arg(arg));
    let began = std::time::Instant::now();
    let gateway = setup.start_bare().await;
    let body = json!({"model": "demo", "max_tokens": 1, "messages": [{"role": "user", "content": "Hello!"}]});
    let answer = gateway.client_with(&gateway.shown_key()).post("/v1/chat/completions", &body).await;
    // The demo's engine thinks for 150 ms, and takes 25 ms for its one token.
    let took = began.elapsed().saturating_sub(std::time::Duration::from_millis(175));
    assert_eq!(answer.status, 200, "{}", answer.text());
    Figure {
        key: "6-start",
        test: "the_first_answer_comes_soon_after_the_start",
        promise: "From the start of `synapse serve --demo` in an empty folder to the first answer",
        measured: took.as_secs_f64() * 1000.0,
        unit: "ms, less the 175 that the demo's engine takes".to_owned(),
        limit: 100.0,
    }
    .hold();
}

#[test]
fn the_binary_is_small() {
    let size = fs::metadata(env!("CARGO_BIN_EXE_synapse")).expect("the binary").len();
    Figure {
        key: "7-size",
        test: "the_binary_is_small",
        promise: "Size of the stripped release binary, which is all there is to install",
        measured: size as f64 / (1024.0 * 1024.0),
        unit: "MiB".to_owned(),
        limit: 40.0,
    }
    .hold();
}

#[tokio::test]
async fn a_revoked_key_is_refused_within_a_second() {
    let engine = Engine::serving("one", "m").await;
    let gateway = gateway(&Config::with(&[&engine])).await;
    gateway.cli_json(&["team", "create", "lab"]).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..at_scale(20, 1) {
        let made = gateway.cli_json(&["key", "create", "--team", "lab", "--model", "*"]).await;
        let client = gateway.client_with(made["key"].as_str().expect("a key"));
        gateway.until("the key", async || (client.chat("m").await.status == 200).then_some(())).await;
        gateway.cli_json(&["key", "revoke", made["id"].as_str().expect("an id")]).await;
        let revoked = std::time::Instant::now();
        gateway.until("its end", async || (client.chat("m").await.status == 403).then_some(())).await;
        slowest = slowest.max(revoked.elapsed());
    }
    Figure {
        key: "8-revocation",
        test: "a_revoked_key_is_refused_within_a_second",
        promise: "A key revoked on the command line is refused by the running gateway",
        measured: slowest.as_secs_f64() * 1000.0,
        unit: "ms (slowest)".to_owned(),
        limit: 1000.0,
    }
    .hold();
}
