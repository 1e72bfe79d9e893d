//! Changes that come by themselves.

use std::time::Duration;

use serde_json::{Value, json};
use synapse_simulator::{Engine, Step};

use crate::client::{self, Sim};

const SECOND: Duration = Duration::from_secs(1);

async fn status(sim: &Sim) -> u16 {
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    sim.post("/v1/chat/completions", &chat).await.status.as_u16()
}

#[tokio::test]
async fn an_outage_begins_and_ends_by_the_clock() {
    tokio::time::pause();
    let sim = client::engine(Engine::OpenAi).await;
    sim.control.schedule([
        Step::after(10 * SECOND, |behaviour| *behaviour = behaviour.clone().failing(500)),
        Step::after(20 * SECOND, |behaviour| behaviour.status = None),
    ]);
    let mut seen = Vec::new();
    for _ in 0..8 {
        seen.push(status(&sim).await);
        tokio::time::sleep(5 * SECOND).await;
    }
    assert_eq!(seen, [200, 200, 500, 500, 500, 500, 200, 200]);
}

#[tokio::test]
async fn exactly_as_many_calls_are_refused_as_were_to_be() {
    let sim = client::engine(Engine::OpenAi).await;
    let burst = json!({
        "status": {"status": 429, "retry_after_s": 0.05, "form": "millis"},
        "timeline": [
            {"after_calls": 3, "set": {"status": {"status": 503}}},
            {"after_calls": 1, "set": {"status": null}},
        ],
    });
    let shown = sim.post("/_sim", &burst).await.json();
    assert_eq!(shown["steps_to_come"], 2);
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(status(&sim).await);
    }
    assert_eq!(seen, [429, 429, 429, 503, 200, 200]);
    assert_eq!(sim.get("/_sim").await.json()["steps_to_come"], 0);
}

#[tokio::test]
async fn a_step_by_the_clock_follows_one_by_calls() {
    tokio::time::pause();
    let sim = client::engine(Engine::OpenAi).await;
    let steps = json!([
        {"after_calls": 1, "set": {"status": {"status": 500}}},
        {"after_s": 3, "set": {"status": null}},
    ]);
    sim.control.apply(json!({"timeline": steps})).unwrap();
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!([status(&sim).await, status(&sim).await], [200, 500]);
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(status(&sim).await, 200);
}

#[tokio::test]
async fn a_script_that_does_not_fit_changes_nothing() {
    let sim = client::engine(Engine::OpenAi).await;
    let refused = async |changes: Value| {
        let answer = sim.post("/_sim", &changes).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        answer.json()["error"]["message"].as_str().unwrap().to_owned()
    };
    let typo = json!({"tokens": 3, "timeline": [{"after_s": 1, "set": {"tokenz": 3}}]});
    assert!(refused(typo).await.contains("step 1 of `timeline`"));
    assert!(
        refused(json!({"interruption": {"after": "head", "kind": "reset"}})).await.contains("\"request\"")
    );
    assert_eq!(sim.control.behaviour().tokens, 6);
}
