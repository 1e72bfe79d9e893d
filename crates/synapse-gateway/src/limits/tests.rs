//! The ledger in memory: under every interleaving, over time, and over a restart.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use proptest::prelude::*;
use synapse_core::{
    ledger::{Amounts, Measure, Meter, Reading, Scope, Span, Verdict},
    limits::Money,
    store::{
        StoreError,
        counters::{Counter, CounterStore},
    },
};

use super::{Limiter, MemoryLedger};
use crate::metrics::Metrics;

const START: u64 = 1_795_000_000_000;

/// A ledger whose time stands still until it is moved.
fn ledger() -> (MemoryLedger, Arc<AtomicU64>) {
    let time = Arc::new(AtomicU64::new(START));
    let clock = Arc::clone(&time);
    (MemoryLedger::new(move || clock.load(Ordering::Relaxed)), time)
}

fn key(measure: Measure, span: Span, limit: u64) -> Meter {
    Meter { scope: Scope::Key("k".into()), measure, span, limit }
}

fn team(measure: Measure, span: Span, limit: u64) -> Meter {
    Meter { scope: Scope::Team("t".into()), measure, span, limit }
}

fn amounts(tokens: u64, cost: u64) -> Amounts {
    Amounts { requests: 1, tokens, cost: Money::from_nanos(cost), running: 1 }
}

fn granted(verdict: Verdict) -> Vec<Reading> {
    match verdict {
        Verdict::Granted(readings) => readings,
        Verdict::Refused { .. } => panic!("{verdict:?}"),
    }
}

fn refused(verdict: &Verdict) -> (usize, Option<u64>) {
    match verdict {
        Verdict::Refused { meter, wait_ms, .. } => (*meter, *wait_ms),
        Verdict::Granted(_) => panic!("{verdict:?}"),
    }
}

fn used(ledger: &MemoryLedger, meter: &Meter) -> u64 {
    // What is larger than any limit is refused, and reads.
    match ledger.reserve(&[Meter { limit: 0, ..meter.clone() }], &Amounts::default()) {
        Verdict::Refused { readings, .. } | Verdict::Granted(readings) => readings[0].used,
    }
}

#[test]
fn a_window_has_room_again_when_it_says_so_and_not_before() {
    let (ledger, time) = ledger();
    let meters = [key(Measure::Requests, Span::Sliding(60_000), 2)];
    granted(ledger.reserve(&meters, &amounts(0, 0)));
    time.fetch_add(10_000, Ordering::Relaxed);
    granted(ledger.reserve(&meters, &amounts(0, 0)));
    let (_, wait) = refused(&ledger.reserve(&meters, &amounts(0, 0)));
    let wait = wait.expect("an end");
    assert!((50_000..=52_000).contains(&wait), "{wait}");
    time.fetch_add(wait - 1, Ordering::Relaxed);
    refused(&ledger.reserve(&meters, &amounts(0, 0)));
    time.fetch_add(1, Ordering::Relaxed);
    granted(ledger.reserve(&meters, &amounts(0, 0)));
    refused(&ledger.reserve(&meters, &amounts(0, 0)));
}

#[test]
fn a_refused_request_leaves_no_trace_and_the_longest_wait_is_named() {
    let (ledger, _) = ledger();
    let wide = key(Measure::TokensPerMinute, Span::Sliding(60_000), 1000);
    let narrow =
        [wide.clone(), key(Measure::Concurrent, Span::Held, 1), team(Measure::TokensPerDay, Span::Day, 400)];
    granted(ledger.reserve(&narrow, &amounts(300, 0)));
    let (meter, wait) = refused(&ledger.reserve(&narrow, &amounts(300, 0)));
    assert_eq!(meter, 2, "midnight is later than the end of another request");
    assert!(wait.is_some_and(|wait| wait > 1000));
    assert_eq!(used(&ledger, &wide), 300);
    let (meter, wait) = refused(&ledger.reserve(&[wide], &amounts(1001, 0)));
    assert_eq!((meter, wait), (0, None), "it never fits");
}

#[test]
fn what_was_not_needed_comes_back_and_what_exceeds_is_taken() {
    let (ledger, time) = ledger();
    let meters = [
        key(Measure::TokensPerMinute, Span::Sliding(60_000), 1000),
        key(Measure::CostPerDay, Span::Day, 1000),
        key(Measure::Concurrent, Span::Held, 1),
    ];
    let reserved = amounts(500, 400);
    let readings = granted(ledger.reserve(&meters, &reserved));
    time.fetch_add(30_000, Ordering::Relaxed);
    let spent = Amounts { running: 0, ..amounts(20, 1500) };
    ledger.settle(&meters, &readings, &reserved, &spent);
    assert_eq!(meters.each_ref().map(|meter| used(&ledger, meter)), [20, 1500, 0]);
    let (meter, _) = refused(&ledger.reserve(&meters, &amounts(1, 0)));
    assert_eq!(meter, 1, "an overdrawn budget takes nothing, not even what is free");
}

#[test]
fn counters_end_with_their_day_and_a_late_settlement_does_not_reach_the_next() {
    let (ledger, time) = ledger();
    let meters = [key(Measure::TokensPerDay, Span::Day, 100)];
    let readings = granted(ledger.reserve(&meters, &amounts(100, 0)));
    let (_, wait) = refused(&ledger.reserve(&meters, &amounts(1, 0)));
    time.fetch_add(wait.expect("midnight"), Ordering::Relaxed);
    granted(ledger.reserve(&meters, &amounts(60, 0)));
    ledger.settle(&meters, &readings, &amounts(100, 0), &Amounts::default());
    assert_eq!(used(&ledger, &meters[0]), 60);
}

#[test]
fn a_clock_that_goes_back_and_a_window_that_changes_open_no_gap() {
    let (ledger, time) = ledger();
    let minute = [key(Measure::Requests, Span::Sliding(60_000), 1)];
    granted(ledger.reserve(&minute, &amounts(0, 0)));
    time.fetch_sub(3_600_000, Ordering::Relaxed);
    refused(&ledger.reserve(&minute, &amounts(0, 0)));
    let hour = [key(Measure::Requests, Span::Sliding(3_600_000), 1)];
    refused(&ledger.reserve(&hour, &amounts(0, 0)));
}

#[test]
fn who_is_idle_is_forgotten() {
    let (ledger, time) = ledger();
    for number in 0..100 {
        let scope = Scope::Key(format!("k{number}").into());
        let meter = Meter { scope, ..key(Measure::Requests, Span::Sliding(60_000), 5) };
        granted(ledger.reserve(&[meter], &amounts(0, 0)));
    }
    let lasting = [key(Measure::CostPerMonth, Span::Month, 100)];
    granted(ledger.reserve(&lasting, &amounts(0, 7)));
    assert_eq!(ledger.changes().len(), 1);
    time.fetch_add(120_000, Ordering::Relaxed);
    ledger.sweep();
    assert_eq!(ledger.len(), 1);
    assert_eq!(used(&ledger, &lasting[0]), 7);
}

/// A store that is a list.
#[derive(Default)]
struct Listed(Mutex<Vec<Counter>>);

#[async_trait]
impl CounterStore for Listed {
    async fn load_counters(&self) -> Result<Vec<Counter>, StoreError> {
        Ok(self.0.lock().expect("a lock").clone())
    }

    async fn save_counters(&self, counters: &[Counter]) -> Result<(), StoreError> {
        let mut kept = self.0.lock().expect("a lock");
        for counter in counters {
            kept.retain(|known| (&known.scope, known.measure) != (&counter.scope, counter.measure));
            kept.push(counter.clone());
        }
        Ok(())
    }

    async fn forget_counters(&self, measure: Measure, bucket: u64) -> Result<(), StoreError> {
        self.0.lock().expect("a lock").retain(|known| known.measure != measure || known.bucket >= bucket);
        Ok(())
    }
}

#[tokio::test]
async fn a_restart_keeps_what_was_spent_of_the_day() {
    let store = Listed::default();
    let new = || Limiter::new("a", Arc::new(Metrics::new()));
    let meters =
        [key(Measure::CostPerDay, Span::Day, 1000), key(Measure::Requests, Span::Sliding(60_000), 5)];
    let first = new();
    let reserved = amounts(0, 600);
    let readings = granted(first.memory().reserve(&meters, &reserved));
    first.save(&store).await;
    first.memory().settle(&meters, &readings, &reserved, &amounts(0, 550));
    first.save(&store).await;
    store.0.lock().expect("a lock").push(Counter {
        scope: Scope::Key("k".into()),
        measure: Measure::CostPerMonth,
        bucket: 3,
        used: 99,
    });
    let second = new();
    second.restore(&store).await.expect("counters");
    assert_eq!(used(second.memory(), &meters[0]), 550);
    assert_eq!(store.0.lock().expect("a lock").len(), 1, "a month long ago is forgotten");
}

#[tokio::test]
async fn of_many_at_once_exactly_as_many_as_allowed_are_admitted() {
    let limiter = Limiter::new("a", Arc::new(Metrics::new()));
    let meters = [
        key(Measure::Requests, Span::Sliding(3_600_000), 100),
        team(Measure::Requests, Span::Sliding(3_600_000), 150),
    ];
    let admitted = std::thread::scope(|scope| {
        let ask = || {
            (0..250)
                .filter(|_| matches!(limiter.memory().reserve(&meters, &amounts(1, 1)), Verdict::Granted(_)))
                .count()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a count")).sum::<usize>()
    });
    assert_eq!(admitted, 100);
}

#[derive(Clone, Debug)]
enum Step {
    Reserve { tokens: u64, cost: u64 },
    Settle { which: usize, tokens: u64, cost: u64 },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..80_u64, 0..80_u64).prop_map(|(tokens, cost)| Step::Reserve { tokens, cost }),
        3 => (any::<usize>(), 0..200_u64, 0..200_u64)
            .prop_map(|(which, tokens, cost)| Step::Settle { which, tokens, cost }),
        2 => (1..40_000_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn no_window_ever_admits_more_than_its_limit_and_all_that_is_held_comes_back(
        steps in prop::collection::vec(step(), 1..120),
        width in prop_oneof![Just(1_000_u64), Just(60_000), Just(90_001)],
        limit in 1..12_u64,
    ) {
        let (ledger, time) = ledger();
        let meters = [
            key(Measure::Requests, Span::Sliding(width), limit),
            key(Measure::Concurrent, Span::Held, 5),
            team(Measure::TokensPerMinute, Span::Sliding(60_000), 300),
            team(Measure::CostPerMonth, Span::Month, 1_000_000),
        ];
        let mut open = HashMap::new();
        let (mut admitted, mut spent, mut number) = (Vec::new(), 0_u64, 0_usize);
        for step in steps {
            match step {
                Step::Wait(ms) => { time.fetch_add(ms, Ordering::Relaxed); }
                Step::Reserve { tokens, cost } => {
                    let before = meters.each_ref().map(|meter| used(&ledger, meter));
                    let reserved = amounts(tokens, cost);
                    match ledger.reserve(&meters, &reserved) {
                        Verdict::Granted(readings) => {
                            admitted.push(time.load(Ordering::Relaxed));
                            open.insert(number, (readings, reserved));
                            number += 1;
                            spent += cost;
                        }
                        Verdict::Refused { .. } => {
                            prop_assert_eq!(before, meters.each_ref().map(|meter| used(&ledger, meter)));
                        }
                    }
                    prop_assert!(used(&ledger, &meters[1]) <= 5);
                }
                Step::Settle { which, tokens, cost } => {
                    let mut known: Vec<_> = open.keys().copied().collect();
                    known.sort_unstable();
                    if let Some(chosen) = known.get(which % known.len().max(1)) {
                        let (readings, reserved) = open.remove(chosen).expect("an open one");
                        let end = Amounts { running: 0, ..amounts(tokens, cost) };
                        ledger.settle(&meters, &readings, &reserved, &end);
                        spent = spent + cost - reserved.cost.nanos();
                    }
                }
            }
            prop_assert_eq!(used(&ledger, &meters[1]), open.len() as u64);
        }
        for (index, end) in admitted.iter().enumerate() {
            let within = admitted[..=index].iter().filter(|at| **at + width > *end).count();
            prop_assert!(within as u64 <= limit, "{within} within {width} ms");
        }
        prop_assert_eq!(used(&ledger, &meters[3]), spent);
        for (readings, reserved) in open.into_values() {
            ledger.settle(&meters, &readings, &reserved, &Amounts { requests: 1, ..Amounts::default() });
            spent -= reserved.cost.nanos();
        }
        prop_assert_eq!((used(&ledger, &meters[1]), used(&ledger, &meters[3])), (0, spent));
    }
}
