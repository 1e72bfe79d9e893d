//! Streams whose engine dies at any byte: what callers see is always the beginning of one reply, and
//! says whether it is all of it.

use std::sync::Arc;

use serde_json::json;
use synapse_simulator::{Interruption, InterruptionKind, Options, Outcome, Point};
use synapse_testkit::{Answer, Config, Engine};
use tokio::task::JoinSet;

use super::{
    figures::{Figure, at_scale},
    traffic::streamed,
};
use crate::start::gateway;

/// Callers at a time.
const CALLERS: u64 = 16;

/// An engine whose replies to the same request differ from those of every other seed.
async fn engine(name: &str, seed: u64) -> Engine {
    Engine::start(name, Options { seed, tokens: 24, record: 100_000, ..Engine::options("m") }).await
}

/// What a caller saw that no caller should see; nothing if all is well.
fn wrong(answer: &Answer, texts: &[String]) -> Option<&'static str> {
    if answer.status != 200 || answer.broken {
        return Some("no proper reply");
    }
    let content = answer.content();
    let of_one = texts.iter().filter(|text| text.starts_with(&content)).count() == 1;
    let ids = answer.chunks().into_iter().filter_map(|chunk| chunk["id"].as_str().map(str::to_owned));
    let mut ids: Vec<String> = ids.collect();
    ids.dedup();
    match (answer.is_done(), answer.broken_by().is_empty()) {
        (true, true) if !texts.contains(&content) => Some("ended cleanly without all of a reply"),
        (true, false) | (false, true) => Some("neither complete nor broken off"),
        (false, false) if content.is_empty() => Some("failed before its content"),
        _ if !of_one => Some("not the beginning of one attempt"),
        _ if ids.len() != 1 => Some("chunks of several attempts"),
        _ => None,
    }
}

#[tokio::test]
async fn an_engine_that_dies_at_any_byte_never_garbles_a_stream() {
    let streams = at_scale(1_000, 60);
    let engines = [engine("early", 1).await, engine("anywhere", 2).await, engine("well", 3).await];
    let mut texts = Vec::new();
    let mut longest = 0;
    for engine in &engines {
        let whole =
            synapse_testkit::Client::to(engine.address()).post("/v1/chat/completions", &streamed()).await;
        longest = longest.max(whole.body.len() as u64);
        texts.push(whole.content());
    }
    let texts = Arc::new(texts);
    let dies = |engine: &Engine, bytes| {
        let death = Interruption::new(Point::any_byte(0, bytes), InterruptionKind::Reset).for_share(0.8);
        engine.update(|behaviour| behaviour.interruption = Some(death));
    };
    // Half of the deaths are where they can be made good: around the first content.
    dies(&engines[0], 400);
    dies(&engines[1], longest);
    // Nobody is left alone for dying, and nobody spares retries.
    let config = Config::with(&engines.each_ref())
        .set("/routing", json!({"strategy": "round_robin", "retry_budget": 1.0}))
        .set("/routing/breaker", json!({"failures": 1_000_000, "success_rate": 0}));
    let gateway = gateway(&config).await;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (client, texts) = (gateway.client(), Arc::clone(&texts));
        let share = streams / CALLERS + u64::from(caller < streams % CALLERS);
        callers.spawn(async move {
            let mut seen = Vec::new();
            for _ in 0..share {
                let answer = client.stream("m").await;
                seen.push((answer.is_done(), wrong(&answer, &texts).map(|what| (what, answer))));
            }
            seen
        });
    }
    let seen: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    for (_, wrong) in seen.iter().filter(|(_, wrong)| wrong.is_some()).take(5) {
        eprintln!("{wrong:?}");
    }
    let broken = seen.iter().filter(|(is_done, _)| !is_done).count();
    let deaths = engines.iter().flat_map(|engine| engine.requests());
    let deaths = deaths.filter(|request| request.outcome == Outcome::Broken).count();
    assert!(broken > 0 && deaths > broken, "{deaths} deaths, {broken} of them seen");
    Figure {
        key: "2a-deaths",
        test: "an_engine_that_dies_at_any_byte_never_garbles_a_stream",
        promise: "Engines die at random bytes of streams: what a caller sees is the beginning of exactly one reply, a death before content is made good, and none that is cut short ends as if complete",
        measured: seen.iter().filter(|(_, wrong)| wrong.is_some()).count() as f64,
        unit: format!(
            "wrong of {} streams ({deaths} deaths; {broken} streams ended with an error event)",
            seen.len()
        ),
        limit: 0.0,
    }
    .hold();
}
