//! Changes of the configuration while the gateway runs.

use serde_json::json;
use synapse_testkit::{Config, Engine, Gateway};
use tokio::task::JoinSet;

use crate::{
    load::Load,
    start::{code, gateway, pair, setup, single},
};

const DONE: &str = "synapse_config_reloads_total";

/// Waits for so many reloads with this result.
pub(crate) async fn reloads(gateway: &Gateway, result: &str, count: f64) {
    gateway.metric(DONE, &[("result", result)], |so_far| so_far >= count).await;
}

#[tokio::test]
async fn a_valid_change_comes_into_force() {
    let (engine, gateway) = single().await;
    let places = [json!({"backend": "one", "model": "m"})];
    gateway.reconfigure(&Config::with(&[&engine]).model("another-name", &places));
    reloads(&gateway, "success", 1.0).await;
    assert_eq!(gateway.client().chat("another-name").await.status, 200);
    assert_eq!(gateway.client().chat("m").await.status, 200, "what discovery knows is kept");
}

#[tokio::test]
async fn an_invalid_change_is_refused_whole_and_said() {
    let (engine, gateway) = single().await;
    let places = [json!({"backend": "one", "model": "m"})];
    let wrong = Config::with(&[&engine]).model("new", &places).set("/routing/retrys", 1);
    gateway.reconfigure(&wrong);
    let line = gateway.logs().line("the changed configuration is refused").await;
    assert!(line.contains("retrys") && line.contains("retries"), "{line}");
    reloads(&gateway, "failure", 1.0).await;
    assert_eq!(code(&gateway.client().chat("new").await), (404, "model_not_found".to_owned()));
    assert_eq!(gateway.client().chat("m").await.status, 200);
    // The next valid one is taken.
    gateway.reconfigure(&Config::with(&[&engine]).model("new", &places));
    reloads(&gateway, "success", 1.0).await;
    assert_eq!(gateway.client().chat("new").await.status, 200);
}

#[tokio::test]
async fn a_change_that_cannot_be_set_up_changes_nothing() {
    let (engine, gateway) = single().await;
    let broken = Config::with(&[&engine])
        .backend_at("tls", "openai", "https://localhost:1")
        .set("/backends/1/ca_file", "missing.pem")
        .set("/logs/level", "off");
    gateway.reconfigure(&broken);
    gateway.logs().line("the changed configuration is refused").await;
    assert_eq!(gateway.client().chat("m").await.status, 200);
    // The level, too, is the old one: this request is still logged.
    gateway.logs().accesses_reach(1).await;
}

#[tokio::test]
async fn a_key_that_leaves_the_file_is_refused() {
    let (engine, gateway) = single().await;
    let client = gateway.client();
    assert_eq!(client.chat("m").await.status, 200);
    gateway.reconfigure(&Config::with(&[&engine]).set("/auth/static_keys/0/secret", "sk-another"));
    gateway.until("the old key's end", async || (client.chat("m").await.status == 403).then_some(())).await;
    assert_eq!(gateway.client_with("sk-another").chat("m").await.status, 200);
}

#[tokio::test]
async fn a_file_that_the_configuration_refers_to_is_read_again_when_it_changes() {
    let engine = Engine::serving("one", "m").await;
    let setup = setup();
    let mounted = |version: &str, secret: &str| {
        std::fs::create_dir(setup.folder().join(version)).expect("a folder");
        std::fs::write(setup.folder().join(version).join("key"), secret).expect("a file");
    };
    mounted("v1", "sk-first");
    mounted("v2", "sk-second");
    // As Kubernetes mounts secrets: the link in the middle is what changes.
    let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, setup.folder().join(at)).expect("a link");
    link("v1", "current");
    link("current/key", "key");
    link("v2", "next");
    let config = Config::with(&[&engine]).set("/auth/static_keys/0/secret", "file:key");
    let gateway = setup.start(&config).await;
    assert_eq!(gateway.client_with("sk-first").chat("m").await.status, 200);
    let at = |name: &str| gateway.folder().join(name);
    std::fs::rename(at("next"), at("current")).expect("the link is replaced");
    reloads(&gateway, "success", 1.0).await;
    assert_eq!(gateway.client_with("sk-second").chat("m").await.status, 200);
    // One that goes away is refused as an invalid configuration is, and may come back.
    std::fs::remove_file(at("key")).expect("the link is removed");
    reloads(&gateway, "failure", 1.0).await;
    assert_eq!(gateway.client_with("sk-second").chat("m").await.status, 200);
    std::fs::write(at("key"), "sk-third").expect("a file");
    reloads(&gateway, "success", 2.0).await;
    assert_eq!(gateway.client_with("sk-third").chat("m").await.status, 200);
}

#[tokio::test]
async fn a_stream_goes_on_while_its_backend_leaves_the_configuration() {
    let (first, second, gateway) = pair().await;
    first.set(first.behaviour().interrupted(4, synapse_simulator::InterruptionKind::Stall));
    let mut stream = gateway.client().open("m").await;
    stream.until("content").await;
    gateway.reconfigure(&Config::in_order("m", &[&second]));
    reloads(&gateway, "success", 1.0).await;
    assert_eq!(gateway.client().chat("m").await.header("x-synapse-backend"), "second");
    first.update(|behaviour| behaviour.interruption = None);
    assert!(stream.finish().await.is_done());
}

#[tokio::test]
async fn whoever_waits_for_a_backend_that_changes_is_served_by_it() {
    let config = |engine: &Engine| Config::with(&[engine]).set("/backends/0/max_in_flight", 1);
    let engine = Engine::serving("one", "m").await.that(|behaviour| behaviour.hang_before_head = true);
    let gateway = gateway(&config(&engine)).await;
    let mut asked = JoinSet::new();
    for waiting in [0.0, 1.0] {
        let client = gateway.client();
        asked.spawn(async move { client.chat("m").await });
        engine.until(|counters| counters.received == 1).await;
        gateway.metric("synapse_queue_waiting", &[], |length| length == waiting).await;
    }
    gateway.reconfigure(&config(&engine).set("/backends/0/timeouts", json!({"idle_s": 30})));
    reloads(&gateway, "success", 1.0).await;
    engine.update(|behaviour| behaviour.hang_before_head = false);
    for answer in asked.join_all().await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// Changes the configuration this many times under load; how many requests failed, and of how many.
pub(crate) async fn reload_under_load(gateway: &Gateway, engines: &[&Engine], times: u32) -> (u64, u64) {
    let load = Load::mixed(gateway, 4);
    for round in 1..=times {
        // The second backend comes and goes, the timeouts make the first a new one.
        let present = if round % 2 == 0 { engines } else { &engines[..1] };
        let config = Config::with(present).set("/backends/0/timeouts", json!({"idle_s": 30 + round}));
        gateway.reconfigure(&config);
        reloads(gateway, "success", f64::from(round)).await;
        load.serves(8).await;
    }
    load.stop().await
}

#[tokio::test]
async fn reloads_under_load_cost_no_request() {
    let (first, second) = (Engine::serving("first", "m").await, Engine::serving("second", "m").await);
    let gateway = gateway(&Config::with(&[&first, &second])).await;
    let (failed, served) = reload_under_load(&gateway, &[&first, &second], 10).await;
    assert_eq!(failed, 0, "of {served}");
}
