//! What an engine can carry: slots, slowdown, prompts, the prefix cache, and models that come and go.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use synapse_simulator::{Engine, InterruptionKind, Options};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{self, Sim, json_request, options, start};

const CHAT: &str = "/v1/chat/completions";
const SECOND: Duration = Duration::from_secs(1);

fn saying(text: &str) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": text}]})
}

/// Calls at once; when all of them are answered.
async fn together(sim: &Sim, calls: usize) {
    let mut callers = JoinSet::new();
    for _ in 0..calls {
        let mut caller = sim.connect().await;
        callers.spawn(async move { caller.post(CHAT, &saying("hi")).await.status });
    }
    assert!(callers.join_all().await.iter().all(|status| *status == StatusCode::OK));
}

#[tokio::test]
async fn a_full_engine_works_in_turns() {
    tokio::time::pause();
    let sim = start(Options { ttft: 10 * SECOND, slots: Some(2), ..options() }).await;
    let began = Instant::now();
    together(&sim, 6).await;
    assert_eq!(began.elapsed().as_secs(), 30);
    let counters = sim.control.counters();
    assert_eq!((counters.peak_running, counters.running, counters.waiting), (2, 0, 0));
}

#[tokio::test]
async fn slots_are_added_while_calls_wait() {
    let sim = start(Options { slots: Some(1), ..options() }).await;
    sim.control.update(|behaviour| behaviour.hang_before_head = true);
    let mut callers = JoinSet::new();
    for _ in 0..3 {
        let mut caller = sim.connect().await;
        callers.spawn(async move { caller.post(CHAT, &saying("hi")).await.status });
    }
    sim.control.until(|counters| (counters.running, counters.waiting) == (1, 2)).await;
    sim.control.update(|behaviour| behaviour.slots = Some(3));
    sim.control.until(|counters| (counters.running, counters.waiting) == (3, 0)).await;
    sim.control.update(|behaviour| behaviour.hang_before_head = false);
    assert_eq!(callers.join_all().await, [StatusCode::OK; 3]);
}

#[tokio::test]
async fn each_further_call_slows_all_of_them_down() {
    tokio::time::pause();
    let sim = start(Options { ttft: 10 * SECOND, ..options() }).await;
    sim.control.update(|behaviour| {
        behaviour.slowdown = 0.5;
        // Calls that come together see each other.
        behaviour.hang_before_head = true;
    });
    let began = Instant::now();
    let lift = async {
        sim.control.until(|counters| counters.running == 3).await;
        sim.control.update(|behaviour| behaviour.hang_before_head = false);
    };
    tokio::join!(together(&sim, 3), lift);
    assert_eq!(began.elapsed().as_secs(), 20, "twice the time beside two others");
    let again = Instant::now();
    together(&sim, 1).await;
    assert_eq!(again.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn a_prompt_takes_its_time_unless_the_cache_has_it() {
    tokio::time::pause();
    let sim = start(options()).await;
    sim.control.update(|behaviour| behaviour.prefill = SECOND);
    let prompt = vec!["word"; 64].join(" ");
    let mut caller = sim.connect().await;
    for (asked, seconds, cached) in [(&prompt, 64, 0), (&prompt, 0, 64), (&format!("{prompt} more"), 1, 64)] {
        let began = Instant::now();
        let answer = caller.post(CHAT, &saying(asked)).await.json();
        assert_eq!(began.elapsed().as_secs(), seconds);
        assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], cached);
    }
    let totals = sim.control.totals();
    assert_eq!((totals.prompt_tokens, totals.cached_tokens, totals.cached_blocks), (193, 128, 4));
    assert_eq!(sim.get("/_sim").await.json()["tokens"]["cached_tokens"], 128);
}

#[tokio::test]
async fn a_conversation_s_next_turn_finds_the_turns_before_in_the_cache() {
    let sim = client::engine(Engine::Vllm).await;
    let turn = |role: &str, word: &str| json!({"role": role, "content": vec![word; 32].join(" ")});
    let mut messages = vec![turn("system", "be"), turn("user", "why")];
    let mut caller = sim.connect().await;
    caller.post(CHAT, &json!({"model": "m", "messages": messages})).await;
    messages.extend([turn("assistant", "so"), turn("user", "and")]);
    let answer = caller.post(CHAT, &json!({"model": "m", "messages": messages})).await.json();
    assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 64);
    let page = sim.get("/metrics").await;
    assert!(page.text().contains("vllm:prefix_cache_hits_total{model_name=\"m\"} 64"), "{}", page.text());
}

#[tokio::test]
async fn a_small_cache_forgets_what_was_used_longest_ago() {
    let sim = client::engine(Engine::OpenAi).await;
    sim.control.update(|behaviour| behaviour.cache_blocks = 2);
    let mut caller = sim.connect().await;
    let mut cached = async |word: &str| {
        let answer = caller.post(CHAT, &saying(&vec![word; 32].join(" "))).await.json();
        answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    assert_eq!([cached("one").await, cached("one").await], [0, 32]);
    assert_eq!([cached("two").await, cached("one").await], [0, 0]);
}

#[tokio::test]
async fn a_router_loads_a_model_for_the_first_call_and_lets_it_sleep() {
    tokio::time::pause();
    let sim = client::engine(Engine::LlamaCpp).await;
    sim.control.update(|behaviour| {
        behaviour.load = 5 * SECOND;
        behaviour.sleep_after = Some(60 * SECOND);
    });
    let status = async |path| sim.get(path).await.json()["data"][0]["status"]["value"].clone();
    assert_eq!(status("/v1/models").await, "unloaded");
    let began = Instant::now();
    assert_eq!(sim.post("/models/load", &json!({"model": "m"})).await.json(), json!({"success": true}));
    assert_eq!(status("/models").await, "loading");
    sim.post(CHAT, &saying("hi")).await;
    assert_eq!(began.elapsed().as_secs(), 5, "the call waited for the model");
    assert_eq!(status("/models").await, "loaded");
    tokio::time::advance(60 * SECOND).await;
    assert_eq!(status("/models").await, "sleeping");
    assert_eq!(sim.get("/props").await.json()["is_sleeping"], true);
    let woken = Instant::now();
    sim.post(CHAT, &saying("hi")).await;
    assert_eq!(woken.elapsed().as_secs(), 5);
    assert_eq!(sim.control.counters().received, 2, "to manage models is no call");
}

#[tokio::test]
async fn a_full_router_can_be_asked_for_a_free_slot() {
    let sim = start(Options { engine: Engine::LlamaCpp, slots: Some(1), ..options() }).await;
    let asked = "/slots?fail_on_no_slot=1";
    assert_eq!(sim.get(asked).await.status, StatusCode::OK);
    sim.control.update(|behaviour| *behaviour = behaviour.clone().interrupted(2, InterruptionKind::Stall));
    let mut caller = sim.connect().await;
    let chat = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let _stalled = caller.send(json_request(CHAT, &chat)).await.unwrap();
    assert_eq!(sim.get(asked).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(sim.get("/slots").await.json()[0]["is_processing"], true);
}

#[tokio::test]
async fn vllm_sleeps_and_wakes() {
    let sim = client::engine(Engine::Vllm).await;
    let asleep = async || sim.get("/is_sleeping").await.json()["is_sleeping"].clone();
    sim.post(CHAT, &saying(&vec!["word"; 16].join(" "))).await;
    assert_eq!(sim.post("/sleep?level=1", &json!({})).await.status, StatusCode::OK);
    assert_eq!(asleep().await, true);
    assert_eq!(sim.control.totals().cached_blocks, 0);
    let wake = async {
        sim.control.until(|counters| counters.running == 1).await;
        sim.post("/wake_up", &json!({})).await;
    };
    let mut caller = sim.connect().await;
    let asked = saying("hi");
    let (answer, ()) = tokio::join!(caller.post(CHAT, &asked), wake);
    assert_eq!((answer.status, asleep().await), (StatusCode::OK, json!(false)));
}
