//! How a worker finds its gateways, and comes back to them.

use synapse_tunnel::gateway::{End, HubOptions};

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
