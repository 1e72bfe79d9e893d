//! What a simulator saw: counters one can wait on and the most recent requests with their outcomes.
//! Only writes and reads here; who may change the simulator is in `control`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::sync::watch;

use crate::residents::Stay;
use crate::slots::{Slot, Slots};

/// The bodies kept for inspection may hold this many bytes in all.
const BODIES_KEPT: usize = 64 << 20;

/// How many calls came and how they ended. Calls are requests for work; the GET requests of discovery
/// and health are counted as probes only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Calls whose request was read whole.
    pub received: u64,
    /// Calls answered to the last byte, whatever the status.
    pub completed: u64,
    /// Calls whose peer hung up before the answer was whole.
    pub aborted: u64,
    /// Calls the simulator itself broke off: a reset, a premature end, or its own death.
    pub broken: u64,
    /// Calls received and not yet ended.
    pub in_flight: u64,
    /// Those of them that are being worked on.
    pub running: u64,
    /// Those of them that wait for a slot.
    pub waiting: u64,
    /// The most that were ever being worked on at once.
    pub peak_running: u64,
    /// Requests for discovery, health or metrics.
    pub probes: u64,
    /// Connections accepted.
    pub connections: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has not ended yet.
    InFlight,
    /// Its answer was handed over whole.
    Completed,
    /// Its peer hung up first.
    Aborted,
    /// The simulator broke it off.
    Broken,
}

/// One request as it arrived, and how it ended.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its number, counting every request from 0.
    pub number: u64,
    /// Whether it asked for work rather than for discovery, health or metrics.
    pub is_call: bool,
    /// The request's method.
    pub method: Method,
    /// The path and query as sent.
    pub target: String,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The request's body.
    pub body: Bytes,
    /// When it had been read whole.
    pub received_at: Instant,
    /// How it ended, so far.
    pub outcome: Outcome,
    /// When that was noticed.
    pub ended_at: Option<Instant>,
    /// The bytes of the answer's body handed over by then.
    pub sent: u64,
}

impl Recorded {
    /// The path without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The body as JSON, if it is.
    #[must_use]
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// A request about to be recorded.
pub(crate) struct Arrival<'a> {
    pub(crate) is_call: bool,
    pub(crate) method: &'a Method,
    pub(crate) target: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Bytes,
}

#[derive(Default)]
struct Log {
    next: u64,
    calls: u64,
    bytes: usize,
    entries: VecDeque<Recorded>,
}

/// The shared record of one simulator.
pub(crate) struct Ledger {
    capacity: usize,
    counters: watch::Sender<Counters>,
    log: Mutex<Log>,
    dying: AtomicBool,
}

impl Ledger {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            counters: watch::Sender::new(Counters::default()),
            log: Mutex::default(),
            dying: AtomicBool::new(false),
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        *self.counters.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Counters> {
        self.counters.subscribe()
    }

    pub(crate) fn entries(&self, calls: bool) -> Vec<Recorded> {
        self.log().entries.iter().filter(|entry| entry.is_call == calls).cloned().collect()
    }

    /// Counts a connection; its number.
    pub(crate) fn connect(&self) -> u64 {
        let mut number = 0;
        self.counters.send_modify(|counters| {
            number = counters.connections;
            counters.connections += 1;
        });
        number
    }

    /// From now on a request that ends unanswered does so because the simulator dies.
    pub(crate) fn die(&self) {
        self.dying.store(true, Ordering::Release);
    }

    /// Records a request and returns the ticket that records its end.
    pub(crate) fn open(self: &Arc<Self>, arrival: &Arrival<'_>) -> Ticket {
        let (number, ordinal) = self.record(arrival);
        self.counters.send_modify(|counters| {
            if arrival.is_call {
                counters.received += 1;
                counters.in_flight += 1;
            } else {
                counters.probes += 1;
            }
        });
        let ledger = Arc::clone(self);
        let (is_call, outcome) = (arrival.is_call, Outcome::Aborted);
        Ticket { ledger, number, ordinal, is_call, outcome, sent: 0, work: None }
    }

    /// Its number among all requests, and among the calls.
    fn record(&self, arrival: &Arrival<'_>) -> (u64, u64) {
        let mut log = self.log();
        let number = log.next;
        let ordinal = log.calls;
        log.next += 1;
        log.calls += u64::from(arrival.is_call);
        if self.capacity == 0 {
            return (number, ordinal);
        }
        log.bytes += arrival.body.len();
        log.entries.push_back(Recorded {
            number,
            is_call: arrival.is_call,
            method: arrival.method.clone(),
            target: arrival.target.to_owned(),
            headers: arrival.headers.clone(),
            body: arrival.body.clone(),
            received_at: Instant::now(),
            outcome: Outcome::InFlight,
            ended_at: None,
            sent: 0,
        });
        while log.entries.len() > self.capacity || log.bytes > BODIES_KEPT {
            let Some(oldest) = log.entries.pop_front() else { break };
            log.bytes -= oldest.body.len();
        }
        (number, ordinal)
    }

    fn close(&self, ticket: &Ticket) {
        {
            let mut log = self.log();
            let first = log.entries.front().map_or(0, |entry| entry.number);
            let index = ticket.number.checked_sub(first).and_then(|index| usize::try_from(index).ok());
            if let Some(entry) = index.and_then(|index| log.entries.get_mut(index)) {
                entry.outcome = ticket.outcome;
                entry.ended_at = Some(Instant::now());
                entry.sent = ticket.sent;
            }
        }
        if ticket.is_call {
            self.counters.send_modify(|counters| {
                counters.in_flight -= 1;
                match ticket.outcome {
                    Outcome::Completed => counters.completed += 1,
                    Outcome::Broken => counters.broken += 1,
                    Outcome::Aborted | Outcome::InFlight => counters.aborted += 1,
                }
            });
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One more of something as long as it lives.
struct Counted {
    ledger: Arc<Ledger>,
    field: fn(&mut Counters) -> &mut u64,
}

impl Counted {
    fn new(ledger: &Arc<Ledger>, field: fn(&mut Counters) -> &mut u64) -> Self {
        ledger.counters.send_modify(|counters| {
            *field(counters) += 1;
            counters.peak_running = counters.peak_running.max(counters.running);
        });
        Self { ledger: Arc::clone(ledger), field }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.ledger.counters.send_modify(|counters| *(self.field)(counters) -= 1);
    }
}

/// What a call holds while it is being worked on.
struct Work {
    _running: Counted,
    _slot: Slot,
    _stay: Option<Stay>,
}

/// An open request. Dropped before anything else is noted, its peer has hung up: the server drops the
/// work of a closed connection at once.
pub(crate) struct Ticket {
    ledger: Arc<Ledger>,
    number: u64,
    ordinal: u64,
    is_call: bool,
    outcome: Outcome,
    sent: u64,
    work: Option<Work>,
}

impl Ticket {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// How many calls came before it, which discovery and health do not disturb.
    pub(crate) fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// How many calls are being worked on beside it.
    pub(crate) fn others_running(&self) -> u64 {
        self.ledger.counters.borrow().running.saturating_sub(1)
    }

    /// Waits for a slot, and keeps it and the stay at the model until the request ends.
    pub(crate) async fn work(&mut self, slots: &Arc<Slots>, stay: Option<Stay>) {
        let waiting = Counted::new(&self.ledger, |counters| &mut counters.waiting);
        let slot = slots.enter().await;
        drop(waiting);
        let running = Counted::new(&self.ledger, |counters| &mut counters.running);
        self.work = Some(Work { _running: running, _slot: slot, _stay: stay });
    }

    /// Notes that this much of the body was handed over.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Notes that the answer was handed over whole, unless it was broken off before.
    pub(crate) fn complete(&mut self) {
        if self.is_pending() {
            self.outcome = Outcome::Completed;
        }
    }

    /// Notes that the simulator breaks the answer off.
    pub(crate) fn break_off(&mut self) {
        self.outcome = Outcome::Broken;
    }

    fn is_pending(&self) -> bool {
        self.outcome == Outcome::Aborted
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_pending() && self.ledger.dying.load(Ordering::Acquire) {
            self.break_off();
        }
        // Whoever waits for the end of a call finds its slot free.
        self.work = None;
        self.ledger.close(self);
    }
}
