//! Counters that others use as well: that do not answer, that are slow, and that refuse. Time is the runtime's own.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use synapse_core::{
    config::snapshot::OnRedisFailure,
    ledger::{Amounts, Measure, Meter, Reading, Scope, Span, Verdict},
    limits::Money,
    store::ledger::{Settlement, SharedLedger, SharedLedgerError},
};
use tokio::time::sleep;

use super::{BATCH, MAX_ASKING};
use crate::{
    limits::{Denied, Limiter, Ticket},
    metrics::{Metrics, ReasonLabel},
    tasks::TaskGuard,
};

/// Counters of others that answer or not, sooner or later, and remember what they were told.
#[derive(Default)]
struct Others {
    is_down: AtomicBool,
    takes: Duration,
    takes_for_each_place: Duration,
    refuses_to_reserve: AtomicBool,
    /// What it refuses to settle, by the tokens spent.
    refuses_to_settle: Option<u64>,
    settled: Mutex<Vec<u128>>,
    renewed: Mutex<HashSet<u128>>,
}

impl Others {
    fn answer<T>(&self, answer: T) -> Result<T, SharedLedgerError> {
        let is_down = self.is_down.load(Ordering::Relaxed);
        if is_down { Err(SharedLedgerError::Unreachable("down".to_owned())) } else { Ok(answer) }
    }
}

#[async_trait]
impl SharedLedger for Others {
    async fn reserve(&self, _: u128, meters: &[Meter], _: &Amounts) -> Result<Verdict, SharedLedgerError> {
        sleep(self.takes).await;
        if self.refuses_to_reserve.load(Ordering::Relaxed) {
            return Err(SharedLedgerError::Refused("WRONGTYPE".to_owned()));
        }
        self.answer(Verdict::Granted(vec![Reading::default(); meters.len()]))
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<u64, SharedLedgerError> {
        self.answer(())?;
        let is_refused = |settlement: &&Settlement| Some(settlement.spent.tokens) == self.refuses_to_settle;
        let (refused, taken): (Vec<_>, Vec<_>) = settlements.iter().partition(is_refused);
        self.settled.lock().expect("a lock").extend(taken.iter().map(|settlement| settlement.ticket));
        Ok(refused.len() as u64)
    }

    async fn renew(&self, held: &[(u128, Vec<Meter>)]) -> Result<u64, SharedLedgerError> {
        sleep(self.takes_for_each_place * u32::try_from(held.len()).expect("a number")).await;
        self.renewed.lock().expect("a lock").extend(held.iter().map(|(ticket, _)| *ticket));
        self.answer(0)
    }

    async fn ping(&self) -> Result<(), SharedLedgerError> {
        self.answer(())
    }
}

struct Case {
    others: Arc<Others>,
    limiter: Arc<Limiter>,
    metrics: Arc<Metrics>,
    _keeping: TaskGuard,
}

impl Case {
    async fn new(others: Others) -> Self {
        let (others, metrics) = (Arc::new(others), Arc::new(Metrics::new()));
        let limiter = Limiter::new("a", Arc::clone(&metrics));
        let keeping = limiter.share(Arc::clone(&others) as _).await.expect("the first to share");
        Self { others, limiter, metrics, _keeping: keeping }
    }

    async fn reserve(&self) -> Result<Ticket, Denied> {
        let meter = |measure, span| Meter { scope: Scope::Key("k".into()), measure, span, limit: 5 };
        let meters =
            vec![meter(Measure::Requests, Span::Sliding(60_000)), meter(Measure::Concurrent, Span::Held)];
        let amounts = Amounts { requests: 1, tokens: 1, cost: Money::default(), running: 1 };
        self.limiter.reserve(meters, amounts, OnRedisFailure::Closed).await.map(|(ticket, _)| ticket)
    }

    async fn ticket(&self) -> Ticket {
        self.reserve().await.unwrap_or_else(|_| panic!("no ticket"))
    }

    fn errors(&self, reason: &'static str) -> u64 {
        self.metrics.limit_errors.get_or_create(&ReasonLabel { reason }).get()
    }

    fn settled(&self) -> usize {
        self.others.settled.lock().expect("a lock").len()
    }
}

#[tokio::test(start_paused = true)]
async fn what_ends_during_an_outage_is_settled_after_it_and_what_was_never_asked_is_not() {
    let case = Case::new(Others::default()).await;
    let ticket = case.ticket().await;
    case.others.is_down.store(true, Ordering::Relaxed);
    for _ in 0..20 {
        assert!(matches!(case.reserve().await, Err(Denied::Unavailable)));
    }
    ticket.settle(1, Money::default());
    case.others.is_down.store(false, Ordering::Relaxed);
    case.limiter.flush().await;
    // The ticket, and the one question that found out.
    assert_eq!((case.settled(), case.errors("failed")), (2, 1));
    assert!(case.reserve().await.is_ok(), "it was noticed");
}

#[tokio::test(start_paused = true)]
async fn places_of_thousands_of_streams_are_renewed_however_long_that_takes_in_all() {
    let each = Duration::from_millis(10);
    let case = Case::new(Others { takes_for_each_place: each, ..Others::default() }).await;
    let mut held = Vec::new();
    for _ in 0..2000 {
        held.push(case.ticket().await);
    }
    sleep(Duration::from_secs(15) + each * 2001).await;
    assert_eq!(case.others.renewed.lock().expect("a lock").len(), held.len());
    assert_eq!((case.metrics.redis_up.get_or_create(&[]).get(), case.errors("timeout")), (1, 0));
    assert!(BATCH < held.len());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_without_end_for_a_turn_and_that_many_wait_is_no_outage() {
    let case = Case::new(Others { takes: Duration::from_millis(70), ..Others::default() }).await;
    let verdicts = join_all((0..2000).map(|_| case.reserve())).await;
    let refused = verdicts.iter().filter(|verdict| matches!(verdict, Err(Denied::Unavailable))).count();
    // The last turn is had after 840 ms.
    assert_eq!(verdicts.len() - refused, 13 * MAX_ASKING);
    assert_eq!(case.errors("busy"), refused as u64);
    assert_eq!((case.metrics.redis_up.get_or_create(&[]).get(), case.errors("timeout")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_settlement_that_is_refused_is_lost_alone() {
    let case = Case::new(Others { refuses_to_settle: Some(13), ..Others::default() }).await;
    for tokens in [12, 13, 14] {
        case.ticket().await.settle(tokens, Money::default());
    }
    case.limiter.flush().await;
    assert_eq!((case.settled(), case.errors("settlement_lost")), (2, 1));
    assert!(case.reserve().await.is_ok());
    assert_eq!(case.metrics.redis_up.get_or_create(&[]).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_counter_that_cannot_be_used_is_no_outage() {
    let case = Case::new(Others::default()).await;
    case.others.refuses_to_reserve.store(true, Ordering::Relaxed);
    assert!(matches!(case.reserve().await, Err(Denied::Unavailable)));
    case.others.refuses_to_reserve.store(false, Ordering::Relaxed);
    assert!(case.reserve().await.is_ok(), "others are not refused");
    assert_eq!((case.errors("refused"), case.metrics.redis_up.get_or_create(&[]).get()), (1, 1));
}
