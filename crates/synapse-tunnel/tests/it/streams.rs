//! Many calls at once, and calls that stall.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Response;
use http_body_util::{BodyExt, Full};
use sha2::{Digest, Sha256};
use synapse_testkit::within;
use synapse_tunnel::gateway::Session;
use tokio::sync::Semaphore;

use crate::kit::{Serves, Worker, echo, gateway, post, read};

/// Bytes that look random and are the same each time.
fn noise(seed: u64, len: usize) -> Bytes {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

async fn comes_back_whole(session: &Session, seed: u64, len: usize) {
    let body = noise(seed, len);
    let want = Sha256::digest(&body);
    let reply = session.send(post("/v1/embeddings", body)).await.expect("a reply");
    assert_eq!(Sha256::digest(read(reply).await), want, "call {seed} of {len} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_bodies_at_once_come_through_whole_both_ways() {
    let gateway = gateway().await;
    let _worker = Worker::start("gpu-1", &[&gateway.url()], echo());
    let session = gateway.session("gpu-1").await;
    let len = |n: u64| ((n * 7919) % 400_000) as usize;
    join_all((0..200).map(|n| comes_back_whole(&session, n, len(n)))).await;
    assert_eq!(session.in_flight(), 0);
}

const MEBIBYTE: usize = 1024 * 1024;

#[tokio::test]
async fn callers_who_do_not_read_stop_nobody_else() {
    let gateway = gateway().await;
    let _worker = Worker::start("gpu-1", &[&gateway.url()], echo());
    let session = gateway.session("gpu-1").await;
    let stalled = join_all((0..64).map(|n| session.send(post("/", noise(n, MEBIBYTE))))).await;
    let stalled: Vec<_> = stalled.into_iter().map(|reply| reply.expect("a head")).collect();
    join_all((100..110).map(|n| comes_back_whole(&session, n, MEBIBYTE))).await;
    assert_eq!(session.in_flight(), 64);
    // They have lost nothing.
    for (n, reply) in (0..).zip(stalled) {
        assert_eq!(Sha256::digest(read(reply).await), Sha256::digest(noise(n, MEBIBYTE)));
    }
}

#[tokio::test]
async fn an_engine_that_does_not_read_stops_nobody_else() {
    let gateway = gateway().await;
    let go = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&go);
    let service = Serves(move |request: http::Request<hyper::body::Incoming>, _| {
        let gate = Arc::clone(&gate);
        async move {
            if request.uri().path() == "/stalls" {
                drop(gate.acquire().await.expect("open"));
            }
            let body =
                request.into_body().collect().await.map_err(|error| synapse_tunnel::worker::Failure {
                    at: synapse_tunnel::worker::FailedAt::Head,
                    detail: error.into(),
                })?;
            Ok(Response::new(Full::new(body.to_bytes()).map_err(|never| match never {}).boxed_unsync()))
        }
    });
    let _worker = Worker::start("gpu-1", &[&gateway.url()], service);
    let session = gateway.session("gpu-1").await;
    let stalled = join_all((0..64).map(|n| session.send(post("/stalls", noise(n, MEBIBYTE)))));
    let others = async {
        join_all((100..110).map(|n| comes_back_whole(&session, n, MEBIBYTE))).await;
        go.add_permits(64);
    };
    let (stalled, ()) = within("all of them", async { tokio::join!(stalled, others) }).await;
    for (n, reply) in (0..).zip(stalled) {
        let body = read(reply.expect("a reply")).await;
        assert_eq!(Sha256::digest(body), Sha256::digest(noise(n, MEBIBYTE)));
    }
}
