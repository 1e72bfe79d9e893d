//! Streams that go wrong, or look as if.

use serde_json::json;
use synapse_simulator::InterruptionKind;
use synapse_testkit::{Answer, Config, Engine, Script};

use crate::start::{before, code, gateway, single};

const CONTENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";
const FINISH: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

/// What a caller gets of a stream with these events.
async fn streamed(events: &str) -> Answer {
    let script = Script::streaming(events).await;
    before(&script).await.client().stream("m").await
}

#[tokio::test]
async fn an_end_after_the_finish_reason_is_complete_even_without_done() {
    let answer = streamed(&format!("{CONTENT}{FINISH}")).await;
    assert_eq!((answer.content().as_str(), answer.is_done()), ("Hello", true), "{}", answer.text());
}

#[tokio::test]
async fn an_end_without_a_finish_reason_is_a_truncation() {
    let answer = streamed(&CONTENT.repeat(3)).await;
    assert_eq!(answer.content(), "HelloHelloHello");
    assert_eq!((answer.broken_by().as_str(), answer.is_done()), ("upstream_truncated", false));
}

#[tokio::test]
async fn a_last_event_without_its_blank_line_counts() {
    let answer = streamed(format!("{CONTENT}{FINISH}data: [DONE]").as_str()).await;
    assert!(answer.is_done() && answer.broken_by().is_empty(), "{}", answer.text());
}

#[tokio::test]
async fn an_end_mark_without_any_content_is_no_reply() {
    let answer = streamed("data: [DONE]\n\n").await;
    assert_eq!(code(&answer), (502, "upstream_truncated".to_owned()));
}

#[tokio::test]
async fn garbage_before_any_content_is_no_reply() {
    let answer = streamed(&format!("error: {{}}\n\n{CONTENT}{FINISH}data: [DONE]\n\n")).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
}

#[tokio::test]
async fn comments_and_other_line_ends_pass() {
    let events = format!(
        ": ping\r\n\r\n{}{}data: [DONE]\r\n\r\n",
        CONTENT.replace('\n', "\r\n"),
        FINISH.replace('\n', "\r\n")
    );
    let answer = streamed(&events).await;
    assert_eq!(answer.text(), events);
}

#[tokio::test]
async fn an_error_in_the_middle_ends_the_stream_in_the_houses_own_shape() {
    // vLLM says `[DONE]` after its error; no caller may take that for success.
    let error = "data: {\"error\":{\"message\":\"out of memory at http://10.0.0.9:1\",\"code\":500}}\n\ndata: [DONE]\n\n";
    let answer = streamed(&format!("{CONTENT}{error}")).await;
    assert_eq!(
        (answer.broken_by().as_str(), answer.is_done()),
        ("upstream_error", false),
        "{}",
        answer.text()
    );
    assert!(!answer.text().contains("10.0.0.9"), "{}", answer.text());
}

#[tokio::test]
async fn garbage_before_content_is_a_refusal() {
    for garbage in
        ["data: what?\n\n", "data: {\"choices\":\n\n", "data: {\"error\":\"no\"}\n\n", "", ": only\n\n"]
    {
        let answer = streamed(garbage).await;
        assert_eq!(answer.status, 502, "{garbage}: {}", answer.text());
    }
}

#[tokio::test]
async fn an_endless_event_is_cut_off() {
    let endless = format!("data: {}", "x".repeat(2 * 1024 * 1024));
    assert_eq!(streamed(&endless).await.status, 502);
    let answer = streamed(&format!("{CONTENT}{endless}")).await;
    assert_eq!((answer.status, answer.broken_by().as_str()), (200, "upstream_invalid_response"));
    assert!(answer.body.len() < 1024 * 1024, "{}", answer.body.len());
}

#[tokio::test]
async fn a_large_event_is_no_endless_one() {
    let large = CONTENT.replace("Hello", &"x".repeat(900_000));
    let answer = streamed(&format!("{large}{FINISH}data: [DONE]\n\n")).await;
    assert_eq!((answer.content().len(), answer.is_done()), (900_000, true));
}

#[tokio::test]
async fn a_stall_in_the_middle_ends_when_its_time_is_over() {
    let engine = Engine::serving("one", "m").await;
    let gateway =
        gateway(&Config::with(&[&engine]).set("/backends/0/timeouts", json!({"idle_s": 0.3}))).await;
    engine.set(engine.behaviour().interrupted(4, InterruptionKind::Stall));
    let answer = gateway.client().stream("m").await;
    assert_eq!(
        (answer.broken_by().as_str(), answer.is_done()),
        ("upstream_timeout", false),
        "{}",
        answer.text()
    );
    engine.until(|counters| counters.aborted == 1).await;
}

#[tokio::test]
async fn the_total_time_ends_a_stream_that_never_pauses() {
    let engine = Engine::serving("one", "m").await.paced(std::time::Duration::from_millis(20));
    engine.update(|behaviour| behaviour.tokens = 2_000);
    let gateway =
        gateway(&Config::with(&[&engine]).set("/backends/0/timeouts", json!({"total_s": 0.5}))).await;
    let answer = gateway.client().stream("m").await;
    assert_eq!(
        (answer.broken_by().as_str(), answer.is_done()),
        ("upstream_timeout", false),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_caller_who_does_not_read_holds_up_nobody_else() {
    let (engine, gateway) = single().await;
    engine.update(|behaviour| behaviour.tokens = 20_000);
    let mut unread = Vec::new();
    for _ in 0..10 {
        unread.push(gateway.client().open("m").await);
    }
    engine.update(|behaviour| behaviour.tokens = 8);
    assert!(gateway.client().stream("m").await.is_done());
    for stream in unread {
        assert!(stream.finish().await.is_done());
    }
}

#[tokio::test]
async fn sound_that_breaks_off_does_not_end_as_if_it_were_whole() {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: audio/wav\r\ntransfer-encoding: chunked\r\n\r\n4\r\nRIFF\r\n";
    let script = Script::saying(head).await;
    let gateway = before(&script).await;
    let client = gateway.client();
    let body = json!({"model": "m", "input": "hi", "voice": "a"}).to_string();
    let request = client.request(hyper::Method::POST, "/v1/audio/speech", body);
    let answer = client.try_send(request).await;
    assert!(answer.as_ref().is_ok_and(|answer| answer.broken) || answer.is_err(), "{answer:?}");
    assert_eq!(gateway.logs().accesses_reach(1).await[0]["outcome"], "failed");
}
