//! Failing over: when another backend is asked, and when not.

use std::time::Duration;

use serde_json::json;
use synapse_simulator::{ForcedStatus, InterruptionKind, RetryForm};
use synapse_testkit::{Config, Engine, Gateway, Script};

use crate::start::{code, gateway, pair, saying, setup, with};

/// A gateway that asks the script first and the engine second.
async fn scripted(script: &Script, engine: &Engine) -> Gateway {
    let places = [
        json!({"backend": "script", "model": "m", "order": 1}),
        json!({"backend": engine.name(), "model": "m", "order": 2}),
    ];
    let config = Config::new().backend_at("script", "openai", &script.url()).backend(engine);
    setup().without_discovery().start(&config.model("m", &places)).await
}

#[tokio::test]
async fn a_backend_that_refuses_connections_costs_nobody_anything() {
    let (mut first, second, gateway) = pair().await;
    first.die().await;
    for _ in 0..5 {
        let answer = gateway.client().chat("m").await;
        assert_eq!((answer.status, answer.header("x-synapse-backend")), (200, "second"));
    }
    assert_eq!(second.counters().received, 5);
}

#[tokio::test]
async fn an_engine_that_fails_is_passed_over_for_the_next() {
    // A breaker or a pause of one failure must not hide what the next one does.
    for status in [500, 502, 503, 504, 429, 401, 404, 405, 501] {
        let (first, second, gateway) = pair().await;
        first.set(first.behaviour().failing(status));
        let answer = gateway.client().chat("m").await;
        let served = (answer.status, answer.header("x-synapse-backend"), answer.header("x-synapse-attempts"));
        assert_eq!(served, (200, "second", "2"), "{status}");
        assert_eq!((first.counters().received, second.counters().completed), (1, 1), "{status}");
        let fallbacks = [("model", "m"), ("from", "first"), ("to", "second")];
        assert_eq!(gateway.metrics().await.sum("synapse_fallbacks_total", &fallbacks), 1.0, "{status}");
    }
}

#[tokio::test]
async fn a_backend_without_the_model_is_a_last_choice_and_costs_no_retries() {
    let (has, lacks) = (Engine::serving("has", "m").await, Engine::serving("lacks", "other").await);
    let places = [
        json!({"backend": "lacks", "model": "gone", "order": 1}),
        json!({"backend": "has", "model": "m", "order": 2}),
    ];
    let gateway =
        gateway(&Config::with(&[&lacks, &has]).model("m", &places).set("/routing/retry_budget", 0.0)).await;
    for _ in 0..40 {
        assert_eq!(gateway.client().chat("m").await.status, 200);
    }
    assert_eq!(lacks.counters().received, 1, "it is not asked again and again");
}

#[tokio::test]
async fn a_caller_in_a_hurry_is_no_failure_of_the_backend() {
    let engine = Engine::serving("one", "m").await.that(|behaviour| behaviour.hang_before_head = true);
    let gateway = gateway(&Config::with(&[&engine])).await;
    let client = gateway.client();
    for streamed in [false, true, false, true, false, true] {
        let mut body = saying("m", "hi");
        body["stream"] = streamed.into();
        let hurried = client.clone().with("x-request-timeout", "0.05");
        let answer = hurried.post("/v1/chat/completions", &body).await;
        assert_eq!(answer.status, 504, "{}", answer.text());
    }
    engine.update(|behaviour| behaviour.hang_before_head = false);
    let patient = client.chat("m").await;
    assert_eq!(patient.status, 200, "its breaker is closed: {}", patient.text());
}

#[tokio::test]
async fn a_time_that_is_none_is_refused() {
    let engine = Engine::serving("one", "m").await;
    let gateway = gateway(&Config::with(&[&engine])).await;
    for time in ["soon", "-1", "0", "NaN", "1e300"] {
        let answer = gateway
            .client()
            .with("x-request-timeout", time)
            .post("/v1/chat/completions", &saying("m", "hi"))
            .await;
        assert_eq!(code(&answer), (400, "invalid_field".to_owned()), "{time}");
        assert!(answer.text().contains("x-request-timeout"), "{}", answer.text());
    }
    assert_eq!(engine.counters().received, 0);
}

#[tokio::test]
async fn the_reply_and_the_metrics_name_the_model_that_served() {
    let (first, second) = (Engine::serving("first", "m").await, Engine::serving("second", "spare").await);
    first.set(first.behaviour().failing(500));
    let config = Config::with(&[&first, &second]).model("m", &[json!({"backend": "first", "model": "m"})]);
    let gateway = gateway(&config.set("/models/0/fallbacks", json!(["spare"]))).await;
    let answer = gateway.client().chat("m").await;
    assert_eq!((answer.header("x-synapse-model"), answer.header("x-synapse-backend")), ("spare", "second"));
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("synapse_requests_total", &[("model", "spare"), ("backend", "second")]), 1.0);
    assert_eq!(metrics.sum("synapse_tokens_total", &[("model", "m")]), 0.0);
}

#[tokio::test]
async fn a_wrong_request_is_not_sent_again() {
    let (first, second, gateway) = pair().await;
    first.set(first.behaviour().failing(400));
    assert_eq!(gateway.client().chat("m").await.status, 400);
    assert_eq!((first.counters().received, second.counters().received), (1, 0));
}

#[tokio::test]
async fn a_stream_that_breaks_before_content_begins_anew_elsewhere() {
    use InterruptionKind as K;
    // The first event is the role; no caller would miss it.
    for (after, kind) in
        [0, 1].into_iter().flat_map(|at| [K::Reset, K::Eof, K::Error, K::Malformed].map(|k| (at, k)))
    {
        let (first, second, gateway) = pair().await;
        first.set(first.behaviour().interrupted(after, kind));
        let answer = gateway.client().stream("m").await;
        assert!(answer.is_done() && answer.broken_by().is_empty(), "{after} {kind:?}: {}", answer.text());
        assert_eq!(answer.header("x-synapse-backend"), "second", "{after} {kind:?}");
        assert_eq!(second.counters().received, 1);
        let roles = answer.chunks().iter().filter(|c| c["choices"][0]["delta"]["role"].is_string()).count();
        assert_eq!(roles, 1, "nothing of the first attempt is shown: {}", answer.text());
    }
}

#[tokio::test]
async fn a_stall_before_content_ends_in_time_and_begins_anew_elsewhere() {
    let (first, second) = (Engine::serving("first", "m").await, Engine::serving("second", "m").await);
    let config =
        Config::in_order("m", &[&first, &second]).set("/backends/0/timeouts", json!({"first_token_s": 0.2}));
    let gateway = gateway(&config).await;
    first.set(first.behaviour().interrupted(1, InterruptionKind::Stall));
    let answer = gateway.client().stream("m").await;
    assert_eq!((answer.header("x-synapse-backend"), answer.is_done()), ("second", true));
    first.until(|counters| counters.aborted == 1).await;
}

#[tokio::test]
async fn after_content_a_broken_stream_is_never_begun_anew() {
    use InterruptionKind as K;
    for kind in [K::Reset, K::Eof, K::Error] {
        let (first, second, gateway) = pair().await;
        first.set(first.behaviour().interrupted(4, kind));
        let answer = gateway.client().stream("m").await;
        assert_eq!(answer.status, 200);
        assert!(!answer.content().is_empty(), "{}", answer.text());
        assert!(!answer.is_done() && !answer.broken, "{kind:?}: {}", answer.text());
        assert!(answer.broken_by().starts_with("upstream_"), "{kind:?}: {}", answer.text());
        assert_eq!(second.counters().received, 0, "{kind:?}");
    }
}

#[tokio::test]
async fn a_plain_reply_that_breaks_is_asked_for_elsewhere() {
    let second = Engine::serving("second", "m").await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n";
    for reply in [head.to_owned(), format!("{head}{{\"id\":"), "garbage\r\n\r\n".to_owned(), String::new()] {
        let script = Script::saying(reply.clone()).await;
        let gateway = scripted(&script, &second).await;
        let answer = gateway.client().chat("m").await;
        assert_eq!((answer.status, answer.header("x-synapse-backend")), (200, "second"), "{reply}");
        assert_eq!(script.calls(), 1);
    }
}

#[tokio::test]
async fn what_an_engine_may_have_kept_is_not_sent_twice() {
    let (mut first, second, gateway) = pair().await;
    first.set(first.behaviour().failing(500));
    let stored = json!({"model": "m", "input": "hi"});
    let client = gateway.client();
    assert_eq!(client.post("/v1/responses", &stored).await.status, 502);
    assert_eq!(
        client.post("/v1/chat/completions", &with(saying("m", "hi"), json!({"store": true}))).await.status,
        502
    );
    assert_eq!(second.counters().received, 0);
    let unstored = with(stored.clone(), json!({"store": false}));
    assert_eq!(client.post("/v1/responses", &unstored).await.status, 200);
    // What never reached an engine, it cannot have kept.
    first.die().await;
    assert_eq!(client.post("/v1/responses", &stored).await.status, 200);
}

#[tokio::test]
async fn a_fallback_model_serves_only_those_who_may_use_it() {
    let (mut first, second) = (Engine::serving("first", "m").await, Engine::serving("second", "spare").await);
    let config = Config::with(&[&first, &second])
        .push(
            "models",
            json!({
                "name": "m", "deployments": [{"backend": "first", "model": "m"}], "fallbacks": ["spare"],
            }),
        )
        .set(
            "/auth",
            json!({"static_keys": [
                {"id": "both", "secret": "both"}, {"id": "narrow", "secret": "narrow", "models": ["m"]},
            ]}),
        );
    let gateway = gateway(&config).await;
    first.die().await;
    let answer = gateway.client_with("both").chat("m").await;
    assert_eq!((answer.status, answer.header("x-synapse-backend")), (200, "second"));
    assert_eq!(
        code(&gateway.client_with("narrow").chat("m").await),
        (503, "no_backend_available".to_owned())
    );
}

#[tokio::test]
async fn a_row_of_failures_opens_the_breaker_and_a_probe_closes_it() {
    let (first, second) = (Engine::serving("first", "m").await, Engine::serving("second", "m").await);
    let breaker = json!({"failures": 3, "open_s": 1.0});
    let gateway = gateway(&Config::in_order("m", &[&first, &second]).set("/routing/breaker", breaker)).await;
    first.set(first.behaviour().failing(500));
    for _ in 0..10 {
        assert_eq!(gateway.client().chat("m").await.status, 200);
    }
    // Unless a second has passed meanwhile, three; each further second allows one probe.
    let wasted = first.counters().received;
    assert!((3..10).contains(&wasted), "{wasted}");
    gateway.metric("synapse_breaker_state", &[("backend", "first")], |state| state > 0.0).await;
    first.update(|behaviour| behaviour.status = None);
    let healed = gateway.until("the first to serve again", async || {
        let answer = gateway.client().chat("m").await;
        assert_eq!(answer.status, 200);
        (answer.header("x-synapse-backend") == "first").then_some(())
    });
    healed.await;
}

#[tokio::test]
async fn with_every_breaker_open_the_answer_is_503_and_when_to_come_back() {
    let engine = Engine::serving("one", "m").await;
    let config =
        Config::in_order("m", &[&engine]).set("/routing/breaker", json!({"failures": 1, "open_s": 600}));
    let gateway = gateway(&config).await;
    engine.set(engine.behaviour().failing(500));
    assert_eq!(gateway.client().chat("m").await.status, 502);
    let refused = gateway.client().chat("m").await;
    assert_eq!(code(&refused), (503, "circuit_open".to_owned()));
    assert_ne!(refused.header("retry-after"), "");
    assert_eq!(engine.counters().received, 1);
}

#[tokio::test]
async fn all_at_their_rate_limit_is_429_with_the_shortest_wait() {
    let (first, second, gateway) = pair().await;
    for (engine, wait) in [(&first, 20), (&second, 40)] {
        let limit = ForcedStatus::new(429).again_in(Duration::from_secs(wait), RetryForm::Seconds);
        engine.update(|behaviour| behaviour.status = Some(limit));
    }
    for attempt in 0..2 {
        let answer = gateway.client().chat("m").await;
        assert_eq!(code(&answer), (429, "rate_limit_exceeded".to_owned()), "{attempt}");
        let wait: u32 = answer.header("retry-after").parse().expect("seconds");
        assert!((1..=20).contains(&wait), "{attempt}: {wait}");
    }
    assert_eq!((first.counters().received, second.counters().received), (1, 1), "they are left alone");
}

#[tokio::test]
async fn retries_are_bounded() {
    let engines = [
        Engine::serving("a", "m").await,
        Engine::serving("b", "m").await,
        Engine::serving("c", "m").await,
        Engine::serving("d", "m").await,
    ];
    for engine in &engines {
        engine.set(engine.behaviour().failing(500));
    }
    let gateway = gateway(&Config::with(&engines.each_ref())).await;
    assert_eq!(gateway.client().chat("m").await.status, 502);
    let asked: u64 = engines.iter().map(|engine| engine.counters().received).sum();
    assert_eq!(asked, 3, "one attempt and two more");
}
