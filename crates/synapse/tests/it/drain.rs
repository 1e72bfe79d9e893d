//! Going down: what has begun is finished, nothing new is taken.

use std::time::Duration;

use hyper::Method;
use serde_json::json;
use synapse_simulator::InterruptionKind;
use synapse_testkit::{Client, Config, Engine, Events, Gateway};

use crate::start::{gateway, single};

/// Streams that have begun and are held in the middle.
async fn held_streams(engine: &Engine, gateway: &Gateway, count: usize) -> Vec<Events> {
    engine.set(engine.behaviour().interrupted(4, InterruptionKind::Stall));
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = gateway.client().open("m").await;
        stream.until("content").await;
        streams.push(stream);
    }
    streams
}

#[tokio::test]
async fn open_streams_reach_their_end_and_the_process_exits_cleanly() {
    let (engine, mut gateway) = single().await;
    let streams = held_streams(&engine, &gateway, 20).await;
    gateway.terminate();
    gateway.logs().line("going down").await;
    engine.update(|behaviour| behaviour.interruption = None);
    for stream in streams {
        assert!(stream.finish().await.is_done());
    }
    assert_eq!(gateway.ended().await.code(), Some(0));
    let lines = gateway.logs().accesses();
    assert_eq!(lines.iter().filter(|line| line["outcome"] == "completed").count(), 20, "{lines:#?}");
}

#[tokio::test]
async fn while_it_goes_down_it_is_not_ready_and_takes_nothing_new() {
    let (engine, gateway) = single().await;
    let streams = held_streams(&engine, &gateway, 1).await;
    let (asking, telling) = (gateway.anonymous(), gateway.client());
    let mut watcher = tokio::task::JoinSet::new();
    // Until the last call is over, whoever asks is told.
    watcher.spawn(async move { (first_unready(&asking).await, refusal(&telling).await) });
    gateway.terminate();
    let (readiness, refused) = watcher.join_next().await.expect("an outcome").expect("no panic");
    assert_eq!(readiness, 503);
    if let Some((status, code, retry_after)) = refused {
        assert_eq!((status, code.as_str()), (503, "shutting_down"));
        assert_ne!(retry_after, "");
    }
    drop(streams);
}

/// The first readiness that is not 200.
async fn first_unready(client: &Client) -> u16 {
    loop {
        let status = client.get("/readyz").await.status;
        if status != 200 {
            return status;
        }
    }
}

/// How a request is refused while that can still be said.
async fn refusal(client: &Client) -> Option<(u16, String, String)> {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let request = client.request(Method::POST, "/v1/chat/completions", body);
    let answer = client.try_send(request).await.ok()?;
    let (status, _, code) = answer.refusal();
    Some((status, code, answer.header("retry-after").to_owned()))
}

#[tokio::test]
async fn streams_that_outlive_the_grace_end_with_an_error_event() {
    let engine = Engine::serving("one", "m").await;
    let mut gateway = gateway(&Config::with(&[&engine]).set("/server/drain_grace_s", 0.3)).await;
    let streams = held_streams(&engine, &gateway, 3).await;
    gateway.terminate();
    for stream in streams {
        let answer = stream.finish().await;
        assert_eq!(
            (answer.broken_by().as_str(), answer.broken),
            ("shutting_down", false),
            "{}",
            answer.text()
        );
    }
    assert_eq!(gateway.ended().await.code(), Some(0));
    let lines = gateway.logs().accesses();
    assert!(lines.len() == 3 && lines.iter().all(|line| line["code"] == "shutting_down"), "{lines:#?}");
}

#[tokio::test]
async fn whoever_still_waits_for_an_engine_when_the_grace_is_over_is_told() {
    let engine = Engine::serving("one", "m").await;
    let mut gateway = gateway(&Config::with(&[&engine]).set("/server/drain_grace_s", 0.3)).await;
    engine.update(|behaviour| behaviour.hang_before_head = true);
    let mut waiting = tokio::task::JoinSet::new();
    let (plain, streamed) = (gateway.client(), gateway.client());
    waiting.spawn(async move { plain.chat("m").await.refusal() });
    waiting.spawn(async move { streamed.stream("m").await.refusal() });
    engine.until(|counters| counters.received == 2).await;
    gateway.terminate();
    while let Some(refused) = waiting.join_next().await {
        let (status, _, code) = refused.expect("an answer");
        assert_eq!((status, code.as_str()), (503, "shutting_down"));
    }
    assert_eq!(gateway.ended().await.code(), Some(0));
    engine.until(|counters| counters.aborted == 2).await;
}

#[tokio::test]
async fn idle_connections_do_not_hold_it_up() {
    let (_engine, mut gateway) = single().await;
    let mut used = gateway.client().connect().await;
    used.ask(gateway.client().request(Method::GET, "/v1/models", "")).await.expect("an answer");
    let mut unused = gateway.client().connect().await;
    gateway.terminate();
    used.closed().await;
    unused.closed().await;
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (engine, mut gateway) = single().await;
    let _streams = held_streams(&engine, &gateway, 1).await;
    gateway.terminate();
    gateway.logs().line("going down").await;
    gateway.terminate();
    let ended = tokio::time::timeout(Duration::from_secs(20), gateway.ended()).await;
    assert_eq!(ended.expect("it ends before its grace is over").code(), Some(1));
}
