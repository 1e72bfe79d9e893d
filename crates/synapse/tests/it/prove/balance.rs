//! Who gets how much: engines of unequal speed, engines at their limit, and prompts that are cached.

use std::time::Duration;

use serde_json::{Value, json};
use synapse_simulator::{Behaviour, Options};
use synapse_testkit::{Config, Engine};

use super::{
    figures::{Figure, at_scale, for_seconds, is_proving},
    traffic::{Sample, Traffic, failed, percentile, share, streamed},
};
use crate::{dice::Dice, start::gateway};

/// The traffic until the gateway knows its engines is not looked at.
const FIRST: Duration = Duration::from_secs(5);

/// Engines `0`, `1`, …, each of which takes 64 ms for a reply.
async fn alike(count: usize) -> Vec<Engine> {
    let mut engines = Vec::new();
    for number in 0..count {
        let engine = Engine::serving(&format!("e{number}"), "m").await.paced(Duration::from_millis(2));
        engines.push(engine.that(|behaviour| behaviour.ttft = Duration::from_millis(50)));
    }
    engines
}

/// What becomes of steady traffic to these engines, once it is known how they are.
async fn steady(engines: &[Engine], time: Duration) -> Vec<Sample> {
    let gateway = gateway(&Config::with(&engines.iter().collect::<Vec<_>>())).await;
    let first = if is_proving() { FIRST } else { Duration::ZERO };
    let mut samples = Traffic::new(&gateway, at_scale(200, 50), first + time, streamed()).run().await;
    assert_eq!(failed(&samples), 0);
    samples.retain(|sample| sample.due >= first);
    samples
}

fn p99(samples: &[Sample]) -> f64 {
    percentile(samples.iter().map(|sample| sample.took), 0.99).as_secs_f64() * 1000.0
}

#[tokio::test]
async fn a_slow_engine_among_eight_is_spared() {
    let time = for_seconds(30, 1);
    let mut engines = alike(7).await;
    let alone = p99(&steady(&engines, time).await);
    engines.push(Engine::serving("slow", "m").await.paced(Duration::from_millis(20)).that(|behaviour| {
        behaviour.ttft = Duration::from_millis(500);
    }));
    let samples = steady(&engines, time).await;
    Figure {
        key: "4a-slow-share",
        test: "a_slow_engine_among_eight_is_spared",
        promise: "One of eight engines is ten times slower than the others: its share of the traffic",
        measured: share(samples.iter(), "slow") * 100.0,
        unit: format!("% of {} streams at 200 a second", samples.len()),
        limit: 3.0,
    }
    .hold();
    let beside = p99(&samples);
    Figure {
        key: "4b-slow-tail",
        test: "a_slow_engine_among_eight_is_spared",
        promise: "… and the 99th percentile of all requests, compared with the seven others alone",
        measured: beside / alone,
        unit: format!("× ({beside:.0} ms after {alone:.0} ms)"),
        limit: 1.3,
    }
    .hold();
}

#[tokio::test]
async fn an_engine_that_refuses_fast_attracts_nothing() {
    let time = for_seconds(30, 1);
    let mut engines = alike(7).await;
    let limited = Engine::serving("limited", "m").await;
    engines.push(limited.that(|behaviour| *behaviour = behaviour.clone().failing(429)));
    let samples = steady(&engines, time).await;
    let asked: Vec<u64> = engines.iter().map(|engine| engine.counters().received).collect();
    let all: u64 = asked.iter().sum();
    Figure {
        key: "4c-limited-share",
        test: "an_engine_that_refuses_fast_attracts_nothing",
        promise: "One of eight engines answers 429 at once: its share of the attempts, while no caller sees an error",
        measured: asked[7] as f64 / all as f64 * 100.0,
        unit: format!("% of {all} attempts ({} requests, 0 failed)", samples.len()),
        limit: 5.0,
    }
    .hold();
}

/// A text of so many words.
fn text(dice: &mut Dice, words: u64) -> String {
    (0..words).map(|_| format!("w{} ", dice.throw(1_000_000))).collect()
}

/// Turns of conversations that go on at once. Half of them begin with the same instructions, the
/// others with one of twenty.
fn turns(count: u64) -> Vec<Value> {
    let mut dice = Dice(7);
    let instructions: Vec<String> = (0..21).map(|_| text(&mut dice, 300)).collect();
    let mut open: Vec<Vec<Value>> = vec![Vec::new(); 64];
    let mut turns = Vec::new();
    for _ in 0..count {
        let at = dice.throw(64) as usize;
        if open[at].len() > 40 {
            open[at].clear();
        }
        if open[at].is_empty() {
            let chosen = if dice.throw(2) == 0 { 0 } else { 1 + dice.throw(20) as usize };
            open[at].push(json!({"role": "system", "content": instructions[chosen]}));
        } else {
            open[at].push(json!({"role": "assistant", "content": text(&mut dice, 60)}));
        }
        open[at].push(json!({"role": "user", "content": text(&mut dice, 90)}));
        turns.push(json!({"model": "m", "stream": true, "messages": open[at]}));
    }
    turns
}

/// Lets conversations go on with this strategy; the tokens that were cached, and of how many, and the
/// traffic.
async fn conversations(strategy: &str, time: Duration, rate: u64) -> (u64, u64, Vec<Sample>) {
    let mut engines = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let options = Options { slots: Some(16), record: 0, ..Engine::options("m") };
        engines.push(Engine::start(name, options).await.that(|behaviour: &mut Behaviour| {
            behaviour.ttft = Duration::from_millis(20);
            behaviour.prefill = Duration::from_micros(200);
            behaviour.itl = Duration::from_millis(2);
            // A third of what all conversations together need.
            behaviour.cache_blocks = 2_000;
        }));
    }
    let config = Config::with(&engines.iter().collect::<Vec<_>>()).set("/routing/strategy", strategy);
    let gateway = gateway(&config).await;
    let turns = turns(time.as_millis() as u64 * rate / 1000);
    let samples = Traffic::of(&gateway, rate, time, move |number| turns[number as usize].clone()).run().await;
    assert_eq!(failed(&samples), 0);
    let totals = engines.iter().map(|engine| engine.totals());
    let (cached, all) = totals.fold((0, 0), |sum, t| (sum.0 + t.cached_tokens, sum.1 + t.prompt_tokens));
    (cached, all, samples)
}

#[tokio::test]
async fn conversations_find_their_beginning_cached() {
    let (time, rate) = (for_seconds(30, 1), at_scale(50, 10));
    let (by_turns, _, in_turn) = conversations("round_robin", time, rate).await;
    let (by_prefix, all, by_prefix_samples) = conversations("prefix", time, rate).await;
    let share = |cached: u64| cached as f64 / all as f64 * 100.0;
    Figure {
        key: "4d-prefix-hits",
        test: "conversations_find_their_beginning_cached",
        promise: "Conversations at four engines with small caches, half of them with the same instructions: cached tokens of round robin for each one of the strategy `prefix`",
        measured: by_turns as f64 / by_prefix as f64,
        unit: format!(
            "({:.0} % of the prompts' tokens are cached with `prefix`, {:.0} % with `round_robin`)",
            share(by_prefix),
            share(by_turns)
        ),
        limit: 0.5,
    }
    .hold();
    let (tail, before) = (p99(&by_prefix_samples), p99(&in_turn));
    Figure {
        key: "4e-prefix-tail",
        test: "conversations_find_their_beginning_cached",
        promise: "… and its 99th percentile, compared with that of round robin",
        measured: tail / before,
        unit: format!("× ({tail:.0} ms, {before:.0} ms with `round_robin`)"),
        limit: 1.0,
    }
    .hold();
}
