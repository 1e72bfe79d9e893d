//! `synapse worker` as a process, between simulated engines and a reception.

use std::process::Command;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use serde_json::{Value, json};
use synapse_core::key::SecretHash;
use synapse_simulator::{Engine as Kind, Options};
use synapse_testkit::{Engine, Reception, Worker, within};
use synapse_tunnel::{
    gateway::{Credential, End, FailedAt, HubOptions, ReplyBody},
    message::Health,
    protocol::{Close, code},
};

const KEY: &str = "a worker's key";

async fn reception() -> Reception {
    let credential =
        Credential { group: "lab".into(), key: "k".into(), secret: SecretHash::of(KEY), allows_cloud: false };
    Reception::start(HubOptions::new("replica", "1.2.3"), credential).await
}

/// A worker for this engine, which looks often.
fn worker(reception: &Reception, upstream: &str, more: &[&str]) -> Worker {
    let url = reception.url();
    let usual = ["--server-url", &url, "--upstream", upstream, "--ws-auth-key", KEY, "--name", "w"];
    let often = ["--health-s", "0.1", "--models-s", "0.1"];
    Worker::start(env!("CARGO_BIN_EXE_synapse"), &[&usual[..], &often[..], more].concat())
}

fn chat(more: Value) -> Request<Full<Bytes>> {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("fields").clone());
    let request = Request::post("/v1/chat/completions").header("content-type", "application/json");
    request.body(Full::new(body.to_string().into())).expect("a request")
}

async fn text(reply: Response<ReplyBody>) -> String {
    let body = within("the reply", reply.into_body().collect()).await.expect("a whole body").to_bytes();
    String::from_utf8(body.into()).expect("UTF-8")
}

#[tokio::test]
async fn every_kind_of_engine_is_recognised_with_its_models_and_serves_through_a_worker() {
    for kind in Kind::ALL {
        let engine = Engine::start("e", Options { engine: kind, ..Engine::options("m") }).await;
        let reception = reception().await;
        // With and without `/v1`, as people write it.
        let url = if kind == Kind::Vllm { format!("{}/v1", engine.url()) } else { engine.url() };
        let _worker = worker(&reception, &url, &["--label", "rack=3", "--max-in-flight", "5"]);
        let session = reception.until("w", |session| session.status().models.len() == 1).await;
        let session = if session.is_routable() { session } else { reception.session("w").await };
        assert_eq!((session.engine().as_str(), session.capacity()), (kind.as_str(), Some(5)));
        assert_eq!((session.status().models[0].id.as_str(), session.labels()["rack"].as_str()), ("m", "3"));
        let reply = session.send(chat(json!({}))).await.expect("a reply");
        assert_eq!(reply.status(), 200, "{kind}");
        assert!(text(reply).await.contains("\"choices\""), "{kind}");
        let streamed = session.send(chat(json!({"stream": true}))).await.expect("a reply");
        assert!(text(streamed).await.ends_with("data: [DONE]\n\n"), "{kind}");
    }
}

#[tokio::test]
async fn what_lies_beside_the_openai_routes_is_reached_too() {
    let engine = Engine::start("e", Options { engine: Kind::Ollama, ..Engine::options("m") }).await;
    let reception = reception().await;
    let _worker = worker(&reception, &engine.url(), &[]);
    let session = reception.session("w").await;
    let get = |path: &str| Request::get(path).body(Full::<Bytes>::default()).expect("a request");
    let reply = session.send(get("/api/tags")).await.expect("a reply");
    assert!(text(reply).await.contains("\"models\""));
    let refusal = session.send(get("/nowhere")).await.expect("the engine's own answer");
    assert_eq!(refusal.status(), 404);
}

#[tokio::test]
async fn the_gateway_knows_when_the_engine_dies_and_which_calls_never_reached_it() {
    let mut engine = Engine::serving("e", "m").await;
    let reception = reception().await;
    let _worker = worker(&reception, &engine.url(), &[]);
    let session = reception.session("w").await;
    engine.die().await;
    let error = session.send(chat(json!({}))).await.expect_err("no engine");
    assert_eq!(error.at, FailedAt::Connect, "{error}");
    let session = reception.until("w", |session| session.status().health == Health::Down).await;
    assert!(session.is_open() && !session.is_routable());
}

#[tokio::test]
async fn a_worker_is_in_before_its_engine_is_up() {
    let reception = reception().await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let worker = worker(&reception, &format!("http://{gone}"), &[]);
    let session = reception.until("w", |session| session.status().reason.is_some()).await;
    assert_eq!(session.status().reason.as_deref(), Some("the engine does not answer"));
    let error = session.send(chat(json!({}))).await.expect_err("no engine");
    assert_eq!(error.at, FailedAt::Connect);
    worker.logs().line("the engine does not answer").await;
}

#[tokio::test]
async fn a_large_upload_passes_through_byte_for_byte() {
    let engine = Engine::serving("e", "m").await;
    let reception = reception().await;
    let _worker = worker(&reception, &engine.url(), &[]);
    let session = reception.session("w").await;
    let sound: Vec<u8> = (0..3_000_000u32).map(|n| ((n * 31) >> 3) as u8).collect();
    let mut body = b"--x\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n--x\r\n\
        content-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n"
        .to_vec();
    body.extend_from_slice(&sound);
    body.extend_from_slice(b"\r\n--x--\r\n");
    let request = Request::post("/v1/audio/transcriptions")
        .header("content-type", "multipart/form-data; boundary=x")
        .header("content-length", body.len())
        .body(Full::new(Bytes::from(body.clone())));
    let reply = session.send(request.expect("a request")).await.expect("a reply");
    assert_eq!(reply.status(), 200, "{}", text(reply).await);
    let calls = engine.requests();
    assert!(calls.last().expect("a call").body == body, "not the same bytes");
}

#[tokio::test]
async fn a_caller_who_leaves_frees_the_engine_behind_a_worker() {
    let engine = Engine::serving("e", "m").await.paced(std::time::Duration::from_millis(20));
    engine.update(|behaviour| behaviour.tokens = 100_000);
    let reception = reception().await;
    let _worker = worker(&reception, &engine.url(), &[]);
    let session = reception.session("w").await;
    let mut reply = session.send(chat(json!({"stream": true}))).await.expect("a reply").into_body();
    within("a token", reply.frame()).await.expect("a frame").expect("unbroken");
    drop(reply);
    engine.until(|counters| counters.aborted == 1).await;
}

#[tokio::test]
async fn a_worker_that_is_asked_to_end_finishes_its_streams_and_exits_with_0() {
    let engine = Engine::serving("e", "m").await.paced(std::time::Duration::from_millis(20));
    let reception = reception().await;
    let mut worker = worker(&reception, &engine.url(), &[]);
    let session = reception.session("w").await;
    let reply = session.send(chat(json!({"stream": true}))).await.expect("a reply");
    worker.terminate();
    reception.until("w", |session| session.status().draining).await;
    assert!(text(reply).await.ends_with("data: [DONE]\n\n"));
    assert_eq!(worker.ended().await.code(), Some(0));
    assert_eq!(reception.end().await, End::Left);
}

#[tokio::test]
async fn a_second_signal_ends_a_worker_at_once() {
    let engine = Engine::serving("e", "m").await.paced(std::time::Duration::from_millis(50));
    engine.update(|behaviour| behaviour.tokens = 100_000);
    let reception = reception().await;
    let mut worker = worker(&reception, &engine.url(), &[]);
    let session = reception.session("w").await;
    let reply = session.send(chat(json!({"stream": true}))).await.expect("a reply");
    worker.terminate();
    reception.until("w", |session| session.status().draining).await;
    worker.terminate();
    assert_eq!(worker.ended().await.code(), Some(1));
    assert!(within("the stream to break", reply.into_body().collect()).await.is_err());
}

#[tokio::test]
async fn a_worker_says_loudly_that_its_key_or_its_name_is_wrong_and_never_says_the_key() {
    let engine = Engine::serving("e", "m").await;
    let reception = reception().await;
    let url = reception.url();
    let args = ["--server-url", &url, "--upstream", &engine.url(), "--ws-auth-key", "hunter2", "--name", "w"];
    let stranger = Worker::start(env!("CARGO_BIN_EXE_synapse"), &args);
    let line = stranger.logs().line("the key is not accepted").await;
    assert!(line.contains("ERROR"), "{line}");
    assert!(!stranger.logs().lines().concat().contains("hunter2"));

    let first = worker(&reception, &engine.url(), &[]);
    let session = reception.session("w").await;
    let _second = worker(&reception, &engine.url(), &[]);
    first.logs().line("--name").await;
    assert!(!first.logs().lines().concat().contains(KEY));
    within("the first session to end", session.ended()).await;
    let why = Close::new(code::SUPERSEDED, "another worker has connected under the same name");
    assert_eq!(session.end(), Some(&End::Closed(why)));
}

#[tokio::test]
async fn a_gateway_is_no_engine() {
    let (_engine, gateway) = crate::start::single().await;
    let reception = reception().await;
    let upstream = format!("http://{}", gateway.address());
    let _worker = worker(&reception, &upstream, &["--api-key", synapse_testkit::KEY]);
    let session = reception.until("w", |session| session.status().reason.is_some()).await;
    assert!(session.status().reason.as_deref().is_some_and(|reason| reason.contains("a gateway itself")));
    assert!(!session.is_routable());
}

/// How a worker ends that cannot begin.
fn refused(args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synapse"));
    let output = command.arg("worker").env("SYNAPSE_WS_AUTH_KEY", KEY).args(args).output();
    let output = output.expect("the binary runs");
    (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
}

#[test]
fn a_flag_that_makes_no_sense_ends_a_worker_before_it_begins() {
    for (args, code, word) in [
        (["--server-url", "ws://gateway/ws?ws_auth_key=hunter2"], 1, "--server-url must not have a query"),
        (["--upstream", "gpu:8081"], 1, "--upstream must begin with"),
        (["--ws-auth-key", "file:/none"], 1, "--ws-auth-key: the file /none cannot be read"),
        (["--ca-file", "/none"], 1, "--ca-file cannot be used"),
        (["--engine", "steam"], 2, "possible values"),
        (["--max-in-flight", "0"], 2, "--max-in-flight"),
        (["--health-s", "0"], 2, "0.05"),
    ] {
        let (exit, message) = refused(&args);
        assert_eq!(exit, Some(code), "{args:?}: {message}");
        assert!(message.contains(word) && !message.contains("hunter2"), "{args:?}: {message}");
    }
}

#[test]
fn a_binary_named_synapse_client_is_a_worker() {
    let folder = tempfile::tempdir().expect("a folder");
    let client = folder.path().join("synapse-client");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_synapse"), &client).expect("a link");
    let say = |args: &[&str]| {
        let output = Command::new(&client).args(args).output().expect("the binary runs");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert!(say(&["--help"]).contains("--ws-auth-key"));
    assert!(say(&["--version"]).starts_with("synapse "));
}
