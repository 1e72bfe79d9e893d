//! Sessions: who is in, who takes whose place, and how they end.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use http_body_util::BodyExt;
use synapse_testkit::within;
use synapse_tunnel::{
    gateway::{End, FailedAt, HubOptions, Session},
    message::Health,
    protocol::{Close, code},
};

use crate::kit::{Gateway, Worker, credential, echo, gateway, piped, post, read, well};

#[tokio::test]
async fn what_a_worker_reports_is_known_at_the_gateway() {
    let gateway = gateway().await;
    let worker = Worker::start("gpu-1", &[&gateway.url()], echo());
    gateway.session("gpu-1").await;
    worker.status.send_replace(Arc::new(well(&["a", "b"])));
    let session = gateway.until("gpu-1", |session| session.status().models.len() == 2).await;
    worker.status.send_modify(|status| Arc::make_mut(status).health = Health::Down);
    gateway.until("gpu-1", |session| !session.is_routable()).await;
    assert!(session.is_open());
}

#[tokio::test]
async fn an_older_session_gives_way_to_a_newer_one_of_the_same_name() {
    let gateway = gateway().await;
    let older = Worker::start("gpu-1", &[&gateway.url()], echo());
    let first = gateway.session("gpu-1").await;
    let _newer = Worker::start("gpu-1", &[&gateway.url()], echo());
    let second = gateway.until("gpu-1", |session| session.epoch() > first.epoch()).await;
    within("the older to end", first.ended()).await;
    let why = Close::new(code::SUPERSEDED, "another worker has connected under the same name");
    assert_eq!(first.end(), Some(&End::Closed(why)));
    // The end of the older session comes after the beginning of the newer, and takes nothing from it.
    assert_eq!(gateway.end().await, first.end().cloned().expect("an end"));
    assert_eq!(gateway.hub.sessions().len(), 1);
    assert_eq!(read(second.send(post("/", "x")).await.expect("a reply")).await, "x");
    drop(older);
}

#[tokio::test]
async fn workers_of_different_names_are_in_side_by_side() {
    let gateway = gateway().await;
    let _workers = ["b", "a"].map(|name| Worker::start(name, &[&gateway.url()], echo()));
    gateway.session("a").await;
    gateway.session("b").await;
    let names: Vec<_> = gateway.hub.sessions().iter().map(|session| session.identity().to_string()).collect();
    assert_eq!(names, ["lab/a", "lab/b"]);
}

#[tokio::test]
async fn a_worker_that_comes_and_goes_is_routable_once_it_holds() {
    let mut options = HubOptions::new("replica", "1.2.3");
    options.settle = std::time::Duration::from_millis(50);
    let gateway = Gateway::start(options, credential()).await;
    for _ in 0..2 {
        let worker = Worker::start("gpu-1", &[&gateway.url()], echo());
        gateway.session("gpu-1").await;
        drop(worker);
        gateway.empty().await;
    }
    let _worker = Worker::start("gpu-1", &[&gateway.url()], echo());
    let third = gateway.until("gpu-1", |session| session.epoch() == 3).await;
    gateway.until("gpu-1", Session::is_routable).await;
    assert!(third.is_routable());
    assert_eq!(gateway.hub.counters().flapping.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_revoked_key_ends_the_sessions_that_came_with_it() {
    let gateway = gateway().await;
    let (_reply, service) = piped();
    let _worker = Worker::start("gpu-1", &[&gateway.url()], service);
    let session = gateway.session("gpu-1").await;
    let reply = session.send(post("/", "x")).await.expect("a head");
    assert_eq!(gateway.hub.revoke(|credential| credential.key.as_str() == "another"), 0);
    assert_eq!(gateway.hub.revoke(|credential| credential.key.as_str() == "k"), 1);
    assert!(within("the body to break", reply.into_body().collect()).await.is_err());
    gateway.empty().await;
    let why = Close::new(code::REVOKED, "the worker's key is not valid any more");
    assert_eq!(gateway.end().await, End::Closed(why));
}

#[tokio::test]
async fn a_key_that_is_revoked_during_the_handshake_does_not_get_in() {
    let mut options = HubOptions::new("replica", "1.2.3");
    options.is_valid = Box::new(|_| false);
    let gateway = Gateway::start(options, credential()).await;
    let _worker = Worker::start("gpu-1", &[&gateway.url()], echo());
    let why = Close::new(code::REVOKED, "the worker's key is not valid any more");
    assert_eq!(gateway.end().await, End::Refused(why));
    assert!(gateway.hub.sessions().is_empty());
}

#[tokio::test]
async fn the_death_of_a_worker_breaks_its_calls() {
    let gateway = gateway().await;
    let (reply, service) = piped();
    let worker = Worker::start("gpu-1", &[&gateway.url()], service);
    let session = gateway.session("gpu-1").await;
    let mut body = session.send(post("/", "x")).await.expect("a head").into_body();
    reply.send(Ok(Bytes::from_static(b"token"))).await.expect("it listens");
    let first = within("a token", body.frame()).await.expect("a frame").expect("unbroken");
    assert_eq!(first.into_data().expect("data"), "token");
    let waiting = {
        let session = session.clone();
        async move { session.send(post("/", "y")).await.map(drop).map_err(|error| error.at) }
    };
    let (waited, ()) = tokio::join!(within("an error", waiting), async {
        drop(worker);
        let broken = within("the body to break", body.frame()).await.expect("not a clean end");
        assert!(broken.is_err());
    });
    // Whether the second call has reached the worker before it died, nobody can know.
    assert!(matches!(waited, Err(FailedAt::Head | FailedAt::Connect) | Ok(())), "{waited:?}");
    gateway.empty().await;
    let after = session.send(post("/", "z")).await.expect_err("nobody is there");
    assert_eq!(after.at, FailedAt::Connect);
}

#[tokio::test]
async fn a_worker_that_stops_finishes_what_it_has_begun_and_takes_nothing_new() {
    let gateway = gateway().await;
    let (reply, service) = piped();
    let worker = Worker::start("gpu-1", &[&gateway.url()], service);
    let session = gateway.session("gpu-1").await;
    let begun = session.send(post("/", "x")).await.expect("a head");
    worker.stop();
    gateway.until("gpu-1", |session| session.status().draining).await;
    assert!(session.is_open() && !session.is_routable());
    for part in ["to", "ken"] {
        reply.send(Ok(part.into())).await.expect("it listens");
    }
    drop(reply);
    assert_eq!(read(begun).await, "token");
    worker.ended().await;
    assert_eq!(gateway.end().await, End::Left);
    assert!(gateway.hub.sessions().is_empty());
}

#[tokio::test]
async fn a_gateway_that_drains_lets_calls_end_and_then_closes() {
    let gateway = gateway().await;
    let (reply, service) = piped();
    let _worker = Worker::start("gpu-1", &[&gateway.url()], service);
    let session = gateway.session("gpu-1").await;
    let begun = session.send(post("/", "x")).await.expect("a head");
    let draining = gateway.hub.drain();
    let rest = async {
        reply.send(Ok("token".into())).await.expect("it listens");
        drop(reply);
        assert_eq!(read(begun).await, "token");
    };
    within("the hub to drain", async { tokio::join!(draining, rest) }).await;
    assert!(!session.is_routable());
    assert_eq!(gateway.end().await, End::Closed(Close::new(code::GOING_AWAY, "the gateway is going down")));
}

#[tokio::test]
async fn a_session_ends_with_whoever_serves_it() {
    let gateway = gateway().await;
    let (_reply, service) = piped();
    let _worker = Worker::start("gpu-1", &[&gateway.url()], service);
    let session = gateway.session("gpu-1").await;
    let reply = session.send(post("/", "x")).await.expect("a head");
    let hub = Arc::clone(&gateway.hub);
    drop(gateway);
    within("the session to end", session.ended()).await;
    assert!(within("the body to break", reply.into_body().collect()).await.is_err());
    assert!(hub.sessions().is_empty());
}
