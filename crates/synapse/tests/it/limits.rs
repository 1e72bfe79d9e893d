//! What keys may spend: what callers are told, what is counted, and what outlasts a restart.

use std::time::Duration;

use serde_json::{Value, json};
use synapse_testkit::{Answer, Config, Engine, Gateway, KEY, Script};

use crate::start::{code, gateway, saying, setup, with};

/// A configuration whose one key has these limits.
fn limited(engine: &Engine, limits: Value) -> Config {
    Config::with(&[engine]).set("/auth/static_keys", json!([{"id": "it", "secret": KEY, "limits": limits}]))
}

async fn start(limits: Value) -> (Engine, Gateway) {
    let engine = Engine::serving("one", "m").await;
    let gateway = gateway(&limited(&engine, limits)).await;
    (engine, gateway)
}

/// Asks for so many tokens at most.
async fn ask(gateway: &Gateway, max_tokens: u32) -> Answer {
    let body = with(saying("m", "hi"), json!({"max_tokens": max_tokens}));
    gateway.client().post("/v1/chat/completions", &body).await
}

fn left(answer: &Answer, what: &str) -> (String, String) {
    let header = |part: &str| answer.header(&format!("x-ratelimit-{part}-{what}")).to_owned();
    (header("limit"), header("remaining"))
}

fn numbers(limit: u64, remaining: u64) -> (String, String) {
    (limit.to_string(), remaining.to_string())
}

#[tokio::test]
async fn replies_say_what_is_left_and_a_refusal_says_why_and_until_when() {
    let (engine, gateway) = start(json!({"requests": {"count": 2, "window_s": 3600}})).await;
    let first = gateway.client().chat("m").await;
    assert_eq!((first.status, left(&first, "requests")), (200, numbers(2, 1)));
    assert!(first.header("x-ratelimit-reset-requests").starts_with("1h"), "{:?}", first.headers);
    assert_eq!(left(&first, "tokens"), (String::new(), String::new()), "there is no such limit");
    let stream = gateway.client().stream("m").await;
    assert!(stream.is_done());
    assert_eq!(left(&stream, "requests"), numbers(2, 0));

    let refused = gateway.client().chat("m").await;
    assert_eq!(refused.refusal(), (429, "rate_limit_error".to_owned(), "rate_limit_exceeded".to_owned()));
    assert_eq!(left(&refused, "requests"), numbers(2, 0));
    let error = refused.json()["error"].clone();
    let message = error["message"].as_str().expect("a message");
    assert!(
        message.starts_with("This API key may have 2 requests in 3600 s: 2 used + 1 requested = 3."),
        "{message}"
    );
    let details = &error["details"];
    assert_eq!(
        (&details["scope"], &details["limit"], &details["used"]),
        (&json!("key"), &json!(2), &json!(2))
    );
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((3500..=3660).contains(&wait) && details["resets_in_s"] == json!(wait), "{wait} {details}");
    assert!(details["resets_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{details}");
    assert_eq!(engine.counters().received, 2, "nobody was asked in vain");
    let limited = gateway
        .metrics()
        .await
        .sum("synapse_rate_limited_total", &[("team", "default"), ("limit", "requests")]);
    assert_eq!(limited, 1.0);
}

#[tokio::test]
async fn tokens_are_reserved_by_what_is_asked_for_and_settled_by_what_was_used() {
    let (_engine, gateway) = start(json!({"tokens_per_minute": 1000})).await;
    let reserved = left(&ask(&gateway, 500).await, "tokens");
    assert_eq!(reserved.0, "1000");
    assert!((450..500).contains(&reserved.1.parse::<u32>().expect("a number")), "{reserved:?}");
    gateway.logs().accesses_reach(1).await;
    let settled = left(&ask(&gateway, 400).await, "tokens").1.parse::<u32>().expect("a number");
    assert!((560..600).contains(&settled), "most of the first came back: {settled}");
    gateway.logs().accesses_reach(2).await;
    let refused = ask(&gateway, 990).await;
    assert_eq!(code(&refused), (429, "token_limit_exceeded".to_owned()));
    let impossible = ask(&gateway, 2000).await;
    assert_eq!(code(&impossible), (429, "token_limit_exceeded".to_owned()));
    assert!(impossible.text().contains("This request alone is more than that"), "{}", impossible.text());
    assert_eq!(impossible.header("retry-after"), "");
}

#[tokio::test]
async fn a_stream_counts_by_its_engines_word_or_by_what_flowed() {
    let chunk = |delta: &str| {
        format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": delta}}]}))
    };
    let stop =
        format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}));
    let events: String = (0..40).map(|_| chunk("x")).chain([stop, "data: [DONE]\n\n".to_owned()]).collect();
    let script = Script::streaming(&events).await;
    let config = Config::new()
        .backend_at("script", "openai", &script.url())
        .model("m", &[json!({"backend": "script", "model": "m"})])
        .set("/auth/static_keys", json!([{"id": "it", "secret": KEY, "limits": {"tokens_per_day": 5000}}]));
    let gateway = setup().without_discovery().start(&config).await;
    assert!(gateway.client().stream("m").await.is_done());
    let line = &gateway.logs().accesses_reach(1).await[0];
    assert_eq!((&line["usage_estimated"], &line["output_tokens"]), (&json!(true), &json!(42)), "{line}");
    let after = left(&gateway.client().stream("m").await, "tokens").1.parse::<i64>().expect("a number");
    let prompt = line["input_tokens"].as_i64().expect("a number");
    assert_eq!(after, 5000 - (42 + prompt) - (1024 + prompt), "the first is settled, the second reserved");
}

#[tokio::test]
async fn a_caller_who_leaves_gives_its_place_back_and_pays_for_what_flowed() {
    let (engine, gateway) = start(json!({"concurrent": 1, "tokens_per_day": 100_000})).await;
    engine.update(|behaviour| (behaviour.itl, behaviour.tokens) = (Duration::from_millis(20), 100_000));
    let mut stream = gateway.client().open("m").await;
    stream.until("content").await;
    let second = gateway.client().chat("m").await;
    assert_eq!(code(&second), (429, "concurrency_limit_exceeded".to_owned()));
    assert_eq!(second.header("retry-after"), "1");
    drop(stream);
    let lines = gateway.logs().accesses_reach(2).await;
    let left_early = lines.iter().find(|line| line["outcome"] == "cancelled").expect("a line");
    assert_eq!(left_early["usage_estimated"], json!(true), "{left_early}");
    assert!(left_early["output_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{left_early}");
    engine.update(|behaviour| (behaviour.itl, behaviour.tokens) = (Duration::ZERO, 8));
    let next = gateway.client().chat("m").await;
    assert_eq!(next.status, 200);
    let flowed = 100_000 - 1024 - left(&next, "tokens").1.parse::<u64>().expect("a number");
    assert!((10..2000).contains(&flowed), "{flowed}");
}

#[tokio::test]
async fn what_reached_no_engine_costs_no_tokens_but_counts_as_a_request() {
    let limits = json!({"tokens_per_day": 3000, "requests": {"count": 10, "window_s": 3600}});
    let (mut engine, gateway) = start(limits).await;
    engine.set(engine.behaviour().failing(400));
    assert_eq!(gateway.client().chat("m").await.status, 400);
    engine.die().await;
    assert!(gateway.client().chat("m").await.status >= 500);
    gateway.logs().accesses_reach(2).await;
    let third = gateway.client().chat("m").await;
    assert_eq!(left(&third, "requests"), numbers(10, 7));
    assert!(left(&third, "tokens").1.parse::<u32>().expect("a number") > 1900, "{:?}", third.headers);
}

/// A tenth to spend a day, and eight tokens at a price of 0.01 each.
fn budgeted(engine: &Engine) -> Config {
    limited(engine, json!({"cost_per_day": 0.1}))
        .set("/prices/models", json!([{"model": "m", "output_per_million": 10_000}]))
}

#[tokio::test]
async fn a_budget_closes_when_it_is_spent_and_a_restart_does_not_open_it() {
    let engine = Engine::serving("one", "m").await;
    let gateway = gateway(&budgeted(&engine)).await;
    let answer = ask(&gateway, 9).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let line = &gateway.logs().accesses_reach(1).await[0];
    assert_eq!((&line["cost"], &line["usage_estimated"]), (&json!(0.08), &Value::Null), "{line}");
    let refused = ask(&gateway, 9).await;
    assert_eq!(code(&refused), (429, "budget_exceeded".to_owned()));
    let details = refused.json()["error"]["details"].clone();
    assert_eq!(
        (&details["limit_name"], &details["limit"], &details["used"], &details["requested"]),
        (&json!("cost_per_day"), &json!("0.1"), &json!("0.08"), &json!("0.09"))
    );
    let cost = gateway.metrics().await.sum("synapse_cost_total", &[("model", "m"), ("team", "default")]);
    assert!((cost - 0.08).abs() < 1e-9, "{cost}");

    let gateway = gateway.restart().await;
    assert_eq!(code(&ask(&gateway, 9).await), (429, "budget_exceeded".to_owned()));
    let cheap = ask(&gateway, 2).await;
    assert_eq!(cheap.status, 200, "what is left can still be spent: {}", cheap.text());
}

#[tokio::test]
async fn what_a_fallback_may_cost_is_reserved_as_well() {
    let (first, second) = (Engine::serving("one", "m").await, Engine::serving("two", "spare").await);
    let key = |id: &str, models: &[&str]| {
        let limits = json!({"cost_per_day": 0.1});
        json!({"id": id, "secret": id, "models": models, "limits": limits})
    };
    let model = |name: &str, [backend, own]: [&str; 2], more: Value| {
        with(json!({"name": name, "deployments": [{"backend": backend, "model": own}]}), more)
    };
    let config = Config::with(&[&first, &second])
        .set("/auth/static_keys", json!([key("all", &["*"]), key("some", &["cheap", "large"])]))
        .push("models", model("cheap", ["one", "m"], json!({"fallbacks": ["dear"]})))
        .push("models", model("large", ["one", "m"], json!({"context_fallbacks": ["cheap"]})))
        .push("models", model("dear", ["two", "spare"], json!({})))
        .set("/prices/models", json!([{"model": "dear", "output_per_million": 10_000}]));
    let gateway = gateway(&config).await;
    let ask = async |key: &str, model: &str| {
        let body = with(saying(model, "hi"), json!({"max_tokens": 20}));
        gateway.client_with(key).post("/v1/chat/completions", &body).await
    };
    assert_eq!(code(&ask("all", "dear").await), (429, "budget_exceeded".to_owned()));
    assert_eq!(code(&ask("all", "cheap").await), (429, "budget_exceeded".to_owned()));
    for model in ["cheap", "large"] {
        assert_ne!(ask("some", model).await.status, 429, "its key may not use what is dear");
    }
    let wish = json!({"max_tokens": 20, "models": ["dear"]});
    let wish = with(saying("large", "hi"), wish);
    let wished = gateway.client_with("all").post("/v1/chat/completions", &wish).await;
    assert_eq!(code(&wished), (429, "budget_exceeded".to_owned()));
}

#[tokio::test]
async fn a_killed_gateway_remembers_what_it_had_saved() {
    let engine = Engine::serving("one", "m").await;
    let mut gateway = gateway(&budgeted(&engine)).await;
    let file = gateway.folder().join("data/counters.db-wal");
    let length = || std::fs::metadata(&file).expect("a log of changes").len();
    let before = length();
    assert_eq!(ask(&gateway, 9).await.status, 200);
    let written = async || (length() > before).then_some(());
    gateway.until("the counters to be saved", written).await;
    gateway.die();
    let gateway = gateway.start_again().await;
    assert_eq!(code(&ask(&gateway, 9).await), (429, "budget_exceeded".to_owned()));
}

#[tokio::test]
async fn keys_of_a_team_share_its_limits_and_a_change_acts_on_the_next_request() {
    let engine = Engine::serving("one", "m").await;
    let gateway = gateway(&Config::with(&[&engine])).await;
    gateway.cli_json(&["team", "create", "lab", "--requests", "3/3600s"]).await;
    let mut keys = Vec::new();
    for _ in 0..2 {
        let flags = ["key", "create", "--team", "lab", "--model", "*", "--requests", "2/3600s"];
        let made = gateway.cli_json(&[&flags[..], &["--data-class", "non_sensitive"]].concat()).await;
        keys.push((
            made["key"].as_str().expect("a key").to_owned(),
            made["id"].as_str().expect("an id").to_owned(),
        ));
    }
    let (first, second) = (gateway.client_with(&keys[0].0), gateway.client_with(&keys[1].0));
    gateway.until("the key", async || (first.get("/v1/models").await.status == 200).then_some(())).await;
    gateway.until("the key", async || (second.get("/v1/models").await.status == 200).then_some(())).await;
    assert_eq!([first.chat("m").await.status, first.chat("m").await.status], [200, 200]);
    let scope =
        |answer: &Answer| answer.json()["error"]["details"]["scope"].as_str().unwrap_or_default().to_owned();
    assert_eq!(scope(&first.chat("m").await), "key");
    let last = second.chat("m").await;
    assert_eq!((last.status, left(&last, "requests")), (200, numbers(3, 0)));
    let refused = second.chat("m").await;
    assert_eq!((refused.status, scope(&refused).as_str()), (429, "team"));
    assert!(
        refused.text().contains("The team `lab` may have 3 requests in 3600 s: 3 used"),
        "{}",
        refused.text()
    );
    gateway.cli_json(&["team", "update", "lab", "--requests", "10/3600s"]).await;
    gateway.until("more", async || (second.chat("m").await.status == 200).then_some(())).await;
    assert_eq!(scope(&second.chat("m").await), "key");
}

#[tokio::test]
async fn nothing_is_said_of_a_redis_where_there_is_none() {
    let (_engine, gateway) = start(json!({"requests": {"count": 2, "window_s": 3600}})).await;
    let scrape = gateway.metrics().await;
    assert!(!scrape.text().contains("redis_up"), "{}", scrape.text());
}

#[tokio::test]
async fn what_was_used_today_and_this_month_is_shown_beside_the_limits() {
    let engine = Engine::serving("one", "m").await;
    let gateway = gateway(&Config::with(&[&engine])).await;
    gateway.cli_json(&["team", "create", "lab", "--tokens-per-day", "100000"]).await;
    let limits = ["--tokens-per-day", "50000", "--cost-per-month", "10"];
    let create = ["key", "create", "--team", "lab", "--model", "*"];
    let made = gateway.cli_json(&[&create[..], &limits].concat()).await;
    let (id, key) = (made["id"].as_str().expect("an id"), made["key"].as_str().expect("a key"));
    assert_eq!(gateway.cli_json(&["key", "show", id]).await["used"], Value::Null, "nothing is known yet");
    let client = gateway.client_with(key);
    let ask = async || (client.chat("m").await.status == 200).then_some(());
    gateway.until("the key to be known", ask).await;
    let saved = async |args: &[&str]| {
        let shown = gateway.cli_json(args).await;
        shown["used"]["tokens_per_day"].as_u64().filter(|tokens| (1..1000).contains(tokens)).map(|_| shown)
    };
    let of_key = gateway.until("the key's count", async || saved(&["key", "show", id]).await).await;
    assert_eq!(of_key["used"]["cost_per_month"], "0", "{of_key}");
    gateway.until("the team's count", async || saved(&["team", "show", "lab"]).await).await;
    let shown = gateway.cli(&["key", "show", id]).await.stdout;
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("used today") && shown.contains("used this month"), "{shown}");
}
