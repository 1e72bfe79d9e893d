//! Behaviour on demand, and what a simulator notices about its callers.

use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use synapse_simulator::{Behaviour, Engine, ForcedStatus, InterruptionKind, Options, Outcome, RetryForm};
use tokio::task::JoinSet;

use crate::client::{self, Sim, json_request, options, start};

const CHAT: &str = "/v1/chat/completions";

fn chat(stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
}

async fn interrupted(after: u32, kind: InterruptionKind) -> Sim {
    let sim = client::engine(Engine::OpenAi).await;
    sim.control.set(sim.control.behaviour().interrupted(after, kind));
    sim
}

#[tokio::test]
async fn a_request_is_recorded_as_it_came() {
    let sim = client::engine(Engine::OpenAi).await;
    sim.post("/v1/chat/completions?trace=1", &chat(false)).await;
    sim.get("/v1/models").await;
    let requests = sim.control.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].path(), requests[0].target.as_str()), (CHAT, "/v1/chat/completions?trace=1"));
    assert_eq!(requests[0].headers["content-type"], "application/json");
    assert_eq!(requests[0].json(), Some(chat(false)));
    assert_eq!(requests[0].outcome, Outcome::Completed);
    assert_eq!(sim.control.probes()[0].path(), "/v1/models");
}

#[tokio::test]
async fn only_the_most_recent_requests_are_kept() {
    let sim = start(Options { record: 2, ..options() }).await;
    let mut caller = sim.connect().await;
    for _ in 0..5 {
        caller.post(CHAT, &chat(false)).await;
    }
    let numbers: Vec<u64> = sim.control.requests().iter().map(|request| request.number).collect();
    assert_eq!(numbers, [3, 4]);
    assert_eq!(sim.control.counters().completed, 5);
    assert!(sim.control.requests().iter().all(|request| request.outcome == Outcome::Completed));
}

#[tokio::test]
async fn a_caller_who_leaves_before_the_head_is_noticed() {
    let sim = client::engine(Engine::OpenAi).await;
    sim.control.update(|behaviour| behaviour.hang_before_head = true);
    let mut callers = JoinSet::new();
    for stream in [true, false] {
        let mut caller = sim.connect().await;
        callers.spawn(async move { caller.send(json_request(CHAT, &chat(stream))).await.is_ok() });
    }
    sim.control.until(|counters| counters.in_flight == 2).await;
    callers.shutdown().await;
    let counters = sim.control.until(|counters| counters.in_flight == 0).await;
    assert_eq!((counters.aborted, counters.completed), (2, 0));
    let requests = sim.control.requests();
    assert!(requests.iter().all(|request| request.outcome == Outcome::Aborted && request.ended_at.is_some()));
}

#[tokio::test]
async fn a_caller_who_leaves_in_the_middle_of_a_stream_is_noticed() {
    let sim = interrupted(3, InterruptionKind::Stall).await;
    let mut caller = sim.connect().await;
    let mut response = caller.send(json_request(CHAT, &chat(true))).await.unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    drop((response, caller));
    let counters = sim.control.until(|counters| counters.aborted == 1).await;
    assert_eq!((counters.in_flight, counters.broken), (0, 0));
}

#[tokio::test]
async fn a_caller_who_leaves_while_a_whole_reply_is_generated_is_noticed() {
    let forever = std::time::Duration::from_secs(3600);
    let sim = start(Options { ttft: forever, ..options() }).await;
    let mut caller = sim.connect().await;
    let mut calls = JoinSet::new();
    calls.spawn(async move { caller.send(json_request(CHAT, &chat(false))).await.is_ok() });
    sim.control.until(|counters| counters.in_flight == 1).await;
    calls.shutdown().await;
    sim.control.until(|counters| counters.aborted == 1).await;
}

#[tokio::test]
async fn a_reset_comes_after_exactly_as_many_events() {
    for after in [1, 3, 5] {
        let sim = interrupted(after, InterruptionKind::Reset).await;
        let answer = sim.post(CHAT, &chat(true)).await;
        assert!(answer.broken);
        assert_eq!(answer.data().len(), after as usize);
        assert_eq!(sim.control.until(|counters| counters.in_flight == 0).await.broken, 1);
    }
}

#[tokio::test]
async fn a_premature_end_looks_like_a_clean_one_but_for_the_finish_reason() {
    let sim = interrupted(3, InterruptionKind::Eof).await;
    let answer = sim.post(CHAT, &chat(true)).await;
    assert!(!answer.broken);
    assert_eq!(answer.data().len(), 3);
    assert!(answer.chunks().iter().all(|chunk| chunk["choices"][0]["finish_reason"].is_null()));
    assert_eq!(sim.control.counters().broken, 1);
}

#[tokio::test]
async fn an_error_event_ends_a_stream() {
    let sim = interrupted(0, InterruptionKind::Error).await;
    let chunks = sim.post(CHAT, &chat(true)).await.chunks();
    assert_eq!(chunks.len(), 1);
    assert_eq!(chunks[0]["error"]["type"], "server_error");
}

#[tokio::test]
async fn vllm_ends_a_failed_stream_as_if_it_were_done() {
    let sim = client::engine(Engine::Vllm).await;
    sim.control.set(sim.control.behaviour().interrupted(2, InterruptionKind::Error));
    let answer = sim.post(CHAT, &chat(true)).await;
    assert_eq!(answer.chunks().last().unwrap()["error"]["type"], "InternalServerError");
    assert_eq!(answer.data().last(), Some(&"[DONE]"));
}

#[tokio::test]
async fn a_malformed_event_stands_among_good_ones() {
    let sim = interrupted(2, InterruptionKind::Malformed).await;
    let answer = sim.post(CHAT, &chat(true)).await;
    let bad = answer.data().iter().filter(|data| serde_json::from_str::<Value>(data).is_err()).count();
    assert_eq!(bad, 2, "the malformed event and [DONE]");
    assert_eq!(answer.data().last(), Some(&"[DONE]"));
}

#[tokio::test]
async fn a_stalled_stream_goes_on_when_the_stall_is_lifted() {
    let sim = interrupted(2, InterruptionKind::Stall).await;
    let mut caller = sim.connect().await;
    let response = caller.send(json_request(CHAT, &chat(true))).await.unwrap();
    sim.control.update(|behaviour| behaviour.interruption = None);
    let answer = client::Answer::read(response).await;
    assert_eq!(answer.data().last(), Some(&"[DONE]"));
    assert_eq!(sim.control.counters().completed, 1);
}

#[tokio::test]
async fn a_forced_status_is_in_the_engine_s_shape_and_says_when_to_return() {
    let sim = client::engine(Engine::Vllm).await;
    let limit = ForcedStatus::new(429).again_in(std::time::Duration::from_secs(7), RetryForm::Seconds);
    let status = Some(limit);
    sim.control.set(Behaviour { status, ..sim.control.behaviour() });
    let refused = sim.post(CHAT, &chat(true)).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers["retry-after"], "7");
    assert_eq!(refused.json()["error"]["code"], 429);
    sim.control.set(sim.control.behaviour().failing(500));
    assert_eq!(sim.post(CHAT, &chat(false)).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(sim.get("/v1/models").await.status, StatusCode::OK, "discovery goes on");
}

#[tokio::test]
async fn errors_fall_on_the_same_requests_for_the_same_seed() {
    let statuses = async |seed, probes: bool| {
        let sim = start(Options { seed, error_rate: 0.5, ..options() }).await;
        let mut caller = sim.connect().await;
        let mut statuses = Vec::new();
        for _ in 0..40 {
            if probes {
                caller.get("/v1/models").await;
            }
            statuses.push(caller.post(CHAT, &chat(false)).await.status.as_u16());
        }
        statuses
    };
    let first = statuses(1, false).await;
    assert!(first.contains(&200) && first.contains(&500));
    assert_eq!(first, statuses(1, true).await, "discovery in between changes nothing");
    assert_ne!(first, statuses(2, false).await);
}

#[tokio::test]
async fn a_killed_simulator_takes_its_connections_and_its_port_with_it() {
    let mut sim = interrupted(2, InterruptionKind::Stall).await;
    let mut caller = sim.connect().await;
    let response = caller.send(json_request(CHAT, &chat(true))).await.unwrap();
    sim.control.until(|counters| counters.in_flight == 1).await;
    sim.control.kill();
    assert!(client::Answer::read(response).await.broken);
    sim.tasks.join_next().await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(sim.addr).await.is_err());
    let counters = sim.control.counters();
    assert_eq!((counters.broken, counters.aborted, counters.in_flight), (1, 0, 0));
}

#[tokio::test]
async fn a_simulator_can_come_back_on_the_same_port() {
    let mut sim = client::engine(Engine::OpenAi).await;
    sim.get("/v1/models").await;
    sim.control.kill();
    sim.tasks.join_next().await.unwrap().unwrap();
    let again = start(Options { port: sim.addr.port(), ..options() }).await;
    assert_eq!(again.get("/v1/models").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_stopped_simulator_finishes_what_it_began() {
    let mut sim = interrupted(2, InterruptionKind::Stall).await;
    let mut caller = sim.connect().await;
    let response = caller.send(json_request(CHAT, &chat(true))).await.unwrap();
    sim.control.stop();
    sim.control.update(|behaviour| behaviour.interruption = None);
    let answer = client::Answer::read(response).await;
    assert_eq!(answer.data().last(), Some(&"[DONE]"));
    sim.tasks.join_next().await.unwrap().unwrap();
    assert_eq!(sim.control.counters().completed, 1);
}

#[tokio::test]
async fn waits_follow_the_behaviour() {
    tokio::time::pause();
    let second = std::time::Duration::from_secs(1);
    let sim = start(Options { ttft: second * 10, itl: second, tokens: 5, ..options() }).await;
    let began = tokio::time::Instant::now();
    sim.post(CHAT, &chat(true)).await;
    assert_eq!(began.elapsed().as_secs(), 15);
    sim.post(CHAT, &chat(false)).await;
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn a_script_steers_over_http() {
    let sim = client::engine(Engine::OpenAi).await;
    let changes = json!({"tokens": 2, "interruption": {"after": 1, "kind": "eof"}});
    let shown = sim.post("/_sim", &changes).await.json();
    assert_eq!(shown["behaviour"]["models"], json!(["m"]), "what is not named stays");
    assert_eq!(sim.control.behaviour().tokens, 2);
    assert_eq!(sim.post(CHAT, &chat(true)).await.data().len(), 1);
    assert_eq!(sim.get("/_sim").await.json()["counters"]["broken"], 1);
    assert_eq!(sim.post("/_sim", &json!({"tokkens": 2})).await.status, StatusCode::BAD_REQUEST);
}
