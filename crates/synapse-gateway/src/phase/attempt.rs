//! The attempts: one is a function, the loop around it another. Whoever asks for the outcome gets
//! the first reply that has begun to have content, or the fault of the last attempt.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{
    HeaderMap, Method,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use synapse_core::{
    error::{Fault, FaultKind, Retry},
    id::{BackendId, ModelName},
};
use tokio::time::Instant;

use super::{bind::Bound, refusal};
use crate::{
    audit::{Record, Trail},
    backend::{BackendError, FailedAt, UpstreamCall, UpstreamReply, http::HOP_HEADER},
    gateway::{Gateway, Live},
    metrics::{AttemptLabels, FallbackLabels, Label, OperationLabel, ReasonLabel},
    route::{
        admission::Shed,
        endpoint::{Demand, Endpoint, Lease, Refused},
        paths,
        plan::{Choice, Next, Plan},
    },
    stream::{self, Source},
};

/// What of a caller's headers an engine may see. Credentials and cookies never do.
const FORWARDED: [&str; 6] =
    ["content-type", "accept", "user-agent", "openai-beta", "traceparent", "tracestate"];
/// How long the caller is going to wait, in seconds.
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
/// The largest error body that is read.
const MAX_REFUSAL: usize = 64 * 1024;

/// The status and headers of a reply.
pub(super) struct Head {
    pub(super) status: hyper::StatusCode,
    pub(super) headers: HeaderMap,
}

/// Who served, or failed last, and what it took.
pub(super) struct Served {
    pub(super) model: ModelName,
    pub(super) backend: BackendId,
    pub(super) attempts: u32,
}

/// What came of all attempts.
pub(crate) struct Outcome {
    result: Result<(Head, Source), Fault>,
    /// `None` where nobody was asked.
    served: Option<Served>,
    /// Time spent waiting for engines, or for a place at one.
    waited: Duration,
}

impl Outcome {
    /// Notes in the record how long engines took.
    pub(crate) fn note(&self, record: &mut Record) {
        record.waited_upstream(self.waited);
    }

    /// The reply's content alone.
    pub(crate) fn into_source(self) -> Result<Source, Fault> {
        self.result.map(|(_, source)| source)
    }

    /// The whole reply.
    pub(super) fn into_reply(self) -> Result<(Head, Source, Served), Fault> {
        let (head, source) = self.result?;
        let served =
            self.served.ok_or_else(|| Fault::new(FaultKind::Internal, "A reply came from nowhere."))?;
        Ok((head, source, served))
    }
}

/// A failed attempt.
struct Failed {
    fault: Fault,
    reached: Reached,
}

/// What an attempt left behind at its backend.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// Nothing: it was never reached.
    Nothing,
    /// Nothing: it refused.
    Refused,
    /// Perhaps something.
    Unknown,
}

/// Tries backends until one has begun to reply. Owns what it needs, since it may outlive the phase
/// that started it.
pub(super) struct Attempts {
    gateway: Arc<Gateway>,
    live: Arc<Live>,
    bound: Bound,
    plan: Plan,
    demand: Demand,
    request_id: HeaderValue,
    trail: Arc<Trail>,
    /// When all attempts must be over; set with the first of them.
    deadline: Option<Instant>,
    tried: u32,
    waited: Duration,
    last_backend: Option<BackendId>,
}

impl Attempts {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        live: Arc<Live>,
        bound: Bound,
        request_id: &str,
        trail: Arc<Trail>,
    ) -> Self {
        let caller = Arc::clone(bound.call.caller.principal());
        let demand = Demand { streamed: bound.call.shape.stream, tokens: bound.call.shape.tokens };
        let fingerprint = live.snapshot.routing.prefix_affinity.then(|| bound.fingerprint()).flatten();
        let wishes = bound.call.shape.preferences.clone();
        let plan =
            Plan::new(Arc::clone(&live), Arc::clone(&bound.route), caller, wishes, demand, fingerprint);
        let request_id = HeaderValue::from_str(request_id).unwrap_or(HeaderValue::from_static("-"));
        Self {
            gateway,
            live,
            bound,
            plan,
            demand,
            request_id,
            trail,
            deadline: None,
            tried: 0,
            waited: Duration::ZERO,
            last_backend: None,
        }
    }

    /// The first reply that has begun, or why there is none.
    pub(super) async fn run(mut self) -> Outcome {
        self.gateway.budget.deposit(std::time::Instant::now());
        let mut last = None;
        let mut next = self.next_place().await;
        while let Some((choice, lease)) = next {
            self.begin(&choice);
            let failed = match self.attempt(&choice, lease).await {
                Ok(begun) => return self.outcome(Ok(begun)),
                Err(failed) => failed,
            };
            let again = self.may_retry(&failed, &choice);
            last = Some(with_earliest_return(failed.fault, last));
            if !again {
                break;
            }
            pause(self.tried).await;
            next = self.next_place().await;
        }
        let fault = last.unwrap_or_else(|| self.plan.exhausted(self.bound.route.model.as_str()));
        self.outcome(Err(fault))
    }

    /// The next place to try, waited for if need be.
    async fn next_place(&mut self) -> Option<(Choice, Lease)> {
        loop {
            let (choice, lease) = match self.plan.advance() {
                Next::Nothing => return None,
                Next::Try(choice) => {
                    let lease =
                        choice.candidate.endpoint.lease(self.live.snapshot.routing.breaker, self.demand);
                    (choice, lease)
                }
                Next::Wait(endpoints) => match self.wait(endpoints).await {
                    Some(admitted) => admitted,
                    None => continue,
                },
            };
            self.set_deadline(choice.candidate.timeouts.total);
            match lease {
                Ok(lease) => return Some((choice, lease)),
                Err(why) => self.plan.note_refused(&choice, why),
            }
        }
    }

    /// Waits in line for a place at one of `endpoints`.
    async fn wait(&mut self, endpoints: Vec<Arc<Endpoint>>) -> Option<(Choice, Result<Lease, Refused>)> {
        let began = Instant::now();
        let limits = self.live.snapshot.routing.queue;
        let key = self.bound.call.caller.principal().key.clone();
        let total = endpoints.first().map_or(Duration::ZERO, |e| e.backend.spec.timeouts.total);
        let until = self.set_deadline(total).min(began + limits.max_wait);
        let line = self.gateway.waiting.line_up(endpoints, &key, &limits, self.bound.call.body.memory());
        let (shed, comes_back) = match line {
            Err((shed, expected)) => (shed, expected),
            Ok(waiting) => {
                let waited = tokio::time::timeout_at(until, waiting).await;
                let operation = self.bound.call.operation.name();
                let took = began.elapsed();
                self.waited += took;
                let metric = self.gateway.metrics.queue_wait.get_or_create(&OperationLabel { operation });
                metric.observe(took.as_secs_f64());
                match waited.unwrap_or(Err(Shed::TimedOut)) {
                    Ok((endpoint, slot)) => {
                        let lease =
                            endpoint.lease_slot(slot, self.live.snapshot.routing.breaker, self.demand);
                        return Some((self.plan.admitted(&endpoint)?, lease));
                    }
                    Err(shed) => (shed, Duration::ZERO),
                }
            }
        };
        self.gateway.metrics.shed.get_or_create(&ReasonLabel { reason: shed.name() }).inc();
        self.plan.stop_waiting(std::time::Instant::now() + comes_back);
        None
    }

    /// When all attempts must be over: by the first place's limit, or earlier if the caller says so.
    fn set_deadline(&mut self, total: Duration) -> Instant {
        *self.deadline.get_or_insert_with(|| {
            let own = self.bound.call.headers.get(REQUEST_TIMEOUT).and_then(|value| value.to_str().ok());
            let own = own.and_then(|text| Duration::try_from_secs_f64(text.trim().parse().ok()?).ok());
            Instant::now() + own.map_or(total, |own| own.min(total))
        })
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn outcome(self, result: Result<(Head, Source), Fault>) -> Outcome {
        let served = self.last_backend.map(|backend| Served {
            model: self.bound.route.model.clone(),
            backend,
            attempts: self.tried,
        });
        Outcome { result, served, waited: self.waited }
    }

    fn begin(&mut self, choice: &Choice) {
        self.tried += 1;
        let backend = choice.candidate.endpoint.backend.id().clone();
        self.trail.mark(backend.clone(), self.tried);
        if let Some(from) = self.last_backend.replace(backend.clone()) {
            let labels = FallbackLabels {
                model: Label::from(self.bound.route.label()),
                from: Label::from(from.as_str()),
                to: Label::from(backend.as_str()),
            };
            self.gateway.metrics.fallbacks.get_or_create(&labels).inc();
        }
    }

    /// Whether another backend may be asked. What reached an engine is only sent again if the
    /// engine keeps nothing of it, and within the budget.
    fn may_retry(&mut self, failed: &Failed, choice: &Choice) -> bool {
        let kind = failed.fault.kind;
        if self.tried > self.live.snapshot.routing.retries || self.is_late() {
            return false;
        }
        if kind == FaultKind::ContextExceeded {
            return self.plan.turn_to_larger(&choice.route);
        }
        // A backend that does not know a model, or is this gateway itself, says nothing of the next one.
        let elsewhere = kind.retry() == Retry::ElsewhereOnly
            || matches!(kind, FaultKind::ModelNotFound | FaultKind::LoopDetected);
        if !elsewhere && failed.reached != Reached::Nothing {
            return false;
        }
        match failed.reached {
            Reached::Nothing => true,
            Reached::Unknown if self.bound.call.shape.has_side_effects => false,
            Reached::Refused | Reached::Unknown => {
                let share = self.live.snapshot.routing.retry_budget;
                self.gateway.budget.withdraw(std::time::Instant::now(), share)
            }
        }
    }

    /// One attempt at one backend, until content has begun.
    async fn attempt(&mut self, choice: &Choice, mut lease: Lease) -> Result<(Head, Source), Failed> {
        let began = Instant::now();
        let deadline = self.deadline.unwrap_or(began + choice.candidate.timeouts.total);
        let first_token = began + choice.candidate.timeouts.first_token;
        let patience = if self.bound.call.shape.stream { deadline.min(first_token) } else { deadline };
        let begun = tokio::time::timeout_at(patience, self.begin_reply(choice, deadline)).await;
        let result =
            begun.unwrap_or_else(|_| Err(Failed { fault: self.out_of_time(), reached: Reached::Unknown }));
        self.waited += began.elapsed();
        match result {
            Ok((head, source)) => {
                choice.candidate.endpoint.backend.succeeded.inc();
                lease.first_content();
                Ok((head, source.with_lease(lease)))
            }
            Err(failed) => {
                let backend = Label::from(choice.candidate.endpoint.backend.id().as_str());
                let outcome = failed.fault.kind.code();
                self.gateway.metrics.attempts.get_or_create(&AttemptLabels { backend, outcome }).inc();
                report(&mut lease, &failed.fault);
                self.log_failure(choice, &failed);
                Err(failed)
            }
        }
    }

    fn out_of_time(&self) -> Fault {
        if self.bound.call.shape.stream {
            Fault::new(FaultKind::FirstTokenTimeout, "The engine did not begin to answer in time.")
        } else {
            Fault::new(FaultKind::UpstreamTimeout, "The engine did not answer in time.")
        }
    }

    async fn begin_reply(&self, choice: &Choice, deadline: Instant) -> Result<(Head, Source), Failed> {
        let backend = &choice.candidate.endpoint.backend;
        let reply = backend.transport.call(self.upstream_call(choice)).await.map_err(failed_call)?;
        if !reply.status.is_success() {
            return Err(self.refused(reply).await);
        }
        let head = Head { status: reply.status, headers: reply.headers };
        let context = stream::Context {
            operation: self.bound.call.operation,
            hide_usage: !self.bound.call.shape.wants_usage,
            choices: self.bound.call.shape.choices,
            timeouts: choice.candidate.timeouts,
            deadline,
        };
        let gaps = || self.gateway.metrics.gaps(choice.route.label(), backend.id().as_str());
        let source = stream::begin(&context, &head.headers, reply.body, &self.gateway.drain, gaps).await;
        source.map(|source| (head, source)).map_err(|fault| Failed { fault, reached: Reached::Unknown })
    }

    fn upstream_call(&self, choice: &Choice) -> UpstreamCall {
        let call = &self.bound.call;
        let endpoint = &choice.candidate.endpoint;
        let mut headers = HeaderMap::with_capacity(8);
        for name in FORWARDED {
            if let Some(value) = call.headers.get(name) {
                headers.insert(HeaderName::from_static(name), value.clone());
            }
        }
        for hop in call.headers.get_all(HOP_HEADER) {
            headers.append(HOP_HEADER, hop.clone());
        }
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        headers.insert(crate::respond::REQUEST_ID, self.request_id.clone());
        UpstreamCall {
            method: Method::POST,
            path: paths::openai(&endpoint.backend.spec, call.operation.openai_path()),
            headers,
            body: call.body.for_upstream(call.operation, &call.shape, &endpoint.model),
            connect_timeout: choice.candidate.timeouts.connect,
            replayable: !call.shape.has_side_effects,
        }
    }

    /// Reads why the engine refused.
    async fn refused(&self, reply: UpstreamReply) -> Failed {
        let status = reply.status;
        let body = stream::read_at_most(reply.body, MAX_REFUSAL).await.unwrap_or_else(|_| Bytes::new());
        let fault = refusal::of(status, &reply.headers, &body, &self.bound.call.shape.model)
            .unwrap_or_else(|| Fault::new(FaultKind::Upstream, "The engine failed to serve the request."));
        // An engine that refuses outright has kept nothing.
        let outright = matches!(status.as_u16(), 401..=405 | 429 | 501 | 503);
        Failed { fault, reached: if outright { Reached::Refused } else { Reached::Unknown } }
    }

    fn log_failure(&self, choice: &Choice, failed: &Failed) {
        let source = std::error::Error::source(&failed.fault).map(ToString::to_string);
        tracing::warn!(
            request_id = self.request_id.to_str().unwrap_or_default(),
            backend = %choice.candidate.endpoint.backend.id(),
            model = &*choice.candidate.endpoint.model,
            code = failed.fault.kind.code(),
            detail = source,
            "an attempt failed"
        );
    }
}

/// What an attempt's fault says about its backend.
fn report(lease: &mut Lease, fault: &Fault) {
    match fault.kind {
        // A proper answer to a bad request.
        FaultKind::UpstreamRejected
        | FaultKind::ContextExceeded
        | FaultKind::ModelNotFound
        | FaultKind::UpstreamUnsupported => lease.proper_refusal(),
        FaultKind::UpstreamRateLimited => lease.cool_down(fault.retry_after),
        // A backend that says when it will be back is believed.
        _ => match fault.retry_after {
            Some(wait) => lease.unavailable(wait),
            None => lease.failure(),
        },
    }
}

fn failed_call(error: BackendError) -> Failed {
    let reached = if error.at == FailedAt::Connect { Reached::Nothing } else { Reached::Unknown };
    let fault = match error.at {
        FailedAt::Connect => {
            Fault::new(FaultKind::NoBackendAvailable, "No backend of this model can be reached now.")
        }
        FailedAt::Head | FailedAt::Body => {
            Fault::new(FaultKind::Upstream, "The engine closed the connection without an answer.")
        }
    };
    Failed { fault: fault.source(error), reached }
}

/// Of several backends that say when to come back, the earliest counts.
fn with_earliest_return(mut fault: Fault, before: Option<Fault>) -> Fault {
    if let Some(earlier) = before.and_then(|b| b.retry_after) {
        fault.retry_after = fault.retry_after.map(|wait| wait.min(earlier));
    }
    fault
}

/// The first fail-over is immediate; later ones spread out, 25–250 ms.
async fn pause(tried: u32) {
    if tried >= 2 {
        let jitter = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.subsec_nanos());
        tokio::time::sleep(Duration::from_millis(25 + u64::from(jitter % 226))).await;
    }
}
