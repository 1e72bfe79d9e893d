//! Engines behind workers: workers that are killed, networks that swallow everything, large uploads,
//! callers who leave.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::Value;
use sha2::{Digest, Sha256};
use synapse_simulator::Options;
use synapse_testkit::{Config, Engine, Gateway, Passing, Relay};
use tokio::time::sleep;

use super::{
    exact::noise,
    figures::{Figure, at_scale, for_seconds, is_proving},
    leaving::{STAGES, Stage, leave},
    traffic::{Sample, Traffic, failed, percentile, plain, streamed},
};
use crate::{
    start::{self, gateway},
    tunnel::{KEY, open_to_workers, until_listed, worker},
};

/// An engine that takes a quarter of a second for a reply, most of it after the first token.
async fn at_work(name: &str) -> Engine {
    let engine = Engine::serving(name, "m").await.paced(Duration::from_millis(10));
    engine.that(|behaviour| (behaviour.ttft, behaviour.tokens) = (Duration::from_millis(50), 20))
}

/// Plain requests and streams in turn.
fn mixed(number: u64) -> Value {
    if number.is_multiple_of(2) { plain() } else { streamed() }
}

async fn until_up(gateway: &Gateway, backend: &str) {
    gateway.metric("synapse_backend_up", &[("backend", backend)], |up| up == 1.0).await;
}

/// Whether a stream that was cut says so exactly once, and does not end as if it were whole.
fn is_told_once(cut: &Sample) -> bool {
    cut.answer.as_ref().is_ok_and(|answer| {
        let errors = answer.chunks().iter().filter(|chunk| chunk.get("error").is_some()).count();
        errors == 1 && !answer.broken_by().is_empty() && !answer.text().contains("[DONE]")
    })
}

/// The streams that were cut by a backend's end, all of them told so once, and all other requests.
fn cut_and_whole(samples: Vec<Sample>, dead: &[&str]) -> (Vec<Sample>, Vec<Sample>) {
    let (cut, whole): (Vec<Sample>, Vec<Sample>) = samples.into_iter().partition(Sample::is_cut);
    for sample in &cut {
        assert!(is_told_once(sample) && dead.contains(&sample.backend()), "{}", sample.line());
    }
    (cut, whole)
}

/// How many were served by another backend than the first that was asked.
fn made_good(samples: &[Sample]) -> usize {
    let attempts = |sample: &Sample| {
        sample.answer.as_ref().map_or(0, |a| a.header("x-synapse-attempts").parse().unwrap_or(1))
    };
    samples.iter().filter(|sample| sample.is_served() && attempts(sample) > 1).count()
}

fn slowest(samples: &[Sample]) -> f64 {
    percentile(samples.iter().map(|sample| sample.took), 1.0).as_secs_f64()
}

#[tokio::test]
async fn workers_that_are_killed_cost_no_request_that_had_not_begun() {
    let time = for_seconds(30, 3);
    let (one, two, near) = (at_work("one").await, at_work("two").await, at_work("near").await);
    let gateway = gateway(&open_to_workers(Config::with(&[&near]))).await;
    let (first, second) = (worker(&gateway, &one, "one"), worker(&gateway, &two, "two"));
    until_up(&gateway, "default/one").await;
    until_up(&gateway, "default/two").await;
    let traffic = Traffic::of(&gateway, at_scale(200, 50), time, mixed);
    let (samples, _first) = tokio::join!(traffic.run(), async {
        sleep(time / 4).await;
        drop(first);
        sleep(time / 4).await;
        let first = worker(&gateway, &one, "one");
        sleep(time / 4).await;
        drop(second);
        first
    });
    let (cut, whole) = cut_and_whole(samples, &["default/one", "default/two"]);
    for engine in [&one, &two, &near] {
        assert!(engine.counters().completed > 0, "{} had its share", engine.name());
    }
    Figure {
        key: "9a-worker-death",
        test: "workers_that_are_killed_cost_no_request_that_had_not_begun",
        promise: "Two workers and a direct engine serve one model; one worker is killed and comes back, then the other is killed: no request fails that had not begun to be answered, and each stream that had ends with one error event",
        measured: failed(&whole) as f64,
        unit: format!(
            "failed of {} requests at a steady rate, half of them streams ({} of them made good elsewhere, {} more streams had begun and were told; the slowest took {:.1} s)",
            whole.len(),
            made_good(&whole),
            cut.len(),
            slowest(&whole)
        ),
        limit: 0.0,
    }
    .hold();
}

#[tokio::test]
async fn a_worker_in_a_black_hole_is_given_up() {
    let (far, near) = (at_work("far").await, at_work("near").await);
    let gateway = gateway(&open_to_workers(Config::with(&[&near]))).await;
    let relay = Relay::to(gateway.address()).await;
    let _worker = start::worker(relay.address(), &far.url(), "far", KEY);
    until_up(&gateway, "default/far").await;
    let traffic = Traffic::of(&gateway, 50, Duration::from_secs(at_scale(20, 2)), mixed);
    let (samples, silent) = tokio::join!(traffic.run(), async {
        sleep(Duration::from_secs(1)).await;
        relay.pass(Passing::Nothing);
        let began = Instant::now();
        // The gate does not wait for so long: there, somebody cuts the line.
        if !is_proving() {
            relay.cut();
        }
        gateway.metric("synapse_workers_connected", &[], |connected| connected == 0.0).await;
        began.elapsed()
    });
    relay.pass(Passing::On);
    relay.cut();
    let (cut, whole) = cut_and_whole(samples, &["default/far"]);
    Figure {
        key: "9b-black-hole",
        test: "a_worker_in_a_black_hole_is_given_up",
        promise: "The network swallows everything of a worker, and its sockets stay open: the gateway gives it up",
        measured: silent.as_secs_f64(),
        unit: "s after the last byte".to_owned(),
        limit: 15.0,
    }
    .hold();
    Figure {
        key: "9c-black-hole-requests",
        test: "a_worker_in_a_black_hole_is_given_up",
        promise: "… and no request fails that had not begun to be answered",
        measured: failed(&whole) as f64,
        unit: format!(
            "failed of {} requests ({} of them made good elsewhere, {} more streams had begun and were told; the slowest took {:.1} s)",
            whole.len(),
            made_good(&whole),
            cut.len(),
            slowest(&whole)
        ),
        limit: 0.0,
    }
    .hold();
    until_up(&gateway, "default/far").await;
}

#[tokio::test]
async fn a_large_recording_reaches_the_engine_behind_a_worker_byte_for_byte() {
    let length = at_scale(25, 3) as usize * 1024 * 1024;
    let engine = Engine::serving("far", "m").await;
    let gateway = gateway(&open_to_workers(Config::new())).await;
    let _worker = worker(&gateway, &engine, "w");
    until_listed(&gateway, &gateway.client(), &["m"]).await;
    let body = super::exact::recording("m", &noise(7, length));
    let mut request = gateway.client().request(Method::POST, "/v1/audio/transcriptions", body.clone());
    request.headers_mut().insert("content-type", super::exact::RECORDING.parse().expect("a value"));
    let answer = gateway.client().send(request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let call = engine.requests().pop().expect("a call");
    let differ = call.body.iter().zip(&body).filter(|(came, sent)| came != sent).count();
    assert_eq!(
        Sha256::digest(&call.body) == Sha256::digest(&body),
        differ == 0 && call.body.len() == body.len()
    );
    Figure {
        key: "9h-transcription",
        test: "a_large_recording_reaches_the_engine_behind_a_worker_byte_for_byte",
        promise: "A transcription of 25 MiB is asked for as a multipart form: the engine behind the worker gets it byte for byte",
        measured: (differ + call.body.len().abs_diff(body.len())) as f64,
        unit: format!("bytes differ of {}", body.len()),
        limit: 0.0,
    }
    .hold();
}

#[tokio::test]
async fn an_engine_behind_a_worker_learns_at_once_of_a_caller_who_leaves() {
    let stages = STAGES.into_iter().filter(|stage| *stage != Stage::Sending);
    let engine = Engine::start("far", Options { record: 100_000, ..Engine::options("m") }).await;
    let gateway = gateway(&open_to_workers(Config::new())).await;
    let _worker = worker(&gateway, &engine, "w");
    until_listed(&gateway, &gateway.client(), &["m"]).await;
    let mut delays = Vec::new();
    for stage in stages {
        delays.extend(leave(&engine, &gateway, stage, at_scale(250, 10)).await);
    }
    assert_eq!(delays.len() as u64, 4 * at_scale(250, 10), "the engine learns of all");
    Figure {
        key: "9i-worker-disconnects",
        test: "an_engine_behind_a_worker_learns_at_once_of_a_caller_who_leaves",
        promise: "Callers leave before the head, during the prompt, in mid-stream or waiting for a plain reply: the engine behind the worker learns of it",
        measured: percentile(delays.iter().copied(), 0.99).as_secs_f64() * 1000.0,
        unit: format!("ms (p99 of {}, none missed)", delays.len()),
        limit: 250.0,
    }
    .hold();
}
