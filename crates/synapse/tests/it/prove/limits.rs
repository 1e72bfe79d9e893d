//! Limits and budgets: never more than allowed, whoever asks, and at a cost that nobody notices.

use std::time::{Duration, Instant};

use serde_json::json;
use synapse_core::{
    ledger::{Amounts, Scope, Verdict, meters},
    limits::{Limits, Money, RequestLimit},
};
use synapse_gateway::limits::MemoryLedger;
use synapse_testkit::{Config, Engine, Gateway, KEY, Redis};
use tokio::task::JoinSet;

use super::figures::{Figure, at_scale};
use crate::{
    redis::two,
    start::{gateway, saying, with},
};

/// The statuses of so many requests at once, each on a connection of its own, in turn at each gateway.
async fn all_at_once(gateways: &[&Gateway], requests: u64, max_tokens: u32) -> Vec<u16> {
    let mut asking = JoinSet::new();
    for number in 0..requests {
        let client = gateways[number as usize % gateways.len()].client();
        let body = with(saying("m", "hi"), json!({"max_tokens": max_tokens}));
        asking.spawn(async move { client.post("/v1/chat/completions", &body).await.status });
    }
    asking.join_all().await
}

fn count(statuses: &[u16], status: u16) -> u64 {
    statuses.iter().filter(|found| **found == status).count() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_admit_exactly_what_a_limit_allows() {
    let (engine, redis) = (Engine::serving("one", "m").await, Redis::start().await);
    let limits = json!({"requests": {"count": 100, "window_s": 60}});
    let gateways = two(&engine, &redis, limits, "closed").await;
    let requests = at_scale(2_000, 300);
    let began = Instant::now();
    let statuses = all_at_once(&[&gateways[0], &gateways[1]], requests, 8).await;
    let took = began.elapsed();
    let (admitted, refused) = (count(&statuses, 200), count(&statuses, 429));
    // On a machine that needs a minute for this, a second window would begin.
    assert!(took < Duration::from_secs(50), "{took:?}");
    Figure {
        key: "61-limit",
        test: "two_gateways_admit_exactly_what_a_limit_allows",
        promise: "A key may have 100 requests a minute; two gateways on one Redis: 100 are admitted, no more and no less, and the rest refused with 429",
        measured: (admitted.abs_diff(100) + (requests - admitted).abs_diff(refused)) as f64,
        unit: format!("off, of {requests} requests at once: {admitted} admitted, {refused} refused"),
        limit: 0.0,
    }
    .hold();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_is_not_overdrawn_by_many_at_once() {
    // Each reply has eight tokens at 0.01, and a request that allows eight reserves as much.
    let engine = Engine::serving("one", "m").await;
    let keys = json!([{"id": "it", "secret": KEY, "limits": {"cost_per_day": 1.0}}]);
    let config = Config::with(&[&engine])
        .set("/auth/static_keys", keys)
        .set("/prices/models", json!([{"model": "m", "output_per_million": 10_000}]));
    let gateway = gateway(&config).await;
    let requests = at_scale(1_000, 100);
    let statuses = all_at_once(&[&gateway], requests, 8).await;
    let spent = gateway.metric("synapse_cost_total", &[], |cost| cost > 0.9).await;
    Figure {
        key: "62-budget",
        test: "a_budget_is_not_overdrawn_by_many_at_once",
        promise: "A budget of 1.00 and requests of 0.08 each, all at once: no more is spent than there is",
        measured: (spent - 1.0).max(0.0),
        unit: format!("overdrawn; {spent:.2} spent by {} of {requests} requests", count(&statuses, 200)),
        limit: 0.0,
    }
    .hold();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_dies_under_load_lets_nothing_by_and_holds_nobody_up() {
    let (engine, mut redis) = (Engine::serving("one", "m").await, Redis::start().await);
    let limits = json!({"requests": {"count": 1_000_000, "window_s": 3600}});
    let gateways = two(&engine, &redis, limits, "closed").await;
    let before = all_at_once(&[&gateways[0]], 20, 8).await;
    assert_eq!(count(&before, 200), 20);
    redis.die();
    let first = gateways[0].client().chat("m").await;
    let served = engine.counters().received;
    let mut slowest = Duration::ZERO;
    for _ in 0..at_scale(500, 20) {
        let began = Instant::now();
        assert_eq!(gateways[0].client().chat("m").await.status, 503);
        slowest = slowest.max(began.elapsed());
    }
    assert_eq!((first.status, engine.counters().received), (503, served));
    Figure {
        key: "63-redis",
        test: "a_redis_that_dies_under_load_lets_nothing_by_and_holds_nobody_up",
        promise: "Redis is killed, policy `closed`: every request with limits is refused with 503, and after the first one at once",
        measured: slowest.as_secs_f64() * 1000.0,
        unit: "ms (slowest refusal)".to_owned(),
        limit: 50.0,
    }
    .hold();
}

#[test]
fn a_reservation_costs_a_request_next_to_nothing() {
    let limits = Limits {
        requests: Some(RequestLimit { count: u32::MAX, window_s: 60 }),
        tokens_per_minute: Some(u64::MAX >> 1),
        tokens_per_day: Some(u64::MAX >> 1),
        concurrent: Some(1000),
        cost_per_day: Some(Money::from_nanos(u64::MAX >> 1)),
        cost_per_month: Some(Money::from_nanos(u64::MAX >> 1)),
    };
    let began = Instant::now();
    let clock = move || 1_795_000_000_000 + u64::try_from(began.elapsed().as_millis()).unwrap_or(0);
    let ledger = MemoryLedger::new(clock);
    let (key, team) = (Scope::Key("a-key-of-usual-length".into()), Scope::Team("a-team".into()));
    let reserved = Amounts { requests: 1, tokens: 1200, cost: Money::from_nanos(7_000_000), running: 1 };
    let spent = Amounts { tokens: 300, cost: Money::from_nanos(2_000_000), running: 0, ..reserved };
    let rounds = at_scale(1_000_000, 1_000);
    let began = Instant::now();
    for _ in 0..rounds {
        let mut both = Vec::new();
        meters(&key, &limits, &mut both);
        meters(&team, &limits, &mut both);
        match ledger.reserve(&both, &reserved) {
            Verdict::Granted(readings) => ledger.settle(&both, &readings, &reserved, &spent),
            refused @ Verdict::Refused { .. } => panic!("{refused:?}"),
        }
    }
    Figure {
        key: "64-reservation",
        test: "a_reservation_costs_a_request_next_to_nothing",
        promise: "Reserving and settling in memory, with all six limits on both key and team",
        measured: began.elapsed().as_secs_f64() * 1e6 / rounds as f64,
        unit: "µs a request".to_owned(),
        limit: 2.0,
    }
    .hold();
}
