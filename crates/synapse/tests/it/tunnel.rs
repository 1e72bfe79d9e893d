//! Engines behind workers: listed, balanced, failed over and cancelled like any other backend, and each
//! group's its own.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use synapse_simulator::InterruptionKind;
use synapse_testkit::{Client, Config, Engine, Gateway, Passing, Relay, Worker};

use crate::start::{self, code, gateway, saying};

/// The key of workers in [`open_to_workers`].
pub(crate) const KEY: &str = "key-of-workers";

/// A configuration in which workers with [`KEY`] belong to the default group.
pub(crate) fn open_to_workers(config: Config) -> Config {
    config.set("/groups", json!([{"name": "default", "ws_auth_keys": [KEY]}]))
}

/// A worker of this name for this engine.
pub(crate) fn worker_with(key: &str, address: SocketAddr, engine: &Engine, name: &str) -> Worker {
    start::worker(address, &engine.url(), name, key)
}

/// A worker with [`KEY`].
pub(crate) fn worker(gateway: &Gateway, engine: &Engine, name: &str) -> Worker {
    worker_with(KEY, gateway.address(), engine, name)
}

/// The models that a caller sees.
pub(crate) async fn listed(client: &Client) -> Vec<String> {
    let list = client.get("/v1/models").await.json();
    let data = list["data"].as_array().expect("a list");
    data.iter().map(|model| model["id"].as_str().expect("an id").to_owned()).collect()
}

/// Waits until a caller sees exactly these models.
pub(crate) async fn until_listed(gateway: &Gateway, client: &Client, models: &[&str]) {
    gateway.until("the models", async || (listed(client).await == models).then_some(())).await;
}

/// A gateway without backends of its own, and an engine `m` behind a worker.
async fn behind_a_worker() -> (Engine, Gateway, Worker) {
    let engine = Engine::serving("far", "m").await;
    let gateway = gateway(&open_to_workers(Config::new())).await;
    let worker = worker(&gateway, &engine, "w");
    until_listed(&gateway, &gateway.client(), &["m"]).await;
    (engine, gateway, worker)
}

#[tokio::test]
async fn an_engine_behind_a_worker_serves_like_any_other() {
    let (engine, gateway, _worker) = behind_a_worker().await;
    let plain = gateway.client().chat("m").await;
    assert_eq!((plain.status, plain.header("x-synapse-backend")), (200, "default/w"), "{}", plain.text());
    let stream = gateway.client().stream("m").await;
    assert!(stream.is_done(), "{}", stream.text());
    assert_eq!(engine.counters().completed, 2);
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("synapse_requests_total", &[("backend", "default/w")]), 2.0);
    assert_eq!(metrics.sum("synapse_backend_up", &[("backend", "default/w")]), 1.0);
    gateway.metric("synapse_workers_connected", &[("group", "default")], |count| count == 1.0).await;
    let health = gateway.anonymous().get("/health").await.json();
    assert_eq!(health["backends"]["default/w"]["status"], "healthy", "{health}");
}

#[tokio::test]
async fn what_a_caller_sends_reaches_the_engine_byte_for_byte_and_without_the_callers_key() {
    let (engine, gateway, _worker) = behind_a_worker().await;
    let body = saying("m", &"äöü \u{1f600} ".repeat(500)).to_string();
    assert_eq!(gateway.client().post_text("/v1/chat/completions", &body).await.status, 200);
    let call = engine.requests().pop().expect("a request");
    assert_eq!(String::from_utf8_lossy(&call.body), body);
    assert!(!call.headers.contains_key("authorization"), "{:?}", call.headers);
}

#[tokio::test]
async fn without_a_workers_key_nobody_comes_in() {
    let gateway = gateway(&open_to_workers(Config::new())).await;
    let address = gateway.address();
    for (sent, code) in [("", "missing_api_key"), ("Bearer wrong", "invalid_api_key")] {
        let asked = Client::to(address).with("authorization", sent).get("/ws").await;
        assert_eq!(crate::start::code(&asked), (401, code.to_owned()), "{sent}");
        assert_ne!(asked.header("www-authenticate"), "");
    }
    let two = Client::to(address)
        .with("authorization", "Bearer wrong")
        .get(&format!("/ws?ws_auth_key={KEY}"))
        .await;
    assert_eq!(code(&two), (401, "conflicting_credentials".to_owned()));
    let by_url = Client::to(address).get("/ws?ws_auth_key=wrong").await;
    assert_eq!(code(&by_url), (401, "invalid_api_key".to_owned()));
    assert_eq!(gateway.client().get("/ws").await.status, 401, "the key of a caller is none of a worker");
    let plain = Client::to(address).with("authorization", &format!("Bearer {KEY}")).get("/ws").await;
    assert_eq!(code(&plain), (426, "upgrade_required".to_owned()));
}

#[tokio::test]
async fn groups_neither_see_nor_reach_each_others_models() {
    let (one, two) = (Engine::serving("one", "shared").await, Engine::serving("two", "shared").await);
    let only = Engine::serving("only", "only-b").await;
    let groups = json!([
        {"name": "a", "ws_auth_keys": ["workers-of-a"], "api_keys": ["key-of-a"]},
        {"name": "b", "ws_auth_keys": ["workers-of-b"], "api_keys": ["key-of-b"]},
    ]);
    let gateway = gateway(&Config::new().set("/groups", groups)).await;
    let address = gateway.address();
    let _workers = [
        worker_with("workers-of-a", address, &one, "w"),
        worker_with("workers-of-b", address, &two, "w"),
        worker_with("workers-of-b", address, &only, "x"),
    ];
    let (a, b) = (gateway.client_with("key-of-a"), gateway.client_with("key-of-b"));
    until_listed(&gateway, &a, &["shared"]).await;
    until_listed(&gateway, &b, &["only-b", "shared"]).await;
    assert_eq!(listed(&gateway.client()).await, Vec::<String>::new(), "the default group has none");
    for _ in 0..5 {
        assert_eq!(a.chat("shared").await.header("x-synapse-backend"), "a/w");
        assert_eq!(b.chat("shared").await.header("x-synapse-backend"), "b/w");
    }
    assert_eq!(code(&a.chat("only-b").await), (404, "model_not_found".to_owned()));
    assert_eq!(code(&gateway.client().chat("shared").await), (404, "model_not_found".to_owned()));
    let body = json!({"model": "shared", "models": ["only-b"], "provider": {"only": ["b/x"]},
        "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(a.post("/v1/chat/completions", &body).await.status, 400, "nor by a wish");
    assert_eq!((only.counters().received, one.counters().received), (0, 5));
}

#[tokio::test]
async fn a_configured_backend_with_a_slash_in_its_name_is_no_worker() {
    let (near, far) = (Engine::serving("eu/near", "n").await, Engine::serving("far", "m").await);
    let gateway = gateway(&open_to_workers(Config::with(&[&near]))).await;
    let worker = worker(&gateway, &far, "w");
    until_listed(&gateway, &gateway.client(), &["m", "n"]).await;
    drop(worker);
    until_listed(&gateway, &gateway.client(), &["n"]).await;
    assert_eq!(gateway.client().chat("n").await.header("x-synapse-backend"), "eu/near");
}

#[tokio::test]
async fn a_model_whose_worker_is_away_is_awaited_in_every_group() {
    let engine = Engine::serving("far", "m").await;
    let groups = json!([{"name": "lab", "ws_auth_keys": ["workers-of-lab"], "api_keys": ["key-of-lab"]}]);
    let gateway = gateway(&Config::new().set("/groups", groups)).await;
    let caller = gateway.client_with("key-of-lab");
    let worker = worker_with("workers-of-lab", gateway.address(), &engine, "w");
    until_listed(&gateway, &caller, &["m"]).await;
    drop(worker);
    until_listed(&gateway, &caller, &[]).await;
    assert_eq!(code(&caller.chat("m").await), (503, "no_backend_available".to_owned()));
    assert_eq!(gateway.client().chat("m").await.status, 404, "for others it does not exist");
}

#[tokio::test]
async fn those_who_wait_for_a_worker_that_leaves_turn_to_another() {
    let engines = [Engine::serving("one", "m").await, Engine::serving("two", "m").await];
    let gateway = gateway(&open_to_workers(Config::new())).await;
    engines[0].update(|behaviour| behaviour.hang_before_head = true);
    let (server, upstream) = (format!("ws://{}/ws", gateway.address()), engines[0].url());
    let flags = ["--server-url", &server, "--upstream", &upstream, "--ws-auth-key", KEY, "--name", "one"];
    let first =
        Worker::start(env!("CARGO_BIN_EXE_synapse"), &[&flags[..], &["--max-in-flight", "1"]].concat());
    until_listed(&gateway, &gateway.client(), &["m"]).await;
    let client = gateway.client();
    let (stuck, waiting, _second) = tokio::join!(
        client.chat("m"),
        async {
            engines[0].until(|counters| counters.received == 1).await;
            client.chat("m").await
        },
        async {
            gateway.metric("synapse_queue_waiting", &[], |length| length == 1.0).await;
            let second = worker(&gateway, &engines[1], "two");
            engines[1].until(|counters| counters.completed == 1).await;
            drop(first);
            second
        }
    );
    assert_eq!((stuck.status, waiting.status), (200, 200), "{} {}", stuck.text(), waiting.text());
}

#[tokio::test]
async fn a_key_that_is_taken_away_ends_the_workers_session() {
    let (_engine, gateway, worker) = behind_a_worker().await;
    gateway.reconfigure(&Config::new());
    until_listed(&gateway, &gateway.client(), &[]).await;
    gateway.metric("synapse_worker_sessions_total", &[("event", "revoked")], |count| count == 1.0).await;
    worker.logs().line("not valid any more").await;
    let answer = gateway.client().chat("m").await;
    assert_eq!(code(&answer), (503, "no_backend_available".to_owned()), "workers come back");
}

#[tokio::test]
async fn a_stored_key_works_until_it_is_revoked() {
    let engine = Engine::serving("far", "m").await;
    let gateway = gateway(&Config::new()).await;
    let made = gateway.cli_json(&["worker-key", "create", "--group", "default"]).await;
    let _worker = worker_with(made["key"].as_str().expect("a key"), gateway.address(), &engine, "w");
    until_listed(&gateway, &gateway.client(), &["m"]).await;
    gateway.cli_json(&["worker-key", "revoke", made["id"].as_str().expect("an id")]).await;
    until_listed(&gateway, &gateway.client(), &[]).await;
}

#[tokio::test]
async fn what_a_dead_worker_had_not_begun_to_answer_is_served_elsewhere() {
    let engines = [Engine::serving("one", "m").await, Engine::serving("two", "m").await];
    let gateway = gateway(&open_to_workers(Config::new())).await;
    let mut workers =
        [Some(worker(&gateway, &engines[0], "one")), Some(worker(&gateway, &engines[1], "two"))];
    for name in ["default/one", "default/two"] {
        gateway.metric("synapse_backend_up", &[("backend", name)], |up| up == 1.0).await;
    }
    engines.iter().for_each(|engine| engine.update(|behaviour| behaviour.hang_before_head = true));
    let client = gateway.client();
    let (answer, asked) = tokio::join!(client.chat("m"), async {
        let asked = gateway
            .until("the request", async || engines.iter().position(|engine| engine.counters().received == 1))
            .await;
        engines[1 - asked].update(|behaviour| behaviour.hang_before_head = false);
        drop(workers[asked].take());
        asked
    });
    let other = ["default/two", "default/one"][asked];
    let served = (answer.status, answer.header("x-synapse-backend"), answer.header("x-synapse-attempts"));
    assert_eq!(served, (200, other, "2"), "{}", answer.text());
}

#[tokio::test]
async fn a_stream_whose_worker_dies_ends_with_one_error_event() {
    let (engine, gateway, worker) = behind_a_worker().await;
    engine.update(|behaviour| *behaviour = behaviour.clone().interrupted(4, InterruptionKind::Stall));
    let mut events = gateway.client().open("m").await;
    events.until("content").await;
    drop(worker);
    let answer = events.finish().await;
    assert!(!answer.is_done() && !answer.broken, "{}", answer.text());
    assert!(answer.broken_by().starts_with("upstream_"), "{}", answer.text());
    assert_eq!(answer.text().matches("\"error\"").count(), 1, "{}", answer.text());
}

#[tokio::test]
async fn a_caller_who_leaves_ends_the_work_behind_the_worker() {
    let (engine, gateway, _worker) = behind_a_worker().await;
    engine.update(|behaviour| *behaviour = behaviour.clone().interrupted(4, InterruptionKind::Stall));
    let mut events = gateway.client().open("m").await;
    events.until("content").await;
    drop(events);
    engine.until(|counters| counters.aborted == 1).await;
}

#[tokio::test]
async fn a_worker_that_is_asked_to_end_finishes_what_it_has_begun() {
    let (engine, gateway, mut worker) = behind_a_worker().await;
    engine.update(|behaviour| behaviour.itl = Duration::from_millis(20));
    let mut events = gateway.client().open("m").await;
    events.until("content").await;
    worker.terminate();
    until_listed(&gateway, &gateway.client(), &[]).await;
    assert!(events.finish().await.is_done());
    assert!(worker.ended().await.success());
}

#[tokio::test]
async fn a_gateway_that_comes_back_finds_its_workers() {
    let (_engine, gateway, _worker) = behind_a_worker().await;
    gateway.reconfigure(&open_to_workers(Config::new()).set("/server/port", gateway.address().port()));
    let gateway = gateway.restart().await;
    until_listed(&gateway, &gateway.client(), &["m"]).await;
    assert_eq!(gateway.client().chat("m").await.status, 200);
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_anew() {
    let engine = Engine::serving("far", "m").await;
    let gateway = gateway(&open_to_workers(Config::new())).await;
    let relay = Relay::to(gateway.address()).await;
    let _worker = worker_with(KEY, relay.address(), &engine, "w");
    until_listed(&gateway, &gateway.client(), &["m"]).await;
    relay.cut();
    let again = |welcomed: f64| welcomed == 2.0;
    gateway.metric("synapse_worker_sessions_total", &[("event", "welcomed")], again).await;
    until_listed(&gateway, &gateway.client(), &["m"]).await;
    assert_eq!(gateway.client().chat("m").await.status, 200);
    relay.pass(Passing::Bytes);
    assert_eq!(gateway.client().chat("m").await.status, 200, "byte by byte");
}

#[tokio::test]
async fn an_engine_that_dies_behind_its_worker_is_down_and_comes_back() {
    let (mut engine, gateway, _worker) = behind_a_worker().await;
    engine.die().await;
    gateway.metric("synapse_backend_up", &[("backend", "default/w")], |up| up == 0.0).await;
    let answer = gateway.client().chat("m").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
}

#[tokio::test]
async fn a_gateway_that_goes_down_lets_streams_of_workers_end() {
    let (engine, mut gateway, _worker) = behind_a_worker().await;
    engine.update(|behaviour| behaviour.itl = Duration::from_millis(20));
    let mut events = gateway.client().open("m").await;
    events.until("content").await;
    gateway.terminate();
    assert!(events.finish().await.is_done());
    assert!(gateway.ended().await.success());
}
