//! Where the next attempt goes: a place that is free, or one that is waited for; and how much time all
//! attempts have together.

use std::{sync::Arc, time::Duration};

use hyper::{HeaderMap, header::HeaderName};
use synapse_core::error::{Fault, FaultKind};
use tokio::time::Instant;

use super::Attempts;
use crate::{
    metrics::{OperationLabel, ReasonLabel},
    route::{
        admission::{Shed, Waiting},
        catalog::Candidate,
        endpoint::{Endpoint, Lease, Refused},
        plan::{Choice, Next},
    },
};

/// How long the caller is going to wait, in seconds.
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
/// While a request waits, it looks this often whether another backend has become a choice.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A place, and whether it is really to be had.
type Offer = (Choice, Result<Lease, Refused>);

/// How long the caller is going to wait, where the request says so.
///
/// # Errors
/// `invalid_field` for what is no time.
pub(super) fn callers_patience(headers: &HeaderMap) -> Result<Option<Duration>, Fault> {
    let Some(value) = headers.get(REQUEST_TIMEOUT) else { return Ok(None) };
    let seconds = value.to_str().ok().and_then(|text| text.trim().parse::<f64>().ok());
    let time = seconds.filter(|seconds| *seconds > 0.0).and_then(|s| Duration::try_from_secs_f64(s).ok());
    time.map(Some).ok_or_else(|| {
        let message = "The header `x-request-timeout` must be a number of seconds above 0.";
        Fault::new(FaultKind::InvalidField, message).param("x-request-timeout")
    })
}

impl Attempts {
    /// The next place to try, waited for if need be.
    pub(super) async fn next_place(&mut self) -> Option<(Choice, Lease)> {
        loop {
            let (choice, lease) = match self.plan.advance() {
                Next::Nothing => return None,
                Next::Try(choice) => self.take(choice),
                Next::Wait(full) => match self.wait(full).await {
                    Some(offer) => offer,
                    None => continue,
                },
            };
            match lease {
                Ok(lease) => {
                    self.set_deadline(lease.began().into(), choice.candidate.timeouts.total);
                    return Some((choice, lease));
                }
                Err(why) => self.plan.note_refused(&choice, why),
            }
        }
    }

    fn take(&self, choice: Choice) -> Offer {
        let lease = choice.candidate.endpoint.lease(self.live.snapshot.routing.breaker, self.demand);
        (choice, lease)
    }

    /// Waits in line for a place at one of `full`.
    async fn wait(&mut self, full: Vec<Candidate>) -> Option<Offer> {
        let began = Instant::now();
        let limits = self.live.snapshot.routing.queue;
        let key = self.bound.call.caller.principal().key.clone();
        let total = full.iter().map(|c| c.timeouts.total).max().unwrap_or_default();
        let until = self.set_deadline(began, total).min(began + limits.max_wait);
        let line =
            self.gateway.waiting.line_up(endpoints(full), &key, &limits, self.bound.call.body.memory());
        let (shed, comes_back) = match line {
            Err(refused) => refused,
            Ok(waiting) => {
                let stood = self.stand_in_line(waiting, until).await;
                let took = began.elapsed();
                self.waited += took;
                let operation = self.bound.call.operation.name();
                let waits = &self.gateway.metrics.queue_wait;
                waits.get_or_create(&OperationLabel { operation }).observe(took.as_secs_f64());
                match stood {
                    Ok(offer) => return offer,
                    // There may be others by now.
                    Err(Shed::Gone) => {
                        self.adopt();
                        return None;
                    }
                    Err(shed) => (shed, Duration::ZERO),
                }
            }
        };
        self.gateway.metrics.shed.get_or_create(&ReasonLabel { reason: shed.name() }).inc();
        self.plan.stop_waiting(std::time::Instant::now() + comes_back);
        None
    }

    /// Waits for a place, or for a better choice: a backend that comes back is not left idle while others
    /// have a line.
    async fn stand_in_line(&mut self, mut waiting: Waiting, until: Instant) -> Result<Option<Offer>, Shed> {
        loop {
            let pause = until.min(Instant::now() + LOOK_AGAIN);
            match tokio::time::timeout_at(pause, &mut waiting).await {
                Ok(Ok((endpoint, slot))) => {
                    let lease = endpoint.lease_slot(slot, self.live.snapshot.routing.breaker, self.demand);
                    return Ok(self.plan.admitted(&endpoint).map(|choice| (choice, lease)));
                }
                Ok(Err(shed)) => return Err(shed),
                Err(_) if Instant::now() >= until => return Err(Shed::TimedOut),
                Err(_) => match self.look_again() {
                    Next::Try(choice) => return Ok(Some(self.take(choice))),
                    Next::Wait(full) => waiting.stand_at(endpoints(full)),
                    Next::Nothing => {}
                },
            }
        }
    }

    /// What to do next, with the backends that there are now.
    fn look_again(&mut self) -> Next {
        self.adopt();
        self.plan.advance()
    }

    /// Turns to the backends that there are now.
    pub(super) fn adopt(&mut self) {
        let now = self.gateway.live();
        // A request keeps the configuration that it began with; what backends list may change.
        if !Arc::ptr_eq(&now, &self.live) && Arc::ptr_eq(&now.snapshot, &self.live.snapshot) {
            self.plan.adopt(Arc::clone(&now));
            self.live = now;
        }
    }

    /// When all attempts must be over: by the first place's limit, or earlier if the caller says so.
    fn set_deadline(&mut self, now: Instant, total: Duration) -> Instant {
        *self.deadline.get_or_insert_with(|| now + self.patience.map_or(total, |own| own.min(total)))
    }

    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

fn endpoints(candidates: Vec<Candidate>) -> Vec<Arc<Endpoint>> {
    candidates.into_iter().map(|candidate| candidate.endpoint).collect()
}
