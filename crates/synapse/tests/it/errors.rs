//! Refusals: the contract's table of errors, row by row, in OpenAI's envelope.

use std::time::Duration;

use hyper::Method;
use serde_json::json;
use synapse_simulator::{ForcedStatus, RetryForm};
use synapse_testkit::{Answer, Config, Script};

use crate::start::{before, code, gateway, saying, single, with};

const CHAT: &str = "/v1/chat/completions";

/// Checks a refusal and its envelope.
#[track_caller]
fn assert_refused(answer: &Answer, status: u16, kind: &str, code: &str) {
    let expected = (status, kind.to_owned(), code.to_owned());
    assert_eq!(answer.refusal(), expected, "{}", answer.text());
    let error = &answer.json()["error"];
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
    assert!(error.as_object().is_some_and(|fields| fields.contains_key("param")), "{error}");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_ne!(answer.header("x-request-id"), "");
}

#[tokio::test]
async fn wrong_requests_are_400_and_name_the_field() {
    let (engine, gateway) = single().await;
    let client = gateway.client();
    let messages = r#""messages":[{"role":"user","content":"hi"}]"#;
    for (body, code, param) in [
        ("{", "invalid_json", None),
        ("[]", "invalid_json", None),
        ("{} trailing", "invalid_json", None),
        (r#"{"model":"m","model":"m2","messages":[]}"#, "invalid_json", None),
        (r#"{"model":"m"}"#, "missing_field", Some("messages")),
        (r#"{"messages":[]}"#, "missing_field", Some("model")),
        (r#"{"model":"m","messages":[]}"#, "invalid_field", Some("messages")),
        (r#"{"model":1,"messages":[]}"#, "invalid_field", Some("model")),
        (&format!(r#"{{"model":"m","stream":"true",{messages}}}"#), "invalid_field", Some("stream")),
        (
            &format!(r#"{{"model":"m","stream_options":{{}},{messages}}}"#),
            "invalid_field",
            Some("stream_options"),
        ),
    ] {
        let answer = client.post_text(CHAT, body).await;
        assert_refused(&answer, 400, "invalid_request_error", code);
        assert_eq!(answer.json()["error"]["param"].as_str(), param, "{body}");
    }
    let empty = client.send(client.request(Method::POST, CHAT, "")).await;
    assert_refused(&empty, 400, "invalid_request_error", "invalid_json");
    assert_eq!(engine.counters().received, 0);
}

#[tokio::test]
async fn deep_nesting_is_no_way_to_hurt_the_gateway() {
    let (_engine, gateway) = single().await;
    let deep = format!(r#"{{"model":"m","messages":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let answer = gateway.client().post_text(CHAT, &deep).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(gateway.client().chat("m").await.status, 200);
}

#[tokio::test]
async fn credentials() {
    let (_engine, gateway) = single().await;
    let missing = gateway.anonymous().chat("m").await;
    assert_refused(&missing, 401, "authentication_error", "missing_api_key");
    assert_eq!(missing.header("www-authenticate"), "Bearer");
    for key in ["nonsense", "' OR 1=1--", "syn_abc_def", "sk-integration-tesT"] {
        let wrong = gateway.client_with(key).chat("m").await;
        assert_refused(&wrong, 403, "permission_error", "invalid_api_key");
        assert!(!wrong.text().contains(key), "{}", wrong.text());
    }
}

#[tokio::test]
async fn an_unknown_model_path_or_method() {
    let (_engine, gateway) = single().await;
    let client = gateway.client();
    assert_refused(&client.chat("ghost").await, 404, "invalid_request_error", "model_not_found");
    assert_refused(&client.get("/v1/models/ghost").await, 404, "invalid_request_error", "model_not_found");
    for path in ["/v2/models", "//v1/models", "/v1/chat/completions/", "/v1/../v1/models", "/%00", "/metrics"]
    {
        assert_refused(&client.get(path).await, 404, "invalid_request_error", "not_found");
    }
    let get = client.get(CHAT).await;
    assert_refused(&get, 405, "invalid_request_error", "method_not_allowed");
    assert_eq!(get.header("allow"), "POST");
    let post = client.post("/v1/models", &json!({})).await;
    assert_refused(&post, 405, "invalid_request_error", "method_not_allowed");
    assert_eq!(post.header("allow"), "GET, HEAD");
}

#[tokio::test]
async fn bodies_heads_and_types_beyond_the_limits() {
    let engine = synapse_testkit::Engine::serving("one", "m").await;
    let config = Config::with(&[&engine]).set("/server/max_body_mb", 1).set("/server/max_upload_mb", 1);
    let gateway = gateway(&config).await;
    let client = gateway.client();
    let long = "x".repeat(1024 * 1024 + 1);
    let answer = client.post(CHAT, &saying("m", &long)).await;
    assert_refused(&answer, 413, "invalid_request_error", "body_too_large");

    let mut form = client.request(Method::POST, "/v1/audio/transcriptions", long);
    form.headers_mut().insert("content-type", "multipart/form-data; boundary=b".parse().expect("a value"));
    assert_refused(&client.send(form).await, 413, "invalid_request_error", "body_too_large");

    for kind in ["text/plain", "application/json; charset=utf-16", "multipart/form-data; boundary=b"] {
        let mut request = client.request(Method::POST, CHAT, saying("m", "hi").to_string());
        request.headers_mut().insert("content-type", kind.parse().expect("a value"));
        assert_refused(&client.send(request).await, 415, "invalid_request_error", "unsupported_media_type");
    }
    let mut packed = client.request(Method::POST, CHAT, "packed");
    packed.headers_mut().insert("content-encoding", "gzip".parse().expect("a value"));
    assert_refused(&client.send(packed).await, 415, "invalid_request_error", "unsupported_media_type");

    let mut heavy = client.request(Method::GET, "/v1/models", "");
    heavy.headers_mut().insert("x-heavy", "x".repeat(40_000).parse().expect("a value"));
    assert_refused(&client.send(heavy).await, 431, "invalid_request_error", "headers_too_large");
    assert_eq!(engine.counters().received, 0);
}

#[tokio::test]
async fn what_engines_say_of_the_request_is_passed_on() {
    let (engine, gateway) = single().await;
    for status in [400, 413, 422] {
        engine.set(engine.behaviour().failing(status));
        let answer = gateway.client().chat("m").await;
        assert_refused(&answer, status, "invalid_request_error", "upstream_rejected");
        assert!(answer.text().contains("The simulated engine failed"), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_context_that_is_too_long_keeps_its_code() {
    let options = synapse_simulator::Options { context_length: 4, ..synapse_testkit::Engine::options("m") };
    let engine = synapse_testkit::Engine::start("one", options).await;
    let gateway = gateway(&Config::with(&[&engine])).await;
    let answer = gateway.client().post(CHAT, &saying("m", "one two three four five six seven")).await;
    assert_refused(&answer, 400, "invalid_request_error", "context_length_exceeded");
}

#[tokio::test]
async fn engines_failures_are_told_apart() {
    let (engine, gateway) = single().await;
    for (status, expected) in [
        (401, (502, "upstream_error", "upstream_auth_error")),
        (402, (502, "upstream_error", "upstream_auth_error")),
        (403, (502, "upstream_error", "upstream_auth_error")),
        (404, (404, "invalid_request_error", "model_not_found")),
        (500, (502, "upstream_error", "upstream_error")),
        (502, (502, "upstream_error", "upstream_error")),
    ] {
        engine.set(engine.behaviour().failing(status));
        let answer = gateway.client().chat("m").await;
        assert_refused(&answer, expected.0, expected.1, expected.2);
        // A success in between, so that the breaker stays out of it.
        engine.update(|behaviour| behaviour.status = None);
        assert_eq!(gateway.client().chat("m").await.status, 200);
    }
}

#[tokio::test]
async fn an_engines_rate_limit_is_429_with_its_retry_after() {
    let (engine, gateway) = single().await;
    let limit = ForcedStatus::new(429).again_in(Duration::from_secs(7), RetryForm::Seconds);
    engine.update(|behaviour| behaviour.status = Some(limit));
    let answer = gateway.client().chat("m").await;
    assert_refused(&answer, 429, "rate_limit_error", "rate_limit_exceeded");
    assert_eq!(answer.header("retry-after"), "7");
}

#[tokio::test]
async fn replies_that_no_api_promises_are_502_and_not_shown() {
    let page = "<html>http://10.1.2.3:8000 secret</html>";
    let redirect = "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
    for script in [
        Script::replying("text/html", page).await,
        Script::replying("application/json", "not json").await,
        Script::replying("text/plain", page).await,
        Script::saying(redirect).await,
        Script::saying("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{")
            .await,
        Script::saying("nonsense").await,
    ] {
        let gateway = before(&script).await;
        let answer = gateway.client().chat("m").await;
        let (status, kind, _) = answer.refusal();
        assert_eq!((status, kind.as_str()), (502, "upstream_error"), "{}", answer.text());
        assert!(
            !answer.text().contains("secret") && !answer.text().contains("10.1.2.3"),
            "{}",
            answer.text()
        );
        assert_eq!(answer.header("location"), "");
    }
}

#[tokio::test]
async fn addresses_in_an_engines_words_are_removed() {
    let body = r#"{"error":{"message":"bad field, see http://10.1.2.3:8000/docs or 10.1.2.3:8000"}}"#;
    let length = body.len();
    let reply = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let script = Script::saying(reply).await;
    let gateway = before(&script).await;
    let answer = gateway.client().chat("m").await;
    assert_refused(&answer, 400, "invalid_request_error", "upstream_rejected");
    assert!(answer.text().contains("bad field") && !answer.text().contains("10.1.2.3"), "{}", answer.text());
}

#[tokio::test]
async fn an_engine_that_never_begins_is_504() {
    let (engine, _) = single().await;
    let timeouts = json!({"first_token_s": 0.2, "total_s": 0.4});
    let gateway = gateway(&Config::with(&[&engine]).set("/backends/0/timeouts", timeouts)).await;
    engine.update(|behaviour| behaviour.hang_before_head = true);
    let plain = gateway.client().chat("m").await;
    assert_refused(&plain, 504, "upstream_error", "upstream_timeout");
    let streamed = gateway.client().post(CHAT, &with(saying("m", "hi"), json!({"stream": true}))).await;
    assert_refused(&streamed, 504, "upstream_error", "first_token_timeout");
}

#[tokio::test]
async fn a_full_backend_is_503_with_retry_after() {
    let (engine, _) = single().await;
    let config = Config::with(&[&engine]).set("/backends/0/max_in_flight", 1);
    let gateway = gateway(&config.set("/routing/queue/max_waiting", 0)).await;
    engine.update(|behaviour| behaviour.hang_before_head = true);
    let mut waiting = tokio::task::JoinSet::new();
    let client = gateway.client();
    waiting.spawn(async move { client.chat("m").await });
    engine.until(|counters| counters.received == 1).await;
    let refused = gateway.client().chat("m").await;
    assert_refused(&refused, 503, "unavailable_error", "overloaded");
    assert_eq!(refused.header("retry-after"), "1");
    engine.update(|behaviour| behaviour.hang_before_head = false);
    assert_eq!(waiting.join_next().await.expect("an answer").expect("no panic").status, 200);
}

#[tokio::test]
async fn a_dead_backend_is_503_and_its_address_stays_unsaid() {
    let (mut engine, gateway) = single().await;
    engine.die().await;
    let answer = gateway.client().chat("m").await;
    assert_refused(&answer, 503, "unavailable_error", "no_backend_available");
    assert_ne!(answer.header("retry-after"), "");
    assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    assert_eq!(code(&answer).0, 503);
}
