//! Engines that die, fail, stall or are full while requests come at a steady rate.

use std::time::Duration;

use serde_json::json;
use synapse_simulator::{Options, Step};
use synapse_testkit::{Config, Engine};
use tokio::time::sleep;

use super::{
    figures::{Figure, at_scale, for_seconds},
    traffic::{Sample, Traffic, failed, percentile, plain, share, streamed},
};
use crate::start::gateway;

/// An engine that takes 20 ms to its first token and 16 ms for the rest.
async fn at_work(name: &str) -> Engine {
    Engine::serving(name, "m").await.paced(Duration::from_millis(2)).that(|behaviour| {
        behaviour.ttft = Duration::from_millis(20);
    })
}

/// How long after `healed` the first second begins in which a backend has a quarter of all replies.
fn back_after(samples: &[Sample], backend: &str, healed: Duration) -> Option<Duration> {
    let step = Duration::from_millis(250);
    let last = samples.last()?.over();
    let windows = (0..).map(|n| healed + n * step).take_while(|from| *from < last);
    let mut found = windows.filter(|from| {
        let within = |sample: &&Sample| (*from..*from + Duration::from_secs(1)).contains(&sample.over());
        share(samples.iter().filter(within), backend) >= 0.25
    });
    found.next().map(|from| from - healed)
}

#[tokio::test]
async fn three_outages_in_a_row_cost_no_request() {
    let time = for_seconds(60, 3);
    let (mut dies, fails, stalls) = (at_work("dies").await, at_work("fails").await, at_work("stalls").await);
    let config =
        Config::with(&[&dies, &fails, &stalls]).set("/backends/2/timeouts", json!({"first_token_s": 1}));
    let gateway = gateway(&config).await;
    let traffic = Traffic::new(&gateway, at_scale(300, 50), time, streamed());
    // One fails for a third of the time; some time after it is well again, the other stalls.
    let (fails_at, healed) = (time * 2 / 15, time * 7 / 15);
    fails.schedule([
        Step::after(fails_at, |behaviour| *behaviour = behaviour.clone().failing(500)),
        Step::after(healed - fails_at, |behaviour| behaviour.status = None),
    ]);
    stalls.schedule([
        Step::after(time * 3 / 4, |behaviour| behaviour.hang_before_head = true),
        Step::after(time / 6, |behaviour| behaviour.hang_before_head = false),
    ]);
    let (samples, ()) = tokio::join!(traffic.run(), async {
        sleep(time / 12).await;
        dies.die().await;
    });
    let slowest = percentile(samples.iter().map(|sample| sample.took), 1.0);
    // A stream that had begun when its engine was killed cannot be begun anew: it says so and ends.
    let (cut, whole): (Vec<Sample>, Vec<Sample>) = samples.into_iter().partition(Sample::is_cut);
    assert!(cut.iter().all(|sample| sample.backend() == "dies"), "{:?}", cut.iter().map(Sample::line));
    Figure {
        key: "1a-outages",
        test: "three_outages_in_a_row_cost_no_request",
        promise: "Of three engines one is killed, one answers 500 for a third of the time, one stalls: no request fails",
        measured: failed(&whole) as f64,
        unit: format!(
            "failed of {} streams at a steady rate, {} more had begun at the engine that was killed; the slowest took {:.1} s",
            whole.len(),
            cut.len(),
            slowest.as_secs_f64()
        ),
        limit: 0.0,
    }
    .hold();
    let back = back_after(&whole, "fails", healed);
    Figure {
        key: "1b-healing",
        test: "three_outages_in_a_row_cost_no_request",
        promise: "The engine that is well again has a quarter of the traffic",
        measured: back.map_or(f64::MAX, |back| back.as_secs_f64()),
        unit: "s after its last error".to_owned(),
        limit: 15.0,
    }
    .hold();
}

#[tokio::test]
async fn retries_never_become_a_storm() {
    let time = for_seconds(30, 2);
    let mut engines = Vec::new();
    for name in ["a", "b", "c"] {
        engines.push(Engine::serving(name, "m").await.that(|b| *b = b.clone().failing(503)));
    }
    // No breaker helps: only the budget holds retries back.
    let config = Config::with(&engines.iter().collect::<Vec<_>>())
        .set("/routing/breaker", json!({"failures": 1_000_000, "success_rate": 0}));
    let gateway = gateway(&config).await;
    let samples = Traffic::new(&gateway, at_scale(300, 50), time, plain()).run().await;
    let attempts: u64 = engines.iter().map(|engine| engine.counters().received).sum();
    let answered = samples.iter().filter(|sample| matches!(sample.status(), 502 | 503)).count();
    assert_eq!(answered, samples.len(), "every caller is told");
    // The ten a second may all be spent at once: a short run sees those of ten seconds.
    let allowed = 10.0 * time.as_secs_f64().max(10.0);
    Figure {
        key: "1c-storm",
        test: "retries_never_become_a_storm",
        promise: "While every engine answers 503, they are asked at most 1.2 times per request, and 10 times a second besides",
        measured: (attempts as f64 - allowed) / samples.len() as f64,
        unit: format!("attempts per request, less 10 a second ({attempts} for {} requests)", samples.len()),
        limit: 1.2,
    }
    .hold();
    Figure {
        key: "1d-refusal",
        test: "retries_never_become_a_storm",
        promise: "… and every caller knows it within a second",
        measured: percentile(samples.iter().map(|sample| sample.took), 1.0).as_secs_f64() * 1000.0,
        unit: "ms (slowest)".to_owned(),
        limit: 1000.0,
    }
    .hold();
}

#[tokio::test]
async fn a_full_first_choice_spills_over() {
    let time = for_seconds(30, 2);
    let busy = |behaviour: &mut synapse_simulator::Behaviour| behaviour.ttft = Duration::from_millis(100);
    // It serves 80 requests a second; the rest is for the other.
    let options = Options { slots: Some(8), ..Engine::options("m") };
    let (first, second) =
        (Engine::start("first", options).await.that(busy), Engine::serving("second", "m").await.that(busy));
    let config = Config::in_order("m", &[&first, &second]).set("/backends/0/max_in_flight", 8);
    let gateway = gateway(&config).await;
    let samples = Traffic::new(&gateway, 200, time, plain()).run().await;
    assert!(second.counters().completed > 0);
    assert_eq!(first.counters().peak_running, 8);
    let share = share(samples.iter(), "first");
    Figure {
        key: "1e-spill",
        test: "a_full_first_choice_spills_over",
        promise: "The engine that is asked first is full, and well: what it cannot take goes to the second",
        measured: failed(&samples) as f64,
        unit: format!(
            "failed of {} requests, 2.5 times what the first can take; it served {:.0} %",
            samples.len(),
            share * 100.0
        ),
        limit: 0.0,
    }
    .hold();
}
