//! Every route of the data plane, from the caller to the engine and back.

use hyper::Method;
use serde_json::{Value, json};
use synapse_simulator::Engine as Kind;
use synapse_testkit::{Answer, Client, Config, Engine, Gateway};

use crate::start::{gateway, single};

async fn posted(path: &str, body: Value) -> Value {
    let (engine, gateway) = single().await;
    let answer = gateway.client().post(path, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(engine.last_body(), body.to_string());
    assert_eq!(engine.requests()[0].target, path);
    answer.json()
}

#[tokio::test]
async fn completions() {
    let reply = posted("/v1/completions", json!({"model": "m", "prompt": "Once upon a time"})).await;
    assert!(reply["choices"][0]["text"].is_string(), "{reply}");
}

#[tokio::test]
async fn streamed_completions_end_with_done() {
    let (_engine, gateway) = single().await;
    let body = json!({"model": "m", "prompt": "Once", "stream": true});
    let answer = gateway.client().post("/v1/completions", &body).await;
    assert!(answer.is_done() && answer.chunks().len() > 2, "{}", answer.text());
}

#[tokio::test]
async fn embeddings() {
    let body = json!({"model": "m", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 8});
    let reply = posted("/v1/embeddings", body).await;
    assert_eq!(reply["data"].as_array().map(Vec::len), Some(2));
    assert!(reply["data"][0]["embedding"].is_string(), "{reply}");
}

#[tokio::test]
async fn rerank() {
    let body = json!({"model": "m", "query": "cats", "documents": ["dogs", "cats"], "top_n": 1});
    assert_eq!(posted("/v1/rerank", body).await["results"][0]["index"], 1);
}

#[tokio::test]
async fn moderations() {
    let reply = posted("/v1/moderations", json!({"model": "m", "input": "so much violence"})).await;
    assert_eq!(reply["results"][0]["flagged"], true);
}

#[tokio::test]
async fn images() {
    let body = json!({"model": "m", "prompt": "a cat", "response_format": "b64_json"});
    assert!(posted("/v1/images/generations", body).await["data"][0]["b64_json"].is_string());
}

#[tokio::test]
async fn responses() {
    let reply = posted("/v1/responses", json!({"model": "m", "input": "hi", "store": false})).await;
    assert_eq!((&reply["object"], &reply["status"]), (&json!("response"), &json!("completed")));
}

#[tokio::test]
async fn streamed_responses_end_with_their_own_event() {
    let (_engine, gateway) = single().await;
    let body = json!({"model": "m", "input": "hi", "stream": true});
    let answer = gateway.client().post("/v1/responses", &body).await;
    let chunks = answer.chunks();
    let ends: Vec<_> = [chunks.first(), chunks.last()].map(|chunk| chunk.map(|c| c["type"].clone())).into();
    assert_eq!(ends, [Some(json!("response.created")), Some(json!("response.completed"))]);
}

#[tokio::test]
async fn speech_is_passed_on_byte_for_byte() {
    let (engine, gateway) = single().await;
    let body = json!({"model": "m", "input": "Hello there", "voice": "alloy", "response_format": "wav"});
    let through = gateway.client().post("/v1/audio/speech", &body).await;
    let direct = Client::to(engine.address()).post("/v1/audio/speech", &body).await;
    assert_eq!((through.status, through.header("content-type")), (200, "audio/wav"));
    assert!(through.body.starts_with(b"RIFF"));
    assert_eq!(through.body, direct.body);
}

/// A form with a file of this size; the model may come first or last.
fn form(model_first: bool, size: usize) -> Vec<u8> {
    let model = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\npublic\r\n";
    let mut file =
        b"--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\ncontent-type: audio/wav\r\n\r\n"
            .to_vec();
    file.extend((0..size).map(|at| (at % 251) as u8));
    file.extend_from_slice(b"\r\n");
    let parts = if model_first { [model.as_bytes(), &file] } else { [&file[..], model.as_bytes()] };
    [parts.concat().as_slice(), b"--b--\r\n"].concat()
}

async fn transcriber() -> (Engine, Gateway) {
    let engine = Engine::serving("one", "whisper").await;
    let places = [json!({"backend": "one", "model": "whisper"})];
    let gateway = gateway(&Config::with(&[&engine]).model("public", &places)).await;
    (engine, gateway)
}

async fn upload(gateway: &Gateway, path: &str, form: Vec<u8>) -> Answer {
    let client = gateway.client();
    let mut request = client.request(Method::POST, path, form);
    let kind = "multipart/form-data; boundary=b".parse().expect("a value");
    request.headers_mut().insert("content-type", kind);
    client.send(request).await
}

#[tokio::test]
async fn an_upload_reaches_the_engine_whole_wherever_the_model_stands() {
    let (engine, gateway) = transcriber().await;
    // Above 1 MiB an upload is kept in a file on its way.
    for (model_first, size) in [(true, 1000), (false, 1000), (true, 3_000_000), (false, 3_000_000)] {
        let sent = form(model_first, size);
        let answer = upload(&gateway, "/v1/audio/transcriptions", sent.clone()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.json()["text"].as_str().is_some_and(|text| text.contains(&size.to_string())));
        let at = sent.windows(6).position(|window| window == b"public").expect("the model");
        let expected = [&sent[..at], b"whisper", &sent[at + 6..]].concat();
        assert!(engine.requests().last().is_some_and(|call| call.body == expected), "{model_first} {size}");
    }
}

#[tokio::test]
async fn translations() {
    let (engine, gateway) = transcriber().await;
    let answer = upload(&gateway, "/v1/audio/translations", form(true, 10)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(engine.requests()[0].target, "/v1/audio/translations");
}

#[tokio::test]
async fn every_kind_of_engine_serves_chats_under_the_path_it_expects() {
    for kind in Kind::ALL {
        let engine =
            Engine::start("one", synapse_simulator::Options { engine: kind, ..Engine::options("m") }).await;
        // Given with `/v1` or without, the address is the same.
        let config = Config::new().backend_at("one", engine.kind(), &format!("{}/v1", engine.url()));
        let places = [json!({"backend": "one", "model": "m"})];
        let gateway = gateway(&config.model("m", &places)).await;
        assert_eq!(gateway.client().chat("m").await.status, 200, "{kind}");
        assert!(gateway.client().stream("m").await.is_done(), "{kind}");
        assert_eq!(engine.requests()[0].target, "/v1/chat/completions", "{kind}");
    }
}
