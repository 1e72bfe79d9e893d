//! The attempts: one is a function, the loop around it another. Whoever asks for the outcome gets
//! the first reply that has begun to have content, or the fault of the last attempt.

mod place;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{
    HeaderMap, Method,
    header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT},
};
use synapse_core::{
    error::{Fault, FaultKind, Retry},
    id::{BackendId, ModelName},
};
use tokio::time::Instant;

use super::{bind::Bound, inspect::Cleared, refusal};
use crate::{
    audit::{Record, Trail, Work},
    backend::{
        BackendError, FailedAt, UpstreamCall, UpstreamReply,
        http::{HOP_HEADER, LeadsOutside},
    },
    gateway::{Gateway, Live},
    inspect::Words,
    metrics::{AttemptLabels, BackendLabel, FallbackLabels, Label},
    route::{
        catalog::Route,
        endpoint::{Demand, Lease},
        paths,
        plan::{Choice, Plan},
    },
    stream::{self, Source},
};

/// What of a caller's headers an engine may see. Credentials and cookies never do.
static FORWARDED: [HeaderName; 6] = [
    CONTENT_TYPE,
    ACCEPT,
    USER_AGENT,
    HeaderName::from_static("openai-beta"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];
/// Backends that cannot be reached cost little time and no work of an engine: that many may be passed over besides
/// those that the retries allow.
const MAX_UNREACHED: u32 = 8;
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
    /// Whether the request's time was over before the backend's.
    cut_short: bool,
}

impl Failed {
    const fn new(fault: Fault, reached: Reached) -> Self {
        Self { fault, reached, cut_short: false }
    }
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
    words: Words,
    plan: Plan,
    demand: Demand,
    request_id: HeaderValue,
    trail: Arc<Trail>,
    /// When all attempts must be over; set with the first of them.
    deadline: Option<Instant>,
    /// How long the caller is going to wait for them.
    patience: Option<Duration>,
    tried: u32,
    /// How many of them reached nothing.
    unreached: u32,
    waited: Duration,
    last: Option<(BackendId, Arc<Route>)>,
}

impl Attempts {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        live: Arc<Live>,
        cleared: Cleared,
        request_id: &str,
        trail: Arc<Trail>,
    ) -> Result<Self, Fault> {
        let Cleared { bound, inspection } = cleared;
        let prompt = bound.call.caller.principal().binding.system_prompt.clone();
        let words = Words { inspection, prompt };
        let patience = place::callers_patience(&bound.call.headers)?;
        let caller = Arc::clone(bound.call.caller.principal());
        let shape = &bound.call.shape;
        let demand = Demand { operation: bound.call.operation, streamed: shape.stream, tokens: shape.tokens };
        let fingerprint = live.snapshot.routing.prefix_affinity.then(|| bound.fingerprint()).flatten();
        let wishes = shape.preferences.clone();
        let plan = Plan::new(
            Arc::clone(&live),
            Arc::clone(&bound.route),
            caller,
            bound.reach.clone(),
            wishes,
            demand,
            fingerprint,
        );
        let request_id = HeaderValue::from_str(request_id).unwrap_or(HeaderValue::from_static("-"));
        Ok(Self {
            gateway,
            live,
            bound,
            words,
            plan,
            demand,
            request_id,
            trail,
            deadline: None,
            patience,
            tried: 0,
            unreached: 0,
            waited: Duration::ZERO,
            last: None,
        })
    }

    /// The first reply that has begun, or why there is none.
    pub(super) async fn run(mut self) -> Outcome {
        self.gateway.budget.deposit(std::time::Instant::now());
        let mut last = None;
        let mut next = self.next_place().await;
        while let Some((choice, lease)) = next {
            // Waiting may have taken all the time there was; then nobody is asked in vain.
            if self.is_late() {
                last.get_or_insert_with(|| self.out_of_time());
                break;
            }
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
            // A backend may have come meanwhile.
            self.adopt();
            next = self.next_place().await;
        }
        let fault = last.unwrap_or_else(|| self.plan.exhausted(self.bound.route.model.as_str()));
        self.outcome(Err(fault))
    }

    fn outcome(self, result: Result<(Head, Source), Fault>) -> Outcome {
        let served = self.last.map(|(backend, route)| Served {
            model: route.model.clone(),
            backend,
            attempts: self.tried,
        });
        Outcome { result, served, waited: self.waited }
    }

    fn begin(&mut self, choice: &Choice) {
        self.tried += 1;
        let backend = choice.candidate.endpoint.backend.id().clone();
        let fallback = (!Arc::ptr_eq(&choice.route, &self.bound.route)).then_some(&*choice.route);
        let fallback = fallback.map(|route| (route.model.clone(), route.pattern.clone()));
        let work = Work {
            price: choice.candidate.price.clone(),
            zone: choice.candidate.endpoint.locality(),
            since: std::time::Instant::now(),
        };
        self.trail.mark(backend.clone(), self.tried, fallback, work);
        if let Some((from, _)) = self.last.replace((backend.clone(), Arc::clone(&choice.route))) {
            let metrics = &self.gateway.metrics;
            let labels = FallbackLabels {
                model: metrics.model_label(self.bound.route.label()),
                from: metrics.backend_label(from.as_str()),
                to: metrics.backend_label(backend.as_str()),
            };
            metrics.fallbacks.get_or_create(&labels).inc();
        }
    }

    /// Whether another backend may be asked. What reached an engine is only sent again if the
    /// engine keeps nothing of it, and within the budget.
    fn may_retry(&mut self, failed: &Failed, choice: &Choice) -> bool {
        let kind = failed.fault.kind;
        if failed.reached == Reached::Nothing {
            self.unreached += 1;
            self.plan.note_unreachable(choice);
        }
        let spent = self.tried - self.unreached.min(MAX_UNREACHED);
        if spent > self.live.snapshot.routing.retries || failed.cut_short || self.is_late() {
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
            // One that has nothing to offer has spent nothing, either.
            Reached::Refused if is_lacking(kind) => true,
            Reached::Refused | Reached::Unknown => {
                let share = self.live.snapshot.routing.retry_budget;
                self.gateway.budget.withdraw(std::time::Instant::now(), share)
            }
        }
    }

    /// One attempt at one backend, until content has begun.
    async fn attempt(&mut self, choice: &Choice, mut lease: Lease) -> Result<(Head, Source), Failed> {
        let began = Instant::from_std(lease.began());
        let timeouts = choice.candidate.timeouts;
        let deadline = self.deadline.unwrap_or(began + timeouts.total);
        let own = if self.bound.call.shape.stream { timeouts.first_token } else { timeouts.total };
        let begun =
            tokio::time::timeout_at(deadline.min(began + own), self.begin_reply(choice, began, deadline))
                .await;
        let result = begun.unwrap_or_else(|_| {
            let cut_short = deadline < began + own;
            Err(Failed { cut_short, ..Failed::new(self.out_of_time(), Reached::Unknown) })
        });
        let now = Instant::now();
        self.waited += now.duration_since(began);
        match result {
            Ok((head, source)) => {
                choice.candidate.endpoint.backend.succeeded.inc();
                lease.first_content(now.into_std());
                Ok((head, source.with_lease(lease, now.into_std())))
            }
            Err(mut failed) => {
                let name = choice.candidate.endpoint.backend.id().as_str();
                let backend = self.gateway.metrics.backend_label(name);
                let outcome = failed.fault.kind.code();
                self.gateway.metrics.attempts.get_or_create(&AttemptLabels { backend, outcome }).inc();
                if !failed.cut_short {
                    report(&mut lease, &failed.fault);
                }
                self.words.clean(&mut failed.fault);
                self.log_failure(choice, &failed);
                if failed.fault.kind == FaultKind::UpstreamRateLimited {
                    failed.fault.retry_after.get_or_insert(Duration::from_secs(1));
                }
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

    async fn begin_reply(
        &self,
        choice: &Choice,
        began: Instant,
        deadline: Instant,
    ) -> Result<(Head, Source), Failed> {
        let backend = &choice.candidate.endpoint.backend;
        // The plan has seen to it; but an engine may say something else of a model since then.
        if !self.bound.reach.includes(&choice.candidate.endpoint) {
            return Err(Failed::new(self.bound.reach.fault(choice.route.label()), Reached::Nothing));
        }
        let mut reply = backend.transport.call(self.upstream_call(choice, false)).await;
        if reply.as_ref().is_err_and(|error| error.at == FailedAt::Stale)
            && !self.bound.call.shape.has_side_effects
        {
            reply = backend.transport.call(self.upstream_call(choice, true)).await;
        }
        let reply = reply.map_err(|error| {
            if LeadsOutside::is_why(&error) {
                let backend = Label::from(backend.id().as_str());
                self.gateway.metrics.leads_outside.get_or_create(&BackendLabel { backend }).inc();
            }
            failed_call(error)
        })?;
        if !reply.status.is_success() {
            return Err(self.refused(reply).await);
        }
        let head = Head { status: reply.status, headers: reply.headers };
        let context = stream::Context {
            operation: self.bound.call.operation,
            hide_usage: !self.bound.call.shape.wants_usage,
            choices: self.bound.call.shape.choices,
            words: self.words.clone(),
            timeouts: choice.candidate.timeouts,
            deadline,
            is_cut_short: deadline < began + choice.candidate.timeouts.total,
        };
        let gaps = || self.gateway.metrics.gaps(choice.route.label(), backend.id().as_str());
        let source = stream::begin(&context, &head.headers, reply.body, &self.gateway.drain, gaps).await;
        source.map(|source| (head, source)).map_err(|fault| Failed::new(fault, Reached::Unknown))
    }

    fn upstream_call(&self, choice: &Choice, on_fresh_connection: bool) -> UpstreamCall {
        let call = &self.bound.call;
        let endpoint = &choice.candidate.endpoint;
        let mut headers = HeaderMap::with_capacity(12);
        for (name, value) in &call.headers {
            if *name == HOP_HEADER {
                headers.append(HOP_HEADER, value.clone());
            } else if FORWARDED.contains(name) {
                headers.entry(name).or_insert_with(|| value.clone());
            }
        }
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        headers.insert(crate::respond::REQUEST_ID, self.request_id.clone());
        UpstreamCall {
            method: Method::POST,
            path: paths::openai(&endpoint.backend.spec, call.operation.openai_path()),
            headers,
            body: call.body.for_upstream(call.operation, &call.shape, &endpoint.model),
            connect_timeout: choice.candidate.timeouts.connect,
            on_fresh_connection,
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
        Failed::new(fault, if outright { Reached::Refused } else { Reached::Unknown })
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
        FaultKind::UpstreamRejected | FaultKind::ContextExceeded => lease.proper_refusal(),
        // It has answered; what we make of that is not its fault.
        FaultKind::DlpResponseBlocked | FaultKind::DlpFailed => lease.proper_refusal(),
        kind if is_lacking(kind) => lease.lacking(),
        FaultKind::UpstreamRateLimited => lease.cool_down(fault.retry_after),
        // A backend that says when it will be back is believed.
        _ => match fault.retry_after {
            Some(wait) => lease.unavailable(wait),
            None => lease.failure(),
        },
    }
}

/// Whether the engine does not know the model, or not the operation.
const fn is_lacking(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::ModelNotFound | FaultKind::UpstreamUnsupported)
}

fn failed_call(error: BackendError) -> Failed {
    let reached = if error.at == FailedAt::Connect { Reached::Nothing } else { Reached::Unknown };
    let fault = match error.at {
        FailedAt::Connect => {
            Fault::new(FaultKind::NoBackendAvailable, "No backend of this model can be reached now.")
        }
        FailedAt::Stale | FailedAt::Head | FailedAt::Body => {
            Fault::new(FaultKind::Upstream, "The engine closed the connection without an answer.")
        }
    };
    Failed::new(fault.source(error), reached)
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
