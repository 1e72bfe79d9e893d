//! Callers who mean harm, or look like it: floods, dripping, too many connections.

use std::io::ErrorKind;

use serde_json::Value;
use synapse_testkit::{Config, Engine, Gateway, KEY, Protocol, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, GO_AWAY, HEADERS, PING,
        PRIORITY, PROTOCOL_ERROR, RESET, SETTINGS, fields, frame,
    },
    start::{gateway, saying, setup, single},
};

const CHAT: &str = "/v1/chat/completions";

/// The head of a chat in HTTP/2, with these fields besides.
fn chat_head(more: &[(&str, &str)]) -> Vec<u8> {
    let key = format!("Bearer {KEY}");
    let own = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", CHAT),
        (":authority", "gateway"),
        ("authorization", &key),
    ];
    fields(&[&own[..], more].concat())
}

/// Streams that begin, all of them, and are cancelled.
fn rapid_resets(count: u32) -> Vec<u8> {
    let head = chat_head(&[]);
    let streams = (0..count).map(|at| 2 * at + 1);
    let reset = |stream| frame(RESET, 0, stream, &8_u32.to_be_bytes());
    streams.flat_map(|stream| [frame(HEADERS, END_HEADERS, stream, &head), reset(stream)].concat()).collect()
}

async fn ends_calmly(gateway: &Gateway, flood: &[u8]) {
    let mut connection = Frames::open(gateway).await;
    connection.write(flood).await;
    let end = connection.until(|said| said.kind == GO_AWAY).await.expect("an end");
    assert_eq!(end.error(), Some(ENHANCE_YOUR_CALM), "{}", String::from_utf8_lossy(&end.payload));
    // The connection closes.
    while connection.next().await.is_some() {}
}

#[tokio::test]
async fn floods_of_frames_end_their_connection() {
    let (engine, gateway) = single().await;
    let block = chat_head(&[]);
    let open_head = frame(HEADERS, 0, 1, &block);
    for flood in [
        rapid_resets(5_000),
        frame(PING, 0, 0, &[0; 8]).repeat(30_000),
        frame(SETTINGS, 0, 0, &[]).repeat(30_000),
        frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 9]).repeat(30_000),
        [open_head.clone(), frame(CONTINUATION, 0, 1, &[]).repeat(30_000)].concat(),
        [frame(HEADERS, END_HEADERS, 1, &block), frame(DATA, 0, 1, &[]).repeat(30_000)].concat(),
    ] {
        ends_calmly(&gateway, &flood).await;
    }
    gateway.metric("synapse_requests_in_flight", &[], |open| open == 0.0).await;
    assert_eq!(engine.counters().received, 0);
    assert_eq!(gateway.client().chat("m").await.status, 200, "and the gateway is well");
}

#[tokio::test]
async fn streams_that_begin_and_are_cancelled_one_by_one_end_their_connection_too() {
    let (engine, gateway) = single().await;
    engine.update(|behaviour| behaviour.hang_before_head = true);
    let mut connection = Frames::open(&gateway).await;
    let body = saying("m", "hi").to_string();
    // Each reaches the engine before it is cancelled, for as long as the gateway bears it.
    for count in 1..=300 {
        let stream = 2 * count - 1;
        let request = [
            frame(HEADERS, END_HEADERS, stream, &chat_head(&[])),
            frame(DATA, END_STREAM, stream, body.as_bytes()),
        ];
        connection.write(&request.concat()).await;
        if count <= 100 {
            engine.until(|counters| counters.received == u64::from(count)).await;
        }
        connection.write(&frame(RESET, 0, stream, &8_u32.to_be_bytes())).await;
    }
    let end = connection.until(|said| said.kind == GO_AWAY).await.expect("an end");
    assert_eq!(end.error(), Some(ENHANCE_YOUR_CALM));
    engine.until(|counters| counters.aborted == counters.received).await;
}

#[tokio::test]
async fn what_is_malformed_in_http2_is_refused_and_reaches_no_engine() {
    let (engine, gateway) = single().await;
    let body = saying("m", "smuggled").to_string();
    let longer = (body.len() + 1).to_string();
    let shorter = (body.len() - 1).to_string();
    for more in [
        &[("transfer-encoding", "chunked")][..],
        &[("connection", "close")],
        &[("keep-alive", "1")],
        &[("upgrade", "websocket")],
        &[("te", "gzip")],
        &[("X-Capital", "1")],
        &[("x y", "1")],
        &[("x", "a\r\ntransfer-encoding: chunked")],
        &[("x", "a\nb")],
        &[("x", "a\0b")],
        &[("x\r\ny", "1")],
        &[(":path", "/other")],
        &[(":unknown", "1")],
        &[("content-length", longer.as_str())],
        &[("content-length", shorter.as_str())],
        &[("content-length", "+5")],
        &[("host", "other")],
        &[("host", "gateway"), ("host", "gateway")],
    ] {
        let mut connection = Frames::open(&gateway).await;
        let request =
            [frame(HEADERS, END_HEADERS, 1, &chat_head(more)), frame(DATA, END_STREAM, 1, body.as_bytes())];
        connection.write(&request.concat()).await;
        let answer = connection.until(|said| matches!(said.kind, HEADERS | DATA | RESET | GO_AWAY)).await;
        let answer = answer.unwrap_or_else(|| panic!("{more:?}: no answer"));
        // Index 12 of the static table is status 400.
        let refused = answer.kind == HEADERS && answer.payload.first() == Some(&0x8c);
        assert!(refused || answer.error() == Some(PROTOCOL_ERROR), "{more:?}: {answer:?}");
    }
    assert_eq!(engine.counters().received, 0);
}

#[tokio::test]
async fn a_head_that_drips_is_answered_with_408_and_recorded() {
    let (_engine, gateway) = single().await;
    let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
    stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: gate").await.expect("written");
    let mut reply = String::new();
    within("the end", stream.read_to_string(&mut reply)).await.expect("a reply");
    assert!(reply.starts_with("HTTP/1.1 408 ") && reply.contains("connection: close"), "{reply}");
    assert!(reply.contains(r#""code":"request_timeout""#) && reply.contains("x-request-id: "), "{reply}");
    assert_eq!(gateway.logs().accesses_reach(1).await[0]["code"], "request_timeout");
}

#[tokio::test]
async fn a_body_may_not_take_for_ever() {
    let engine = Engine::serving("one", "m").await;
    let gateway = gateway(&Config::with(&[&engine]).set("/server/body_timeout_s", 0.2)).await;
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n");
    let begun = format!("{head}content-length: 500\r\n\r\n{{\"model\":");
    let reply = gateway.anonymous().raw(begun.as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 408 ") && reply.contains("did not arrive within 0.2 s"), "{reply}");
    assert_eq!(engine.counters().received, 0);
}

#[tokio::test]
async fn idle_connections_make_room_for_new_ones() {
    let engine = Engine::serving("one", "m").await;
    let gateway = gateway(&Config::with(&[&engine]).set("/server/max_connections", 4)).await;
    let mut idle = gateway.connect(Protocol::Http1).await;
    let mut half_open = TcpStream::connect(gateway.address()).await.expect("a connection");
    half_open.write_all(b"POST /v1/chat").await.expect("written");
    let mut more = Vec::new();
    for _ in 0..20 {
        assert_eq!(gateway.client().chat("m").await.status, 200);
        more.push(TcpStream::connect(gateway.address()).await.expect("a connection"));
    }
    idle.closed().await;
    let mut rest = Vec::new();
    let ended = within("the end", half_open.read_to_end(&mut rest)).await;
    assert!(ended.is_err() || rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    assert!(gateway.metrics().await.sum("synapse_connections_refused_total", &[("reason", "idle")]) >= 2.0);
}

#[tokio::test]
async fn when_every_connection_is_at_work_a_newcomer_is_told() {
    let engine = Engine::serving("one", "m").await;
    let gateway = gateway(&Config::with(&[&engine]).set("/server/max_connections", 3)).await;
    engine.update(|behaviour| behaviour.hang_before_head = true);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let client = gateway.client();
        waiting.spawn(async move { client.chat("m").await });
    }
    engine.until(|counters| counters.received == 3).await;
    gateway.metric("synapse_connections_open", &[], |open| open == 3.0).await;
    // It is told before it asks: whoever asks first may only see that the connection has gone.
    let mut newcomer = TcpStream::connect(gateway.address()).await.expect("a connection");
    let mut reply = String::new();
    within("the end", newcomer.read_to_string(&mut reply)).await.expect("a reply");
    assert!(reply.starts_with("HTTP/1.1 503 ") && reply.contains(r#""code":"overloaded""#), "{reply}");
    assert!(reply.contains("x-request-id: ") && reply.contains("retry-after: "), "{reply}");
    engine.update(|behaviour| behaviour.hang_before_head = false);
    while let Some(answer) = waiting.join_next().await {
        assert_eq!(answer.expect("no panic").status, 200);
    }
    gateway
        .until("a place", async || {
            let answer =
                gateway.client().try_send(gateway.client().request(hyper::Method::GET, "/livez", "")).await;
            answer.ok().filter(|answer| answer.status == 200)
        })
        .await;
    assert!(gateway.metrics().await.sum("synapse_connections_refused_total", &[("reason", "full")]) >= 1.0);
}

#[tokio::test]
async fn one_address_may_be_held_to_its_share() {
    let engine = Engine::serving("one", "m").await;
    let config = Config::with(&[&engine]).set("/server/max_connections_per_ip", 2);
    let gateway = setup().without_discovery().start(&config).await;
    let _held = [gateway.connect(Protocol::Http1).await, gateway.connect(Protocol::Http2).await];
    gateway.metric("synapse_connections_open", &[], |open| open == 2.0).await;
    let mut third = TcpStream::connect(gateway.address()).await.expect("a connection");
    let mut reply = Vec::new();
    match within("the end", third.read_to_end(&mut reply)).await {
        Ok(_) => assert!(reply.starts_with(b"HTTP/1.1 503 ")),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[tokio::test]
async fn a_caller_who_leaves_behind_further_requests_is_noticed() {
    let (engine, gateway) = single().await;
    engine.update(|behaviour| behaviour.hang_before_head = true);
    let body = saying("m", "hi").to_string();
    let length = body.len();
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let arrived = async {
        engine.until(|counters| counters.received == 1).await;
    };
    gateway.anonymous().raw_then_half_close(request.repeat(3).as_bytes(), arrived).await;
    engine.until(|counters| counters.aborted == 1).await;
    assert_eq!(engine.counters().received, 1);
}

#[tokio::test]
async fn a_wrong_key_is_refused_before_any_of_the_body_is_asked_for() {
    let (_engine, gateway) = single().await;
    for (key, status) in [("authorization: Bearer wrong\r\n", "403"), ("", "401")] {
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: a\r\n{key}expect: 100-continue\r\ncontent-length: 1000\r\n\r\n"
        );
        let reply = gateway.anonymous().raw(head.as_bytes()).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{reply}");
        let body = reply.split_once("\r\n\r\n").expect("a body").1;
        assert!(serde_json::from_str::<Value>(body).is_ok(), "{reply}");
    }
}
