//! Limits that several gateways hold together, on a real Redis: exact among them, and gone about as configured
//! while it is away.

use std::{sync::Arc, time::Duration};

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};
use synapse_core::{
    ledger::{Amounts, Measure, Meter, Scope, Span, Verdict},
    limits::Money,
    store::ledger::{Settlement, SharedLedger, SharedLedgerError},
};
use synapse_gateway::limits::MemoryLedger;
use synapse_store::redis::RedisLedger;
use synapse_testkit::{Config, Engine, Gateway, KEY, Redis};

use crate::start::{code, gateway};

/// Two gateways with this key's limits on one Redis.
pub(crate) async fn two(engine: &Engine, redis: &Redis, limits: Value, policy: &str) -> [Gateway; 2] {
    let config = Config::with(&[engine])
        .set("/auth/static_keys", json!([{"id": "it", "secret": KEY, "limits": limits}]))
        .set("/redis/url", redis.url())
        .set("/limits/on_redis_failure", policy);
    [gateway(&config).await, gateway(&config).await]
}

async fn statuses(gateways: &[Gateway; 2], requests: usize) -> Vec<u16> {
    let ask = |number: usize| {
        let client = gateways[number % 2].client();
        async move { client.chat("m").await.status }
    };
    futures_util::future::join_all((0..requests).map(ask)).await
}

#[tokio::test]
async fn two_gateways_admit_together_what_one_key_may() {
    let (engine, redis) = (Engine::serving("one", "m").await, Redis::start().await);
    let gateways = two(&engine, &redis, json!({"requests": {"count": 30, "window_s": 3600}}), "closed").await;
    let statuses = statuses(&gateways, 200).await;
    let count = |status| statuses.iter().filter(|found| **found == status).count();
    assert_eq!((count(200), count(429)), (30, 170), "{statuses:?}");
    assert_eq!(engine.counters().received, 30);
    let answer = gateways[1].client().chat("m").await;
    assert_eq!((answer.status, answer.header("x-ratelimit-remaining-requests")), (429, "0"));
    let wait: u64 = answer.header("retry-after").parse().expect("seconds");
    assert!((3500..=3660).contains(&wait), "{wait}");
    assert_eq!(gateways[0].metrics().await.sum("synapse_redis_up", &[]), 1.0);
}

#[tokio::test]
async fn what_a_gateway_settles_the_other_one_sees() {
    let (engine, redis) = (Engine::serving("one", "m").await, Redis::start().await);
    let gateways = two(&engine, &redis, json!({"tokens_per_day": 10_000, "concurrent": 1}), "closed").await;
    engine.update(|behaviour| (behaviour.itl, behaviour.tokens) = (Duration::from_millis(20), 100_000));
    let mut stream = gateways[0].client().open("m").await;
    stream.until("content").await;
    let busy = gateways[1].client().chat("m").await;
    assert_eq!(code(&busy), (429, "concurrency_limit_exceeded".to_owned()));
    drop(stream);
    engine.update(|behaviour| (behaviour.itl, behaviour.tokens) = (Duration::ZERO, 8));
    let free = async || Some(gateways[1].client().chat("m").await).filter(|answer| answer.status == 200);
    let answer = gateways[1].until("the place", free).await;
    let left: u64 = answer.header("x-ratelimit-remaining-tokens").parse().expect("a number");
    assert!(left > 7000 && left < 10_000 - 1024, "one is settled, one reserved: {left}");
}

#[tokio::test]
async fn without_redis_a_closed_gateway_refuses_at_once_until_it_is_back() {
    let (engine, mut redis) = (Engine::serving("one", "m").await, Redis::start().await);
    let gateways =
        two(&engine, &redis, json!({"requests": {"count": 100, "window_s": 3600}}), "closed").await;
    let client = gateways[0].client();
    assert_eq!(client.chat("m").await.status, 200);
    redis.die();
    let refused = client.chat("m").await;
    assert_eq!(code(&refused), (503, "limits_unavailable".to_owned()));
    assert_eq!(refused.header("retry-after"), "1");
    let lines = gateways[0].logs().line("Redis does not answer").await;
    assert!(!lines.contains("127.0.0.1"), "{lines}");
    gateways[0].metric("synapse_redis_up", &[], |up| up == 0.0).await;
    assert!(gateways[0].metrics().await.sum("synapse_limit_errors_total", &[]) >= 1.0);
    redis.start_again().await;
    let back = async || (client.chat("m").await.status == 200).then_some(());
    gateways[0].until("Redis to be noticed", back).await;
    gateways[0].logs().line("Redis answers again").await;
    gateways[0].metric("synapse_redis_up", &[], |up| up == 1.0).await;
}

#[tokio::test]
async fn a_redis_that_was_away_while_nobody_asked_costs_nobody_an_answer() {
    let (engine, mut redis) = (Engine::serving("one", "m").await, Redis::start().await);
    let gateways = two(&engine, &redis, json!({"requests": {"count": 10, "window_s": 3600}}), "closed").await;
    let client = gateways[0].client();
    assert_eq!(client.chat("m").await.status, 200);
    // Once it is settled, its ticket is gone, and nobody has anything left to say.
    let settled = async || redis.tell("DBSIZE").await.filter(|count| count == ":1\r\n");
    gateways[0].until("the settlement", settled).await;
    redis.die();
    redis.start_again().await;
    let answer = client.chat("m").await;
    assert_eq!((answer.status, answer.header("x-ratelimit-remaining-requests")), (200, "9"));
}

#[tokio::test]
async fn a_redis_that_stands_still_costs_one_request_its_patience_and_no_other() {
    let (engine, redis) = (Engine::serving("one", "m").await, Redis::start().await);
    let gateways = two(&engine, &redis, json!({"requests": {"count": 10, "window_s": 3600}}), "closed").await;
    let client = gateways[0].client();
    assert_eq!(client.chat("m").await.status, 200);
    redis.stand_still();
    for _ in 0..20 {
        assert_eq!(code(&client.chat("m").await), (503, "limits_unavailable".to_owned()));
    }
    let waited = [("reason", "timeout")];
    let timeouts = gateways[0].metrics().await.sum("synapse_limit_errors_total", &waited);
    // One request's, and one of the settlement of that before if it was still to be told.
    assert!((1.0..=2.0).contains(&timeouts), "{timeouts} of 20");
    redis.go_on();
    let back = async || Some(client.chat("m").await).filter(|answer| answer.status == 200);
    let answer = gateways[0].until("Redis to be noticed", back).await;
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), "8", "what was refused was not counted");
}

#[tokio::test]
async fn without_redis_an_open_gateway_counts_for_itself() {
    let (engine, mut redis) = (Engine::serving("one", "m").await, Redis::start().await);
    redis.die();
    let gateways = two(&engine, &redis, json!({"requests": {"count": 3, "window_s": 3600}}), "open").await;
    for gateway in &gateways {
        let mut found = Vec::new();
        for _ in 0..4 {
            found.push(gateway.client().chat("m").await.status);
        }
        assert_eq!(found, [200, 200, 200, 429]);
    }
    redis.start_again().await;
    let back = async || (gateways[0].client().chat("m").await.status == 200).then_some(());
    gateways[0].until("Redis to be noticed", back).await;
}

#[tokio::test]
async fn who_has_no_limits_needs_no_redis() {
    let (engine, mut redis) = (Engine::serving("one", "m").await, Redis::start().await);
    let gateways = two(&engine, &redis, json!({}), "closed").await;
    assert_eq!(redis.tell("DBSIZE").await.as_deref(), Some(":0\r\n"));
    redis.die();
    assert_eq!(gateways[0].client().chat("m").await.status, 200);
}

#[derive(Clone, Debug)]
enum Step {
    Reserve { tokens: u64, cost: u64 },
    Settle { which: usize, tokens: u64, cost: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..80_u64, 0..80_u64).prop_map(|(tokens, cost)| Step::Reserve { tokens, cost }),
        2 => (any::<usize>(), 0..200_u64, 0..200_u64)
            .prop_map(|(which, tokens, cost)| Step::Settle { which, tokens, cost }),
    ]
}

fn amounts(tokens: u64, cost: u64) -> Amounts {
    Amounts { requests: 1, tokens, cost: Money::from_nanos(cost), running: 1 }
}

/// What both must agree on: times differ by as much as passes between two questions.
fn essence(verdict: &Verdict) -> (Option<usize>, bool, Vec<u64>, Vec<u64>) {
    let (refused, waits, readings) = match verdict {
        Verdict::Granted(readings) => (None, false, readings),
        Verdict::Refused { meter, wait_ms, readings } => (Some(*meter), wait_ms.is_some(), readings),
    };
    let used = readings.iter().map(|reading| reading.used).collect();
    // In stretches of a quarter of an hour, which no two questions are apart.
    let resets = readings.iter().map(|reading| (reading.resets_in_ms + 450_000) / 900_000).collect();
    (refused, waits, used, resets)
}

/// Redis and memory are told the same and must say the same.
async fn agree(ledger: &RedisLedger, case: u64, steps: &[Step]) -> Result<(), TestCaseError> {
    let now = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        u64::try_from(now.as_millis()).expect("a time")
    };
    let memory = MemoryLedger::new(now);
    let meter =
        |measure, span, limit| Meter { scope: Scope::Key(format!("k{case}").into()), measure, span, limit };
    let meters = [
        meter(Measure::Requests, Span::Sliding(86_400_000), 20),
        meter(Measure::Concurrent, Span::Held, 4),
        meter(Measure::TokensPerDay, Span::Day, 400),
        Meter {
            scope: Scope::Team(format!("t{case}").into()),
            ..meter(Measure::CostPerMonth, Span::Month, 500)
        },
    ];
    let (mut open, mut ticket) = (Vec::new(), u128::from(case) << 32);
    for step in steps {
        match step {
            Step::Reserve { tokens, cost } => {
                ticket += 1;
                let reserved = amounts(*tokens, *cost);
                let here = memory.reserve(&meters, &reserved);
                let there = ledger.reserve(ticket, &meters, &reserved).await.expect("Redis answers");
                prop_assert_eq!(essence(&here), essence(&there));
                if let Verdict::Granted(readings) = here {
                    open.push((ticket, readings, reserved));
                }
            }
            Step::Settle { which, tokens, cost } if !open.is_empty() => {
                let (ticket, readings, reserved) = open.swap_remove(which % open.len());
                let spent = Amounts { running: 0, ..amounts(*tokens, *cost) };
                memory.settle(&meters, &readings, &reserved, &spent);
                let settlement = Settlement { ticket, meters: meters.to_vec(), reserved, spent };
                // A second time changes nothing.
                ledger.settle(std::slice::from_ref(&settlement)).await.expect("Redis answers");
                ledger.settle(&[settlement]).await.expect("Redis answers");
            }
            Step::Settle { .. } => {}
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_counts_as_memory_does() {
    let redis = Redis::start().await;
    let ledger = Arc::new(RedisLedger::new(&redis.url().into()).expect("a ledger"));
    let runtime = tokio::runtime::Handle::current();
    let compare = move || {
        let case = std::cell::Cell::new(0);
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 40,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        runner.run(&prop::collection::vec(step(), 1..60), |steps| {
            case.set(case.get() + 1);
            runtime.block_on(agree(&ledger, case.get(), &steps))
        })
    };
    tokio::task::spawn_blocking(compare).await.expect("no panic").expect("they agree");
}

#[tokio::test]
async fn a_reservation_that_nobody_waited_for_can_be_taken_back_and_places_are_kept_while_renewed() {
    let redis = Redis::start().await;
    let ledger = RedisLedger::new(&redis.url().into()).expect("a ledger");
    let meter = |measure, span| Meter { scope: Scope::Key("k".into()), measure, span, limit: 1 };
    let meters =
        vec![meter(Measure::Requests, Span::Sliding(3_600_000)), meter(Measure::Concurrent, Span::Held)];
    let reserved = amounts(0, 0);
    let granted = |verdict: &Verdict| matches!(verdict, Verdict::Granted(_));
    assert!(granted(&ledger.reserve(1, &meters, &reserved).await.expect("a verdict")));
    assert!(!granted(&ledger.reserve(2, &meters, &reserved).await.expect("a verdict")));
    let held = [1, 2].map(|ticket| (ticket, vec![meters[1].clone()]));
    assert_eq!(ledger.renew(&held).await.expect("one is renewed, and of the other there is nothing"), 0);
    let left = redis.tell("PTTL synapse:{limits}:concurrent:key:k").await.expect("an answer");
    let left: u32 = left.trim_start_matches(':').trim().parse().expect("milliseconds");
    assert!((1..60_000).contains(&left), "a place comes back within a minute by itself: {left}");
    let places = redis.tell("ZCARD synapse:{limits}:concurrent:key:k").await;
    assert_eq!(places.as_deref(), Some(":1\r\n"));
    let settlement =
        |ticket| Settlement { ticket, meters: meters.clone(), reserved, spent: Amounts::default() };
    ledger.settle(&[settlement(2), settlement(3)]).await.expect("nothing to settle");
    assert!(!granted(&ledger.reserve(2, &meters, &reserved).await.expect("a verdict")));
    ledger.settle(&[settlement(1)]).await.expect("settled");
    assert!(granted(&ledger.reserve(4, &meters, &reserved).await.expect("a verdict")));
}

#[tokio::test]
async fn what_redis_refuses_is_told_from_what_it_cannot_hear() {
    let mut redis = Redis::start().await;
    let ledger = RedisLedger::new(&redis.url().into()).expect("a ledger");
    let of = |key: &str| {
        vec![Meter {
            scope: Scope::Key(key.into()),
            measure: Measure::TokensPerDay,
            span: Span::Day,
            limit: u64::MAX,
        }]
    };
    let (good, broken) = (of("good"), of("broken"));
    let reserved = amounts(10, 0);
    for (ticket, meters) in [(1, &good), (2, &broken), (3, &good)] {
        ledger.reserve(ticket, meters, &reserved).await.expect("a verdict");
    }
    redis.tell("SET synapse:{limits}:tokens_per_day:key:broken text").await;
    let settlement = |ticket, meters: &Vec<Meter>, tokens| Settlement {
        ticket,
        meters: meters.clone(),
        reserved,
        spent: amounts(tokens, 0),
    };
    let refused = ledger
        .settle(&[settlement(1, &good, 4), settlement(2, &broken, 4), settlement(3, &good, 5)])
        .await
        .expect("Redis answers");
    assert_eq!(refused, 1);
    let error = ledger.reserve(4, &broken, &reserved).await.expect_err("no verdict");
    assert!(matches!(error, SharedLedgerError::Refused(_)), "{error}");
    let verdict = ledger.reserve(5, &good, &reserved).await.expect("a verdict");
    assert_eq!(essence(&verdict).2, [19]);
    redis.die();
    let error = ledger.reserve(6, &good, &reserved).await.expect_err("no verdict");
    assert!(matches!(error, SharedLedgerError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn an_engine_that_claims_to_have_used_without_end_closes_its_callers_budget_and_breaks_nothing() {
    let redis = Redis::start().await;
    let ledger = RedisLedger::new(&redis.url().into()).expect("a ledger");
    let meter = |measure, span| Meter { scope: Scope::Key("k".into()), measure, span, limit: 1 << 40 };
    let meters = vec![meter(Measure::TokensPerDay, Span::Day), meter(Measure::Concurrent, Span::Held)];
    let reserved = amounts(1, 0);
    let mut open = Vec::new();
    for ticket in 0..3 {
        ledger.reserve(ticket, &meters, &reserved).await.expect("a verdict");
        let spent = Amounts { running: 0, ..amounts(u64::MAX, 0) };
        open.push(Settlement { ticket, meters: meters.clone(), reserved, spent });
    }
    assert_eq!(ledger.settle(&open).await.expect("Redis answers"), 0);
    let verdict = ledger.reserve(9, &meters, &reserved).await.expect("a verdict");
    assert!(matches!(verdict, Verdict::Refused { meter: 0, .. }), "{verdict:?}");
    assert_eq!(essence(&verdict).2, [1 << 62, 0]);
}
