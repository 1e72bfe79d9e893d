//! Callers who leave: their work is cancelled at the engine, whatever stage it is at.

use std::time::Duration;

use serde_json::json;
use synapse_testkit::{Engine, Gateway};
use tokio::task::JoinSet;

use crate::start::{saying, single};

const CALLERS: u64 = 33;

/// The stage at which callers leave.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// While they wait for the head of a stream.
    BeforeHead,
    /// While they wait for a plain reply.
    Plain,
    /// After the first content.
    MidStream,
}

/// Lets callers come to this stage and leave, all at once; returns when the engine knows.
async fn leave(engine: &Engine, gateway: &Gateway, stage: Stage, callers: u64) {
    let before = engine.counters();
    engine.update(|behaviour| {
        behaviour.hang_before_head = stage != Stage::MidStream;
        (behaviour.itl, behaviour.tokens) = (Duration::from_millis(50), 10_000);
    });
    let mut tasks = JoinSet::new();
    let (began, mut begun) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..callers {
        let (client, began) = (gateway.client(), began.clone());
        tasks.spawn(async move {
            match stage {
                Stage::Plain => drop(client.chat("m").await),
                Stage::BeforeHead => drop(client.stream("m").await),
                Stage::MidStream => {
                    let mut stream = client.open("m").await;
                    stream.until("content").await;
                    began.send(()).expect("somebody waits");
                    std::future::pending::<()>().await;
                }
            }
        });
    }
    engine.until(|counters| counters.received == before.received + callers).await;
    if stage == Stage::MidStream {
        for _ in 0..callers {
            begun.recv().await;
        }
    }
    tasks.shutdown().await;
    engine.until(|counters| counters.aborted == before.aborted + callers).await;
}

#[tokio::test]
async fn the_engine_learns_of_every_caller_who_leaves() {
    let (engine, gateway) = single().await;
    for stage in [Stage::BeforeHead, Stage::Plain, Stage::MidStream] {
        leave(&engine, &gateway, stage, CALLERS).await;
    }
    let lines = gateway.logs().accesses_reach(3 * CALLERS as usize).await;
    for line in &lines {
        assert_eq!((&line["outcome"], &line["status"]), (&json!("cancelled"), &json!(499)), "{line}");
    }
    gateway.metric("synapse_requests_in_flight", &[], |open| open == 0.0).await;
    // Leaving says nothing of the engine: its breaker is closed.
    engine.update(|behaviour| (behaviour.hang_before_head, behaviour.tokens) = (false, 4));
    assert_eq!(gateway.client().chat("m").await.status, 200);
}

#[tokio::test]
async fn a_caller_who_half_closes_has_left() {
    let (engine, gateway) = single().await;
    engine.update(|behaviour| behaviour.hang_before_head = true);
    let body = saying("m", "hi").to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
        synapse_testkit::KEY,
        body.len()
    );
    let arrived = async {
        engine.until(|counters| counters.received == 1).await;
    };
    gateway.anonymous().raw_then_half_close(request.as_bytes(), arrived).await;
    engine.until(|counters| counters.aborted == 1).await;
    assert_eq!(gateway.logs().accesses_reach(1).await[0]["outcome"], "cancelled");
}

#[tokio::test]
async fn an_upload_that_is_broken_off_reaches_no_engine() {
    let (engine, gateway) = single().await;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 500\r\n\r\n{{\"model\":",
        synapse_testkit::KEY
    );
    gateway.anonymous().raw_then_half_close(request.as_bytes(), async {}).await;
    let lines = gateway.logs().accesses_reach(1).await;
    assert_eq!(lines[0]["code"], "client_closed_request", "{}", lines[0]);
    assert_eq!(engine.counters().received, 0);
}
