//! Counting together with others: what is asked may cost a request a tenth of a second once, and then nothing
//! until the counters answer again. What is told goes out behind its back.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use synapse_core::{
    ledger::{Amounts, Meter, Verdict},
    store::ledger::{Settlement, SharedLedger, SharedLedgerError},
};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, mpsc, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::metrics::{Metrics, ReasonLabel};

/// How long a request waits for an answer.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long it waits for its turn to ask: with the answer, a second at most.
const TURN: Duration = Duration::from_millis(900);
/// How long it may take where nobody waits.
const WORK: Duration = Duration::from_secs(1);
/// Between two looks at counters that do not answer.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between two renewals of places, which come back by themselves after three times that.
const RENEW_EVERY: Duration = Duration::from_secs(15);
/// Requests that ask at once. That others wait for their turn says nothing about who is asked.
const MAX_ASKING: usize = 64;
/// Settlements that wait to be told.
const MAX_WAITING: usize = 16 * 1024;
/// Those that are told together, and places that are renewed together: what goes out at once must be done within
/// [`WORK`], however many there are in all.
const BATCH: usize = 64;

pub(super) enum Errand {
    Settle(Settlement),
    /// To be told when all that came before is done.
    Tell(oneshot::Sender<()>),
}

/// Why nothing came of a question.
enum Failure {
    /// There was an answer: no.
    Refused,
    /// There was none.
    Silent,
}

/// The counters that others use as well.
pub(super) struct Shared {
    ledger: Arc<dyn SharedLedger>,
    is_up: AtomicBool,
    went_down: Notify,
    asking: Semaphore,
    errands: mpsc::Sender<Errand>,
    /// Tickets with places that are to be kept; as many as there are open requests.
    held: Mutex<HashMap<u128, Vec<Meter>>>,
    metrics: Arc<Metrics>,
}

impl Shared {
    pub(super) fn new(
        ledger: Arc<dyn SharedLedger>,
        metrics: Arc<Metrics>,
    ) -> (Arc<Self>, mpsc::Receiver<Errand>) {
        let (errands, receiver) = mpsc::channel(MAX_WAITING);
        let shared = Self {
            ledger,
            is_up: AtomicBool::new(true),
            went_down: Notify::new(),
            asking: Semaphore::new(MAX_ASKING),
            errands,
            held: Mutex::default(),
            metrics,
        };
        (Arc::new(shared), receiver)
    }

    fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// Leave to ask; `None` while nobody answers, or when too many ask.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        if !self.is_up() {
            return None;
        }
        let Ok(turn) = timeout(TURN, self.asking.acquire()).await else {
            self.count("busy", 1);
            return None;
        };
        // Those before may have asked in vain.
        turn.ok().filter(|_| self.is_up())
    }

    /// The verdict; `None` where there is none.
    pub(super) async fn reserve(
        &self,
        _turn: SemaphorePermit<'_>,
        ticket: u128,
        meters: &[Meter],
        amounts: &Amounts,
    ) -> Option<Verdict> {
        self.ask(PATIENCE, self.ledger.reserve(ticket, meters, amounts)).await.ok()
    }

    /// Asks, and notes a failure. What is refused to one says nothing about the others.
    async fn ask<T>(
        &self,
        patience: Duration,
        question: impl Future<Output = Result<T, SharedLedgerError>>,
    ) -> Result<T, Failure> {
        let (reason, error) = match timeout(patience, question).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(SharedLedgerError::Refused(error))) => {
                self.count("refused", 1);
                tracing::warn!(
                    error,
                    "Redis refuses to count; do others write to its keys `synapse:{{limits}}:`?"
                );
                return Err(Failure::Refused);
            }
            Ok(Err(SharedLedgerError::Unreachable(error))) => ("failed", error),
            Err(_) => ("timeout", "no answer in time".to_owned()),
        };
        self.count(reason, 1);
        if self.is_up.swap(false, Ordering::Relaxed) {
            self.metrics.redis_up.get_or_create(&[]).set(0);
            tracing::error!(
                error,
                "Redis does not answer; `limits.on_redis_failure` says what happens to requests"
            );
            self.went_down.notify_one();
        }
        Err(Failure::Silent)
    }

    fn count(&self, reason: &'static str, failures: u64) {
        self.metrics.limit_errors.get_or_create(&ReasonLabel { reason }).inc_by(failures);
    }

    /// Whether the counters answer now. That they still do not is no news.
    pub(super) async fn look(&self) {
        let answers = if self.is_up() {
            self.ask(WORK, self.ledger.ping()).await.is_ok()
        } else {
            matches!(timeout(WORK, self.ledger.ping()).await, Ok(Ok(())))
        };
        if answers {
            self.metrics.redis_up.get_or_create(&[]).set(1);
            if !self.is_up.swap(true, Ordering::Relaxed) {
                tracing::info!("Redis answers again; limits are counted there");
            }
        }
    }

    /// Keeps a ticket's places until it is settled.
    pub(super) fn hold(&self, ticket: u128, places: Vec<Meter>) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(ticket, places);
    }

    /// Settles a ticket, soon.
    pub(super) fn settle(&self, settlement: Settlement) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&settlement.ticket);
        if self.errands.try_send(Errand::Settle(settlement)).is_err() {
            // What it reserved stays counted.
            self.count("settlement_lost", 1);
        }
    }

    /// Waits until what was settled so far is told.
    pub(super) async fn flush(&self) {
        let (tell, told) = oneshot::channel();
        if self.errands.try_send(Errand::Tell(tell)).is_ok() {
            let _in_time = timeout(WORK, told).await;
        }
    }

    /// Tells settlements, renews places, and looks after counters that do not answer; without end.
    pub(super) async fn keep(self: Arc<Self>, mut errands: mpsc::Receiver<Errand>) {
        let mut renewal = interval(RENEW_EVERY);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            if !self.is_up() {
                tokio::time::sleep(LOOK_EVERY).await;
                self.look().await;
                continue;
            }
            if !batch.is_empty() {
                self.run(&mut batch).await;
                continue;
            }
            tokio::select! {
                _ = errands.recv_many(&mut batch, BATCH) => {}
                _ = renewal.tick() => self.renew().await,
                () = self.went_down.notified() => {}
            }
        }
    }

    /// Does these errands. Those of which nothing is heard are kept: settling twice is settling once. What is
    /// refused would be refused again.
    async fn run(&self, batch: &mut Vec<Errand>) {
        let settlements: Vec<_> = batch
            .iter()
            .filter_map(|errand| match errand {
                Errand::Settle(settlement) => Some(settlement.clone()),
                Errand::Tell(_) => None,
            })
            .collect();
        let refused = match self.ask(WORK, self.ledger.settle(&settlements)).await {
            Ok(refused) => refused,
            Err(Failure::Refused) => settlements.len() as u64,
            Err(Failure::Silent) => return,
        };
        if refused > 0 {
            self.count("settlement_lost", refused);
            tracing::warn!(refused, "Redis refuses to settle requests; what they reserved stays counted");
        }
        for errand in batch.drain(..) {
            if let Errand::Tell(tell) = errand {
                let _whoever_waits = tell.send(());
            }
        }
    }

    async fn renew(&self) {
        let held: Vec<_> = {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.iter().map(|(ticket, places)| (*ticket, places.clone())).collect()
        };
        for some in held.chunks(BATCH) {
            match self.ask(WORK, self.ledger.renew(some)).await {
                Ok(refused) => self.count("refused", refused),
                Err(Failure::Refused) => {}
                Err(Failure::Silent) => return,
            }
        }
    }
}
