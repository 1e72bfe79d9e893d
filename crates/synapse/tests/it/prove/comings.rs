//! Workers that come to a gateway: hundreds at once after it was away, and those without a good key.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use synapse_testkit::{Client, Config, Engine, Gateway, KEY as CALLERS_KEY, Relay, Worker, within};
use synapse_tunnel::{
    body::BoxBody,
    message::{Health, Model, Status},
    protocol::{Liveness, code},
    worker::{self, Failure, ServerUrl, Service, Terms, WorkerOptions},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use super::{
    figures::{Figure, at_scale},
    traffic::{Traffic, failed, percentile, plain},
};
use crate::{
    start::{self, gateway},
    tunnel::{KEY, open_to_workers},
};

/// An engine that always has the same to say.
struct Ready;

#[async_trait]
impl Service for Ready {
    async fn call(&self, _: Request<Incoming>, _: &Terms) -> Result<Response<BoxBody>, Failure> {
        let message = json!({"role": "assistant", "content": "Yes."});
        let reply = json!({"id": "r", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]});
        let body = Full::from(reply.to_string()).map_err(|never| match never {}).boxed_unsync();
        Ok(Response::builder().header("content-type", "application/json").body(body).expect("a response"))
    }
}

/// A worker in this process. It is what `synapse worker` runs, without a process and an engine of its
/// own, of which this machine could not bear hundreds.
async fn agent(name: String, gateway: SocketAddr) {
    let model = Model { id: "m".to_owned(), ..Model::default() };
    let status =
        Status { health: Health::Up, engine: Some("vllm".into()), models: vec![model], ..Status::default() };
    let tls = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let options = WorkerOptions {
        name,
        labels: BTreeMap::new(),
        capacity: None,
        version: env!("CARGO_PKG_VERSION").into(),
        servers: vec![ServerUrl::parse(&format!("ws://{gateway}/ws")).expect("a URL")],
        key: KEY.into(),
        tls: Arc::new(tls),
        grace: Duration::ZERO,
        liveness: Liveness::default(),
        outdated: watch::Sender::new(None),
    };
    let (_status, feed) = watch::channel(Arc::new(status));
    let (_stop, stopped) = watch::channel(false);
    worker::run(options, Arc::new(Ready), feed, stopped).await.expect("randomness");
}

/// Waits until all of these workers are in; the time it took, and the most that came in any second.
async fn all_in(gateway: &Gateway, workers: u64, since: Instant) -> (Duration, f64) {
    let mut seen: Vec<(Instant, f64)> = vec![(since, 0.0)];
    loop {
        let metrics = gateway.metrics().await;
        let now = Instant::now();
        seen.push((now, metrics.sum("synapse_worker_sessions_total", &[("event", "welcomed")])));
        if metrics.sum("synapse_workers_connected", &[]) == workers as f64 {
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(120), "they are not back: {:?}", seen.last());
        sleep(Duration::from_millis(25)).await;
    }
    let in_second = |(at, count): &(Instant, f64)| {
        let before = seen.iter().rev().find(|(then, _)| *at - *then >= Duration::from_secs(1));
        count - before.map_or(0.0, |(_, before)| *before)
    };
    (since.elapsed(), seen.iter().map(in_second).fold(0.0, f64::max))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_workers_find_back_to_a_gateway_that_was_away() {
    let (workers, away) = (at_scale(500, 20), Duration::from_secs(at_scale(5, 0)));
    let mut gateway = gateway(&open_to_workers(Config::new())).await;
    let mut agents = JoinSet::new();
    let began = Instant::now();
    for number in 0..workers {
        agents.spawn(agent(format!("w{number}"), gateway.address()));
    }
    let (first, first_rate) = all_in(&gateway, workers, began).await;
    gateway.reconfigure(&open_to_workers(Config::new()).set("/server/port", gateway.address().port()));
    gateway.die();
    sleep(away).await;
    let started = Instant::now();
    let gateway = gateway.start_again().await;
    let (back, rate) = all_in(&gateway, workers, started).await;
    let samples = Traffic::new(&gateway, 50, Duration::from_secs(1), plain()).run().await;
    assert_eq!(failed(&samples), 0, "they serve");
    Figure {
        key: "9j-return",
        test: "hundreds_of_workers_find_back_to_a_gateway_that_was_away",
        promise: "A gateway with 500 workers is killed, and started again after 5 s: all of them are back",
        measured: back.as_secs_f64(),
        unit: format!(
            "s after the start (when all {workers} came for the first time, at once, it took {:.1} s)",
            first.as_secs_f64()
        ),
        limit: 45.0,
    }
    .hold();
    Figure {
        key: "9k-handshakes",
        test: "hundreds_of_workers_find_back_to_a_gateway_that_was_away",
        promise: "… and it lets in no more than 200 in any second",
        measured: rate.max(first_rate),
        unit: format!("at most in a second ({rate} at their return, {first_rate} when all came at once)"),
        limit: 200.0,
    }
    .hold();
}

/// Asks for a worker's WebSocket as a worker does; the status.
async fn knock(gateway: &Gateway, path: &str, authorization: &str) -> u16 {
    let client = Client::to(gateway.address())
        .with("connection", "Upgrade")
        .with("upgrade", "websocket")
        .with("sec-websocket-version", "13")
        .with("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .with("sec-websocket-protocol", "synapse.tunnel.v1");
    client.with("authorization", authorization).get(path).await.status
}

/// Keys that are almost this one.
fn almost(key: &str) -> Vec<String> {
    let changed = (0..key.len()).map(|at| {
        let other = if key.as_bytes()[at] == b'x' { "y" } else { "x" };
        [&key[..at], other, &key[at + 1..]].concat()
    });
    let cut = (0..key.len()).map(|at| key[..at].to_owned());
    let other = [format!("{key}x"), key.to_uppercase(), CALLERS_KEY.to_owned()];
    changed.chain(cut).chain(other).collect()
}

/// The code of the frame by which a gateway closes a WebSocket; none without one.
fn closed_with(heard: &[u8]) -> Option<u16> {
    let mut rest = &heard[heard.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4..];
    loop {
        let (head, length) = match *rest.get(1)? {
            126 => (4, usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]))),
            127 => return None,
            length => (2, usize::from(length)),
        };
        if rest[0] == 0x88 {
            return Some(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]));
        }
        rest = rest.get(head + length..)?;
    }
}

/// Plays a recorded connection again, every part when it is asked for; the code with which it is closed.
async fn replay(gateway: SocketAddr, recorded: &[u8]) -> Option<u16> {
    let head = recorded.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
    let mut stream = TcpStream::connect(gateway).await.expect("a connection");
    stream.write_all(&recorded[..head]).await.expect("it is taken");
    let mut heard = Vec::new();
    let playing = async {
        while !String::from_utf8_lossy(&heard).contains("greeting") {
            assert!(stream.read_buf(&mut heard).await.expect("bytes") > 0, "it is closed too early");
        }
        stream.write_all(&recorded[head..]).await.expect("it is taken");
        // A reset, too, is an end.
        let _end = stream.read_to_end(&mut heard).await;
    };
    within("the end of a connection that is played again", playing).await;
    closed_with(&heard)
}

/// A worker that has come with a stored key, and the key's id and text.
async fn with_stored_key(gateway: &Gateway, engine: &Engine, number: u64) -> (Worker, String, String) {
    let made = gateway.cli_json(&["worker-key", "create", "--group", "default"]).await;
    let text = |field: &str| made[field].as_str().expect("a text").to_owned();
    let name = format!("w{number}");
    let worker = start::worker(gateway.address(), &engine.url(), &name, &text("key"));
    gateway.metric("synapse_backend_up", &[("backend", &format!("default/{name}"))], |up| up == 1.0).await;
    (worker, text("id"), text("key"))
}

#[tokio::test]
async fn without_a_good_key_no_worker_comes_in_or_stays() {
    let engine = Engine::serving("far", "m").await;
    let gateway = gateway(&open_to_workers(Config::new())).await;
    let relay = Relay::to(gateway.address()).await;
    let worker = start::worker(relay.address(), &engine.url(), "recorded", KEY);
    gateway.metric("synapse_backend_up", &[("backend", "default/recorded")], |up| up == 1.0).await;
    let recorded = relay.sent();
    drop(worker);
    gateway.metric("synapse_workers_connected", &[], |count| count == 0.0).await;

    let (mut tried, mut let_in) = (BTreeMap::new(), 0);
    let mut note = |kind: &'static str, is_in: bool| {
        *tried.entry(kind).or_insert(0) += 1;
        let_in += u64::from(is_in);
    };
    for wrong in almost(KEY) {
        note("wrong", knock(&gateway, "/ws", &format!("Bearer {wrong}")).await != 401);
        note("wrong", knock(&gateway, &format!("/ws?ws_auth_key={wrong}"), "").await != 401);
    }
    for _ in 0..at_scale(100, 3) {
        note("replayed", replay(gateway.address(), &recorded).await != Some(code::BAD_PROOF));
    }
    let mut slowest = Vec::new();
    for number in 0..at_scale(20, 1) {
        let (_worker, id, key) = with_stored_key(&gateway, &engine, number).await;
        gateway.cli_json(&["worker-key", "revoke", &id]).await;
        let revoked = Instant::now();
        gateway.metric("synapse_workers_connected", &[], |count| count == 0.0).await;
        slowest.push(revoked.elapsed());
        for _ in 0..5 {
            note("revoked", knock(&gateway, "/ws", &format!("Bearer {key}")).await != 401);
        }
    }
    let welcomed = gateway.metrics().await.sum("synapse_worker_sessions_total", &[("event", "welcomed")]);
    assert_eq!(welcomed, 1.0 + at_scale(20, 1) as f64, "nobody else was ever in");
    assert_eq!(knock(&gateway, "/ws", &format!("Bearer {KEY}")).await, 101, "the right key opens");
    Figure {
        key: "9l-keys",
        test: "without_a_good_key_no_worker_comes_in_or_stays",
        promise: "Workers come with keys that are almost right, with revoked ones, and by playing a recorded connection again: none is let in",
        measured: let_in as f64,
        unit: format!("let in of {} wrong, {} revoked and {} replayed", tried["wrong"], tried["revoked"], tried["replayed"]),
        limit: 0.0,
    }
    .hold();
    Figure {
        key: "9m-worker-revocation",
        test: "without_a_good_key_no_worker_comes_in_or_stays",
        promise: "… and a key revoked on the command line ends its worker's session",
        measured: percentile(slowest.iter().copied(), 1.0).as_secs_f64() * 1000.0,
        unit: format!("ms (slowest of {})", slowest.len()),
        limit: 5000.0,
    }
    .hold();
}
