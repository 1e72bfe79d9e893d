//! Waiting for a backend that is at its limit: who waits, who is served next, who is refused.

use std::time::Duration;

use serde_json::{Value, json};
use synapse_simulator::Health;
use synapse_testkit::{Answer, Client, Config, Engine, Gateway};
use tokio::task::JoinSet;

use crate::start::{code, gateway, saying};

/// An engine that takes one request at once and answers none yet, and its gateway.
async fn stuck(queue: Value) -> (Engine, Gateway) {
    let engine = Engine::serving("one", "m").await.that(|behaviour| behaviour.hang_before_head = true);
    let config = Config::with(&[&engine]).set("/backends/0/max_in_flight", 1).set("/routing/queue", queue);
    let keys = json!([{"id": "a", "secret": "key-of-a"}, {"id": "b", "secret": "key-of-b"}]);
    let gateway = gateway(&config.set("/auth/static_keys", keys)).await;
    (engine, gateway)
}

fn go_on(engine: &Engine) {
    engine.update(|behaviour| behaviour.hang_before_head = false);
}

/// Callers whose answers are awaited later.
#[derive(Default)]
struct Crowd(JoinSet<(&'static str, Answer)>);

impl Crowd {
    /// Asks, and returns once that many wait in line.
    async fn ask(&mut self, gateway: &Gateway, client: &Client, text: &'static str, waiting: f64) {
        let client = client.clone();
        self.0.spawn(async move { (text, client.post("/v1/chat/completions", &saying("m", text)).await) });
        gateway.metric("synapse_queue_waiting", &[], |length| length == waiting).await;
    }

    /// The first request, which gets the only place.
    async fn enter(&mut self, engine: &Engine, client: &Client, text: &'static str) {
        let client = client.clone();
        self.0.spawn(async move { (text, client.post("/v1/chat/completions", &saying("m", text)).await) });
        engine.until(|counters| counters.received == 1).await;
    }

    async fn next(&mut self) -> (&'static str, Answer) {
        self.0.join_next().await.expect("an answer").expect("no panic")
    }

    async fn all_served(mut self) {
        while let Some(done) = self.0.join_next().await {
            let (text, answer) = done.expect("no panic");
            assert_eq!(answer.status, 200, "{text}: {}", answer.text());
        }
    }
}

/// In which order the engine got to see these texts.
fn order_of(engine: &Engine, texts: &[&'static str]) -> Vec<&'static str> {
    let bodies = engine.requests().into_iter().map(|call| String::from_utf8_lossy(&call.body).into_owned());
    bodies
        .filter_map(|body| texts.iter().copied().find(|text| body.contains(&format!("\"{text}\""))))
        .collect()
}

#[tokio::test]
async fn a_request_waits_for_a_place_and_is_served() {
    let (engine, gateway) = stuck(json!({})).await;
    let client = gateway.client_with("key-of-a");
    let mut crowd = Crowd::default();
    crowd.enter(&engine, &client, "first").await;
    crowd.ask(&gateway, &client, "second", 1.0).await;
    assert_eq!(engine.counters().received, 1, "the engine is spared");
    go_on(&engine);
    crowd.all_served().await;
    gateway.metric("synapse_queue_waiting", &[], |length| length == 0.0).await;
    assert_eq!(gateway.metrics().await.sum("synapse_queue_wait_seconds_count", &[]), 1.0);
}

#[tokio::test]
async fn a_full_line_refuses_at_once() {
    let (engine, gateway) = stuck(json!({"max_waiting": 1})).await;
    let client = gateway.client_with("key-of-a");
    let mut crowd = Crowd::default();
    crowd.enter(&engine, &client, "first").await;
    crowd.ask(&gateway, &client, "second", 1.0).await;
    let refused = client.chat("m").await;
    assert_eq!(code(&refused), (503, "overloaded".to_owned()));
    assert_ne!(refused.header("retry-after"), "");
    assert_eq!(gateway.metrics().await.sum("synapse_shed_total", &[("reason", "queue_full")]), 1.0);
    go_on(&engine);
    crowd.all_served().await;
}

#[tokio::test]
async fn keys_take_turns() {
    let (engine, gateway) = stuck(json!({})).await;
    let (a, b) = (gateway.client_with("key-of-a"), gateway.client_with("key-of-b"));
    let mut crowd = Crowd::default();
    crowd.enter(&engine, &a, "a1").await;
    for (text, waiting) in [("a2", 1.0), ("a3", 2.0), ("a4", 3.0)] {
        crowd.ask(&gateway, &a, text, waiting).await;
    }
    crowd.ask(&gateway, &b, "b1", 4.0).await;
    crowd.ask(&gateway, &b, "b2", 5.0).await;
    go_on(&engine);
    crowd.all_served().await;
    let order = order_of(&engine, &["a1", "a2", "a3", "a4", "b1", "b2"]);
    assert_eq!(order, ["a1", "a2", "b1", "a3", "b2", "a4"]);
}

#[tokio::test]
async fn one_keys_long_line_does_not_keep_another_key_out() {
    let engine =
        Engine::serving("one", "m").await.that(|behaviour| behaviour.ttft = Duration::from_millis(300));
    let config = Config::with(&[&engine]).set("/backends/0/max_in_flight", 1);
    let keys = json!([{"id": "a", "secret": "key-of-a"}, {"id": "b", "secret": "key-of-b"}]);
    let config = config.set("/auth/static_keys", keys).set("/routing/queue", json!({"max_wait_s": 2}));
    let gateway = gateway(&config).await;
    let (a, b) = (gateway.client_with("key-of-a"), gateway.client_with("key-of-b"));
    // From here on it is known how long a request takes.
    assert_eq!(a.chat("m").await.status, 200);
    let mut crowd = Crowd::default();
    engine.update(|behaviour| behaviour.hang_before_head = true);
    crowd.0.spawn({
        let a = a.clone();
        async move { ("a", a.chat("m").await) }
    });
    engine.until(|counters| counters.received == 2).await;
    for waiting in 1..=4 {
        crowd.ask(&gateway, &a, "a", f64::from(waiting)).await;
    }
    assert_eq!(code(&a.chat("m").await).0, 503, "its own next one would have to wait too long");
    crowd.ask(&gateway, &b, "b", 5.0).await;
    go_on(&engine);
    while let Some(done) = crowd.0.join_next().await {
        let (key, answer) = done.expect("no panic");
        assert!(answer.status == 200 || key == "a", "{key}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_full_backend_that_seems_dead_is_not_waited_for() {
    let engine = Engine::serving("one", "m").await.that(|behaviour| behaviour.hang_before_head = true);
    let gateway = gateway(&Config::with(&[&engine]).set("/backends/0/max_in_flight", 1)).await;
    let client = gateway.client();
    let mut crowd = Crowd::default();
    crowd.enter(&engine, &client, "stuck").await;
    engine.update(|behaviour| behaviour.health = Health::Failing);
    gateway.metric("synapse_backend_up", &[], |up| up == 0.0).await;
    // On every core.
    for _ in 0..4 {
        assert_eq!(code(&gateway.client().chat("m").await), (503, "circuit_open".to_owned()));
        assert_eq!(gateway.anonymous().get("/livez").await.status, 200);
    }
    go_on(&engine);
    crowd.all_served().await;
}

#[tokio::test]
async fn those_who_wait_move_on_to_a_backend_that_comes_back() {
    let (busy, away) = (Engine::serving("busy", "m").await, Engine::serving("away", "m").await);
    busy.update(|behaviour| behaviour.hang_before_head = true);
    away.update(|behaviour| behaviour.health = Health::Failing);
    let config = Config::with(&[&busy, &away]).set("/backends/0/max_in_flight", 1);
    let gateway = gateway(&config).await;
    gateway.metric("synapse_backend_up", &[("backend", "away")], |up| up == 0.0).await;
    let client = gateway.client();
    let mut crowd = Crowd::default();
    crowd.enter(&busy, &client, "first").await;
    crowd.ask(&gateway, &client, "second", 1.0).await;
    away.update(|behaviour| behaviour.health = Health::Ready);
    let (text, answer) = crowd.next().await;
    assert_eq!((text, answer.header("x-synapse-backend")), ("second", "away"), "{}", answer.text());
    go_on(&busy);
    crowd.all_served().await;
}

#[tokio::test]
async fn a_key_that_crowds_a_full_line_makes_room_for_another() {
    let (engine, gateway) = stuck(json!({"max_waiting": 2})).await;
    let (a, b) = (gateway.client_with("key-of-a"), gateway.client_with("key-of-b"));
    let mut crowd = Crowd::default();
    crowd.enter(&engine, &a, "a1").await;
    crowd.ask(&gateway, &a, "a2", 1.0).await;
    crowd.ask(&gateway, &a, "a3", 2.0).await;
    crowd.ask(&gateway, &b, "b1", 2.0).await;
    let (text, refused) = crowd.next().await;
    assert_eq!((text, code(&refused)), ("a3", (503, "overloaded".to_owned())), "its newest goes");
    assert_eq!(code(&b.chat("m").await).0, 503, "but nobody gets more than another by that");
    go_on(&engine);
    crowd.all_served().await;
}

#[tokio::test]
async fn whoever_hangs_up_leaves_the_line() {
    let (engine, gateway) = stuck(json!({})).await;
    let client = gateway.client_with("key-of-a");
    let mut crowd = Crowd::default();
    crowd.enter(&engine, &client, "first").await;
    let mut leaver = Crowd::default();
    leaver.ask(&gateway, &client, "second", 1.0).await;
    drop(leaver);
    gateway.metric("synapse_queue_waiting", &[], |length| length == 0.0).await;
    go_on(&engine);
    crowd.all_served().await;
    assert_eq!(order_of(&engine, &["first", "second"]), ["first"]);
    assert_eq!(gateway.client_with("key-of-b").chat("m").await.status, 200, "no place was lost");
}

#[tokio::test]
async fn whoever_has_waited_too_long_is_refused() {
    let (engine, gateway) = stuck(json!({"max_wait_s": 0.1})).await;
    let client = gateway.client_with("key-of-a");
    let mut crowd = Crowd::default();
    crowd.enter(&engine, &client, "first").await;
    assert_eq!(code(&client.chat("m").await), (503, "overloaded".to_owned()));
    assert_eq!(gateway.metrics().await.sum("synapse_shed_total", &[("reason", "timeout")]), 1.0);
    go_on(&engine);
    crowd.all_served().await;
}

#[tokio::test]
async fn bodies_of_those_who_wait_are_bounded_in_memory() {
    let (engine, gateway) = stuck(json!({"max_mb": 1})).await;
    let client = gateway.client_with("key-of-a");
    let mut crowd = Crowd::default();
    crowd.enter(&engine, &client, "first").await;
    let large = client.post("/v1/chat/completions", &saying("m", &"x".repeat(2 << 20))).await;
    assert_eq!(code(&large), (503, "overloaded".to_owned()));
    assert_eq!(gateway.metrics().await.sum("synapse_shed_total", &[("reason", "memory")]), 1.0);
    go_on(&engine);
    crowd.all_served().await;
}

#[tokio::test]
async fn the_first_free_place_at_any_backend_ends_the_wait() {
    let engines = [Engine::serving("one", "m").await, Engine::serving("two", "m").await];
    engines.iter().for_each(|engine| engine.update(|behaviour| behaviour.hang_before_head = true));
    let config = Config::with(&[&engines[0], &engines[1]]);
    let config = config.set("/backends/0/max_in_flight", 1).set("/backends/1/max_in_flight", 1);
    let gateway = gateway(&config).await;
    let client = gateway.client();
    let mut crowd = Crowd::default();
    for _ in 0..2 {
        let client = client.clone();
        crowd.0.spawn(async move { ("early", client.chat("m").await) });
    }
    for engine in &engines {
        engine.until(|counters| counters.received == 1).await;
    }
    // In both lines at once.
    crowd.ask(&gateway, &client, "late", 2.0).await;
    go_on(&engines[1]);
    let (_, one) = crowd.next().await;
    let (_, other) = crowd.next().await;
    assert_eq!([one, other].map(|answer| answer.header("x-synapse-backend").to_owned()), ["two", "two"]);
    go_on(&engines[0]);
    crowd.all_served().await;
}

#[tokio::test]
async fn a_full_order_spills_to_the_next() {
    let (first, second) = (Engine::serving("first", "m").await, Engine::serving("second", "m").await);
    first.update(|behaviour| behaviour.hang_before_head = true);
    let gateway =
        gateway(&Config::in_order("m", &[&first, &second]).set("/backends/0/max_in_flight", 1)).await;
    let client = gateway.client();
    let mut crowd = Crowd::default();
    crowd.enter(&first, &client, "early").await;
    for _ in 0..3 {
        assert_eq!(client.chat("m").await.header("x-synapse-backend"), "second");
    }
    go_on(&first);
    crowd.all_served().await;
}

#[tokio::test]
async fn a_fallback_model_serves_when_there_is_no_place_in_line() {
    let (first, second) = (Engine::serving("first", "m").await, Engine::serving("second", "n").await);
    first.update(|behaviour| behaviour.hang_before_head = true);
    let config = Config::with(&[&first, &second])
        .set("/backends/0/max_in_flight", 1)
        .set("/routing/queue/max_waiting", 0)
        .model("m", &[json!({"backend": "first", "model": "m"})])
        .set("/models/0/fallbacks", json!(["n"]));
    let gateway = gateway(&config).await;
    let client = gateway.client();
    let mut crowd = Crowd::default();
    crowd.enter(&first, &client, "early").await;
    assert_eq!(client.chat("m").await.header("x-synapse-backend"), "second");
    go_on(&first);
    crowd.all_served().await;
}
