//! How a worker finds its gateways, and comes back to them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use synapse_testkit::within;
use synapse_tunnel::{
    gateway::{End, HubOptions},
    message::{NEWER_VERSION, Notice},
    protocol::{Close, code},
    worker::Outdated,
};

use crate::kit::{Gateway, Worker, credential, echo, gateway, options, post, read};

#[tokio::test]
async fn a_worker_with_several_gateways_has_a_session_with_each() {
    let first = Gateway::start(HubOptions::new("first", "1"), credential()).await;
    let second = Gateway::start(HubOptions::new("second", "1"), credential()).await;
    let worker = Worker::start("gpu-1", &[&first.url(), &second.url()], echo());
    for gateway in [&first, &second] {
        let session = gateway.session("gpu-1").await;
        assert_eq!(read(session.send(post("/", "x")).await.expect("a reply")).await, "x");
    }
    worker.stop();
    worker.ended().await;
    assert_eq!((first.end().await, second.end().await), (End::Left, End::Left));
}

#[tokio::test]
async fn two_addresses_of_one_gateway_make_one_session() {
    let gateway = gateway().await;
    let _worker = Worker::start("gpu-1", &[&gateway.url(), &gateway.url()], echo());
    let end = gateway.end().await;
    let End::Refused(close) = end else { panic!("the second connection should go: {end:?}") };
    assert_eq!(close.code, synapse_tunnel::protocol::code::DUPLICATE);
    let session = gateway.session("gpu-1").await;
    assert!(session.is_open());
    assert_eq!(session.epoch(), 1, "the second was never let in");
}

#[tokio::test]
async fn a_worker_comes_back_after_its_session_was_closed() {
    let gateway = gateway().await;
    let _worker = Worker::start("gpu-1", &[&gateway.url()], echo());
    let first = gateway.session("gpu-1").await;
    first.close(synapse_tunnel::protocol::Close::new(1001, "the gateway is going down"));
    let second = gateway.until("gpu-1", |session| session.epoch() > first.epoch()).await;
    assert_eq!(second.instance(), first.instance());
}

#[tokio::test]
async fn a_worker_knows_which_gateway_has_something_newer_and_when_it_has_not_any_more() {
    let sums = BTreeMap::from([("linux-x86_64".to_owned(), "ab".to_owned())]);
    let newer = Notice { sha256: sums.clone(), ..Notice::new(NEWER_VERSION, "there is something newer") };
    let is_newer = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&is_newer);
    let mut usual = HubOptions::new("first", "2");
    usual.notices = Box::new(move |_| if told.load(Relaxed) { vec![newer.clone()] } else { Vec::new() });
    let (first, second) = (Gateway::start(usual, credential()).await, gateway().await);
    let options = options("gpu-1", &[&first.url(), &second.url()]);
    let server = options.servers[0].clone();
    let mut outdated = options.outdated.subscribe();
    let _worker = Worker::start_with(options, echo());
    second.session("gpu-1").await;
    let heard = within("a word", outdated.wait_for(Option::is_some)).await.expect("it lives").clone();
    assert_eq!(heard, Some(Outdated { server: server.clone(), is_let_in: true, sha256: sums }));

    // What somebody else says does not touch it, nor another word.
    let known = first.session("gpu-1").await;
    second.session("gpu-1").await.close(Close::new(code::GOING_AWAY, "gone"));
    second.until("gpu-1", |session| session.epoch() > 1).await;
    known.notify(Notice::new("weather", "rain"));
    is_newer.store(false, Relaxed);
    assert!(outdated.borrow().is_some());
    known.close(Close::new(code::GOING_AWAY, "gone"));
    within("the all-clear", outdated.wait_for(Option::is_none)).await.expect("it lives");

    first.session("gpu-1").await.close(Close::new(code::VERSION, "no common version"));
    let heard = within("a word", outdated.wait_for(Option::is_some)).await.expect("it lives").clone();
    assert_eq!(heard, Some(Outdated { server, is_let_in: false, sha256: BTreeMap::new() }));
}

#[tokio::test]
async fn a_worker_that_is_not_let_in_can_still_be_stopped() {
    let gateway = gateway().await;
    let stranger = options("gpu-1", &[&gateway.url()]);
    let worker = Worker::start_with(
        synapse_tunnel::worker::WorkerOptions { key: "another key".into(), ..stranger },
        echo(),
    );
    worker.stop();
    worker.ended().await;
    assert!(gateway.hub.sessions().is_empty());
}
