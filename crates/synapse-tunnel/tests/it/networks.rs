//! Networks that misbehave.

use std::{net::SocketAddr, time::Duration};

use http_body_util::BodyExt;
use synapse_testkit::{Authority, Passing, Relay, within};
use synapse_tunnel::{
    gateway::{End, HubOptions},
    protocol::Liveness,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
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
async fn a_worker_gives_up_a_gateway_that_falls_silent_by_itself() {
    let gateway = gateway().await;
    let (relay, _worker) = through(&gateway).await;
    gateway.session("gpu-1").await;
    relay.pass(Passing::Nothing);
    let dials = |sent: &[u8]| String::from_utf8_lossy(sent).matches("GET /ws ").count();
    relay.until_sent("a second dial into the black hole", |sent| dials(sent) == 2).await;
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

/// A proxy that takes off TLS, as one in front of a gateway does.
async fn tls_proxy(authority: &Authority, target: SocketAddr) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let acceptor = authority.acceptor();
    let mut proxying = JoinSet::new();
    proxying.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((near, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let Ok(mut near) = acceptor.accept(near).await else { return };
                let mut far = TcpStream::connect(target).await.expect("the gateway");
                let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (address, proxying)
}

#[tokio::test]
async fn a_worker_comes_by_tls_to_a_gateway_whose_certificate_it_trusts_and_to_no_other() {
    let gateway = gateway().await;
    let authority = Authority::new();
    let (address, _proxying) = tls_proxy(&authority, gateway.address).await;
    let url = format!("wss://localhost:{}/ws", address.port());
    // It trusts nobody.
    let _distrusting = Worker::start("distrusting", &[&url], echo());
    let mut trusting = options("trusting", &[&url]);
    trusting.tls = authority.client_config(&[b"http/1.1"]);
    let _trusting = Worker::start_with(trusting, echo());
    let session = gateway.session("trusting").await;
    assert_eq!(read(session.send(post("/", "x")).await.expect("a reply")).await, "x");
    assert_eq!(gateway.hub.sessions().len(), 1);
}
