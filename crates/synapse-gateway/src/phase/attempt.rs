//! The attempts: one is a function, the loop around it another. Whoever asks for the outcome gets
//! the first reply that has begun to have content, or the fault of the last attempt.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{HeaderMap, Method, header::HeaderName};
use synapse_core::{
    error::{Fault, FaultKind},
    id::{BackendId, ModelName},
};
use tokio::time::Instant;

use super::{bind::Bound, refusal};
use crate::{
    audit::Record,
    backend::{BackendError, FailedAt, UpstreamCall, UpstreamReply},
    gateway::{Gateway, Live},
    metrics::{AttemptLabels, FallbackLabels, Label},
    route::{
        endpoint::Lease,
        paths,
        plan::{Choice, Plan},
    },
    stream::{self, Source},
};

/// What of a caller's headers an engine may see. Credentials and cookies never do.
const FORWARDED: [&str; 7] = [
    "content-type",
    "accept",
    "user-agent",
    "openai-beta",
    "openai-organization",
    "traceparent",
    "tracestate",
];
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
    /// Time spent waiting for engines.
    waited: Duration,
}

/// What came of all attempts.
pub(crate) struct Outcome {
    result: Result<(Head, Source), Fault>,
    /// `None` where nobody was asked.
    served: Option<Served>,
}

impl Outcome {
    /// Notes in the record who served.
    pub(crate) fn note(&self, record: &mut Record) {
        if let Some(served) = &self.served {
            record.waited_upstream(served.waited);
            record.target(|target| {
                target.backend = Some(served.backend.clone());
                target.attempts = served.attempts;
            });
        }
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
    /// Whether nothing reached the backend.
    untouched: bool,
}

/// Tries backends until one has begun to reply. Owns what it needs, since it may outlive the phase
/// that started it.
pub(super) struct Attempts {
    gateway: Arc<Gateway>,
    live: Arc<Live>,
    bound: Bound,
    plan: Plan,
    request_id: hyper::header::HeaderValue,
    tried: u32,
    waited: Duration,
    last_backend: Option<BackendId>,
}

impl Attempts {
    pub(super) fn new(gateway: Arc<Gateway>, live: Arc<Live>, bound: Bound, request_id: &str) -> Self {
        let principal = bound.call.caller.principal();
        let plan = Plan::new(
            Arc::clone(&bound.route),
            principal,
            &live.catalog,
            &live.fleet,
            live.snapshot.routing.strategy,
        );
        let request_id = hyper::header::HeaderValue::from_str(request_id)
            .unwrap_or(hyper::header::HeaderValue::from_static("-"));
        Self { gateway, live, bound, plan, request_id, tried: 0, waited: Duration::ZERO, last_backend: None }
    }

    /// The first reply that has begun, or why there is none.
    pub(super) async fn run(mut self) -> Outcome {
        let began = Instant::now();
        self.gateway.budget.deposit(began.into_std(), self.live.snapshot.routing.retry_budget);
        let mut last = None;
        let mut deadline = None;
        while let Some(choice) = self.plan.next_choice() {
            let Some(lease) = choice.candidate.endpoint.lease(self.live.snapshot.routing.breaker) else {
                continue;
            };
            let deadline = *deadline.get_or_insert(began + choice.candidate.timeouts.total);
            self.begin(&choice);
            let failed = match self.attempt(&choice, lease, deadline).await {
                Ok(begun) => return self.outcome(Ok(begun)),
                Err(failed) => failed,
            };
            let again = self.may_retry(&failed, deadline);
            last = Some(sooner(last, failed.fault));
            if !again {
                break;
            }
            pause(self.tried).await;
        }
        let fault = last.unwrap_or_else(|| self.plan.exhausted(self.bound.route.model.as_str()));
        self.outcome(Err(fault))
    }

    fn outcome(self, result: Result<(Head, Source), Fault>) -> Outcome {
        let served = self.last_backend.map(|backend| Served {
            model: self.bound.route.model.clone(),
            backend,
            attempts: self.tried,
            waited: self.waited,
        });
        Outcome { result, served }
    }

    fn begin(&mut self, choice: &Choice) {
        self.tried += 1;
        let backend = choice.candidate.endpoint.backend.id().clone();
        if let Some(from) = self.last_backend.replace(backend.clone()) {
            let labels = FallbackLabels {
                model: Label::from(self.bound.route.model.as_str()),
                from: Label::from(from.as_str()),
                to: Label::from(backend.as_str()),
            };
            self.gateway.metrics.fallbacks.get_or_create(&labels).inc();
        }
    }

    /// Whether another backend may be asked. What reached an engine is only sent again if the
    /// engine keeps nothing of it, and within the budget.
    fn may_retry(&self, failed: &Failed, deadline: Instant) -> bool {
        use synapse_core::error::Retry;
        if failed.fault.kind.retry() != Retry::ElsewhereOnly && !elsewhere_may_know_better(failed.fault.kind)
        {
            return false;
        }
        if self.tried > self.live.snapshot.routing.retries || Instant::now() >= deadline {
            return false;
        }
        if failed.untouched {
            return true;
        }
        !self.bound.call.shape.has_side_effects && self.gateway.budget.withdraw(std::time::Instant::now())
    }

    /// One attempt at one backend, until content has begun.
    async fn attempt(
        &mut self,
        choice: &Choice,
        mut lease: Lease,
        deadline: Instant,
    ) -> Result<(Head, Source), Failed> {
        let began = Instant::now();
        let first_token = began + choice.candidate.timeouts.first_token;
        let patience = if self.bound.call.shape.stream { deadline.min(first_token) } else { deadline };
        let begun = tokio::time::timeout_at(patience, self.begin_reply(choice, deadline)).await;
        let result = begun.unwrap_or_else(|_| Err(Failed { fault: self.out_of_time(), untouched: false }));
        self.waited += began.elapsed();
        let outcome = result.as_ref().map_or_else(|failed| failed.fault.kind.code(), |_| "success");
        let backend = Label::from(choice.candidate.endpoint.backend.id().as_str());
        self.gateway.metrics.attempts.get_or_create(&AttemptLabels { backend, outcome }).inc();
        match result {
            Ok((head, source)) => {
                lease.first_token(began.elapsed());
                Ok((head, source.with_lease(lease)))
            }
            Err(failed) => {
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
            timeouts: choice.candidate.timeouts,
            deadline,
        };
        let gaps =
            self.gateway.metrics.inter_token.get_or_create_owned(&crate::metrics::ModelBackendLabels {
                model: Label::from(choice.route.model.as_str()),
                backend: Label::from(backend.id().as_str()),
            });
        let source = stream::begin(&context, &head.headers, reply.body, &self.gateway.drain, gaps).await;
        source.map(|source| (head, source)).map_err(|fault| Failed { fault, untouched: false })
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
        let body = stream::read_at_most(reply.body, MAX_REFUSAL).await.unwrap_or_else(|_| Bytes::new());
        let fault = refusal::of(reply.status, &reply.headers, &body, &self.bound.call.shape.model)
            .unwrap_or_else(|| Fault::new(FaultKind::Upstream, "The engine failed to serve the request."));
        Failed { fault, untouched: false }
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

/// A backend that does not know a model, cannot be reached or is this gateway itself says nothing
/// of the next one.
fn elsewhere_may_know_better(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::ModelNotFound | FaultKind::NoBackendAvailable | FaultKind::LoopDetected)
}

/// The latest fault; among backends at their rate limit, with the shortest of their waits.
fn sooner(earlier: Option<Fault>, mut fault: Fault) -> Fault {
    let limited = |fault: &Fault| fault.kind == FaultKind::UpstreamRateLimited;
    if let Some(earlier) = earlier.filter(|earlier| limited(earlier) && limited(&fault)) {
        fault.retry_after = earlier.retry_after.into_iter().chain(fault.retry_after).min();
    }
    fault
}

/// What an attempt's fault says about its backend.
fn report(lease: &mut Lease, fault: &Fault) {
    match fault.kind {
        // A proper answer to a bad request.
        FaultKind::UpstreamRejected | FaultKind::ModelNotFound => lease.success(),
        FaultKind::UpstreamRateLimited => {
            lease.cool_down(fault.retry_after.unwrap_or(Duration::from_secs(1)))
        }
        _ => lease.failure(),
    }
}

fn failed_call(error: BackendError) -> Failed {
    let untouched = error.at == FailedAt::Connect;
    let fault = match error.at {
        FailedAt::Connect => {
            Fault::new(FaultKind::NoBackendAvailable, "No backend of this model can be reached now.")
        }
        FailedAt::Head | FailedAt::Body => {
            Fault::new(FaultKind::Upstream, "The engine closed the connection without an answer.")
        }
    };
    Failed { fault: fault.source(error), untouched }
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
