//! Faults on a call's way: at the connection, before the head, and at any byte of the body.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use synapse_simulator::{
    Engine, ForcedStatus, Health, Interruption, InterruptionKind as Kind, Options, Point, RetryForm, Stage,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{self, Sim, json_request, options, start};

const CHAT: &str = "/v1/chat/completions";

fn chat(stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
}

async fn interrupted(after: impl Into<Point>, kind: Kind) -> Sim {
    let sim = client::engine(Engine::OpenAi).await;
    let interruption = Some(Interruption::new(after, kind));
    sim.control.update(|behaviour| behaviour.interruption = interruption);
    sim
}

/// What comes back over a bare connection, and whether it ends in a reset.
async fn raw(sim: &Sim) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(sim.addr).await.unwrap();
    let body = chat(false).to_string();
    let request = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let _refused = stream.write_all(request.as_bytes()).await;
    let mut read = Vec::new();
    let is_reset = stream.read_to_end(&mut read).await.is_err();
    (read, is_reset)
}

#[tokio::test]
async fn a_connection_is_reset_before_anything_is_read() {
    let sim = interrupted(Stage::Connect, Kind::Reset).await;
    assert_eq!(raw(&sim).await, (Vec::new(), true));
    let counters = sim.control.counters();
    assert_eq!((counters.connections, counters.received), (1, 0));
}

#[tokio::test]
async fn a_connection_that_stalls_is_served_when_the_stall_is_lifted() {
    let sim = interrupted(Stage::Connect, Kind::Stall).await;
    let lift = async {
        sim.control.until(|counters| counters.connections == 1).await;
        sim.control.update(|behaviour| behaviour.interruption = None);
    };
    let asked = chat(false);
    let (answer, ()) = tokio::join!(sim.post(CHAT, &asked), lift);
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_request_that_was_read_gets_a_reset_a_close_or_garbage() {
    for (kind, is_reset) in [(Kind::Reset, true), (Kind::Eof, false), (Kind::Malformed, false)] {
        let sim = interrupted(Stage::Request, kind).await;
        let (read, reset) = raw(&sim).await;
        assert_eq!(reset, is_reset, "{kind:?}");
        assert_eq!(read.is_empty(), kind != Kind::Malformed, "{kind:?}");
        assert!(!read.starts_with(b"HTTP"), "{kind:?}");
        let counters = sim.control.until(|counters| counters.in_flight == 0).await;
        assert_eq!((counters.received, counters.broken), (1, 1));
    }
    let sim = interrupted(Stage::Request, Kind::Error).await;
    assert_eq!(sim.post(CHAT, &chat(true)).await.status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn a_stall_at_the_request_is_a_hang_that_can_be_lifted() {
    let sim = interrupted(Stage::Request, Kind::Stall).await;
    let lift = async {
        sim.control.until(|counters| counters.running == 1).await;
        sim.control.update(|behaviour| behaviour.interruption = None);
    };
    let asked = chat(false);
    let (answer, ()) = tokio::join!(sim.post(CHAT, &asked), lift);
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_body_ends_at_exactly_the_byte_that_was_asked_for() {
    for stream in [true, false] {
        for (byte, kind) in
            [0, 1, 57, 200].into_iter().flat_map(|byte| [Kind::Reset, Kind::Eof].map(|kind| (byte, kind)))
        {
            let sim = interrupted(Point::byte(byte), kind).await;
            let answer = sim.post(CHAT, &chat(stream)).await;
            // Only a stream can end short and yet cleanly.
            assert_eq!(answer.broken, kind == Kind::Reset || !stream, "{byte} {kind:?} {stream}");
            assert_eq!(answer.body.len() as u64, byte, "{kind:?} {stream}");
            sim.control.until(|counters| counters.broken == 1).await;
            assert_eq!(sim.control.requests()[0].sent, byte);
        }
    }
}

#[tokio::test]
async fn a_plain_reply_counts_as_one_event() {
    let sim = interrupted(0, Kind::Reset).await;
    let answer = sim.post(CHAT, &chat(false)).await;
    assert_eq!((answer.broken, answer.body.len()), (true, 0));
    let sim = interrupted(2, Kind::Reset).await;
    assert!(!sim.post(CHAT, &chat(false)).await.broken, "a shorter reply ends well");
}

#[tokio::test]
async fn a_plain_reply_with_garbage_in_it_is_no_json() {
    let sim = interrupted(Point::byte(20), Kind::Malformed).await;
    let answer = sim.post(CHAT, &chat(false)).await;
    assert!(!answer.broken && answer.status == StatusCode::OK);
    assert!(serde_json::from_slice::<Value>(&answer.body).is_err(), "{}", answer.text());
}

#[tokio::test]
async fn a_stall_in_the_middle_of_an_event_goes_on_with_its_next_byte() {
    let whole = client::engine(Engine::OpenAi).await.post(CHAT, &chat(true)).await;
    let sim = interrupted(Point::byte(100), Kind::Stall).await;
    let mut caller = sim.connect().await;
    let response = caller.send(json_request(CHAT, &chat(true))).await.unwrap();
    sim.control.update(|behaviour| behaviour.interruption = None);
    let answer = client::Answer::read(response).await;
    let text = |answer: &client::Answer| -> Vec<Value> {
        answer.chunks().iter().map(|chunk| chunk["choices"][0]["delta"].clone()).collect()
    };
    assert_eq!(text(&answer), text(&whole));
    assert_eq!(answer.data().last(), Some(&"[DONE]"));
}

#[tokio::test]
async fn deaths_at_random_bytes_are_spread_and_come_again_with_the_seed() {
    let deaths = async |seed| {
        let sim = start(Options { seed, ..options() }).await;
        let anywhere = Interruption::new(Point::any_byte(0, 1_000), Kind::Reset).for_share(0.5);
        sim.control.update(|behaviour| behaviour.interruption = Some(anywhere));
        for _ in 0..40 {
            sim.post(CHAT, &chat(true)).await;
        }
        let counters = sim.control.until(|counters| counters.in_flight == 0).await;
        assert!((10..=30).contains(&counters.broken), "{counters:?}");
        sim.control.requests().iter().map(|request| request.sent).collect::<Vec<_>>()
    };
    let first = deaths(1).await;
    assert_eq!(first, deaths(1).await);
    assert_ne!(first, deaths(2).await);
}

#[tokio::test]
async fn a_head_drips_and_the_body_does_not() {
    tokio::time::pause();
    let sim = client::engine(Engine::Vllm).await;
    sim.control.update(|behaviour| behaviour.head_drip = Duration::from_secs(1));
    let began = tokio::time::Instant::now();
    let answer = sim.post(CHAT, &chat(false)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let waited = began.elapsed().as_secs();
    assert!((50..300).contains(&waited), "a second a byte of the head: {waited}");
    assert!(answer.json()["usage"].is_object());
}

#[tokio::test]
async fn every_provider_says_in_its_own_way_when_to_return() {
    let wait = Duration::from_millis(360_000);
    for (form, header, value) in [
        (RetryForm::Seconds, "retry-after", "360"),
        (RetryForm::Millis, "retry-after-ms", "360000"),
        (RetryForm::Reset, "x-ratelimit-reset-requests", "6m0s"),
        (RetryForm::Date, "retry-after", " GMT"),
    ] {
        let sim = client::engine(Engine::OpenAi).await;
        let limit = ForcedStatus::new(429).again_in(wait, form);
        sim.control.update(|behaviour| behaviour.status = Some(limit));
        let refused = sim.post(CHAT, &chat(false)).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        let told = refused.headers[header].to_str().unwrap();
        assert!(told.ends_with(value), "{form:?}: {told}");
    }
}

#[tokio::test]
async fn an_engine_that_drains_refuses_what_is_new_and_finishes_what_is_open() {
    let sim = interrupted(3, Kind::Stall).await;
    let mut caller = sim.connect().await;
    let open = caller.send(json_request(CHAT, &chat(true))).await.unwrap();
    sim.control.update(|behaviour| {
        behaviour.health = Health::Draining;
        behaviour.interruption = None;
    });
    assert_eq!(sim.post(CHAT, &chat(true)).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(sim.get("/v1/models").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(client::Answer::read(open).await.data().last(), Some(&"[DONE]"));
}
