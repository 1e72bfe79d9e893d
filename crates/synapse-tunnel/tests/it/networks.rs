//! Networks that misbehave.

use std::time::Duration;

use http_body_util::BodyExt;
use synapse_testkit::{Passing, Relay, within};
use synapse_tunnel::{
    gateway::{End, HubOptions},
    protocol::Liveness,
};

use crate::kit::{Gateway, Worker, credential, echo, gateway, options, post, read};

/// Impatient enough for a test.
const IMPATIENT: Liveness =
    Liveness { ask_after: Duration::from_millis(100), patience: Duration::from_millis(200) };

async fn through(gateway: &Gateway) -> (Relay, Worker) {
    let relay = Relay::to(gateway.address).await;
    let mut options = options("gpu-1", &[&format!("ws://{}/ws", relay.address())]);
    options.liveness = IMPATIENT;
    (relay, Worker::start_with(options, echo()))
}

#[tokio::test]
async fn a_black_hole_is_noticed_and_the_worker_is_back_when_it_ends() {
    let mut options = HubOptions::new("replica", "1.2.3");
    options.liveness = IMPATIENT;
    let gateway = Gateway::start(options, credential()).await;
    let (relay, _worker) = through(&gateway).await;
    let session = gateway.session("gpu-1").await;
    // Both sides are idle, and know only by asking.
    relay.pass(Passing::Nothing);
    let unanswered = within("the call to break", session.send(post("/", "x"))).await;
    assert!(unanswered.is_err());
    within("the session to end", session.ended()).await;
    assert_eq!(gateway.end().await, End::Lost);
    relay.pass(Passing::On);
    let again = gateway.until("gpu-1", |next| next.epoch() > session.epoch()).await;
    assert_eq!(read(again.send(post("/", "x")).await.expect("a reply")).await, "x");
    assert_eq!(gateway.hub.sessions().len(), 1);
}

#[tokio::test]
async fn a_cut_connection_breaks_its_calls_and_is_made_again() {
    let gateway = gateway().await;
    let (relay, _worker) = through(&gateway).await;
    let session = gateway.session("gpu-1").await;
    // More than the windows hold, so that the call is under way when the line is cut.
    let reply = session.send(post("/", vec![7; 8 * 1024 * 1024])).await.expect("a head");
    relay.cut();
    assert!(within("the body to break", reply.into_body().collect()).await.is_err());
    let again = gateway.until("gpu-1", |next| next.epoch() > session.epoch()).await;
    assert_eq!(read(again.send(post("/", "x")).await.expect("a reply")).await, "x");
}

#[tokio::test]
async fn bytes_that_come_one_by_one_or_late_are_the_same_bytes() {
    let gateway = gateway().await;
    let (relay, _worker) = through(&gateway).await;
    let session = gateway.session("gpu-1").await;
    for passing in [Passing::Bytes, Passing::After(Duration::from_millis(20))] {
        relay.pass(passing);
        let body: Vec<u8> = (0..20_000u32).map(|n| n as u8).collect();
        let reply = session.send(post("/", body.clone())).await.expect("a reply");
        assert!(read(reply).await == body, "{passing:?}");
    }
}
