//! One record per request: opened before anything can fail, closed exactly once, at the end of the
//! body, on error, or when the caller leaves. Closing never waits and never fails.

mod bill;
mod entries;
mod log;
mod refusals;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use synapse_audit::digest::Digester;
use synapse_core::{
    audit::{Actor, Outcome, RequestRecord, Target, entry::Digest},
    error::{Blame, Fault, FaultKind},
    id::{BackendId, ModelName, RequestId},
    usage::Usage,
};

use crate::{
    inspect::Inspection,
    limits::{Standing, Ticket},
    metrics::Metrics,
};
use bill::Facts;
pub use bill::Work;
use log::Evidence;
pub use log::{AuditLog, NO_TEAM, Settling};

/// Takes closed records. It must neither wait nor fail: the caller's last bytes wait for it.
pub trait RecordSink: Send + Sync {
    /// Takes one.
    fn accept(&self, record: &RequestRecord);
}

/// Where records go: into the metrics, and to a sink.
pub struct Records {
    metrics: Arc<Metrics>,
    sink: Arc<dyn RecordSink>,
    log: Option<Arc<AuditLog>>,
}

impl Records {
    /// What counts records, hands them on, and writes them to the audit log, if there is one.
    pub fn new(metrics: Arc<Metrics>, sink: Arc<dyn RecordSink>, log: Option<Arc<AuditLog>>) -> Arc<Self> {
        Arc::new(Self { metrics, sink, log })
    }

    /// The audit log.
    pub fn log(&self) -> Option<&Arc<AuditLog>> {
        self.log.as_ref()
    }

    /// Opens the record of a request.
    pub fn open(self: &Arc<Self>, id: RequestId, route: &'static str, actor: Actor) -> Record {
        let started = Instant::now();
        let draft = Draft {
            id,
            at: Timestamp::now(),
            route,
            actor,
            target: Target::default(),
            end: End::default(),
            received: started,
            upstream: Duration::ZERO,
            first_token: None,
            bytes: (0, 0),
            prompt: 0,
            standing: None,
            ticket: None,
            trail: Arc::default(),
            inspection: None,
            evidence: Evidence::default(),
        };
        Record { records: Arc::clone(self), started, draft: Some(Box::new(draft)) }
    }

    fn close(&self, record: &RequestRecord, evidence: Evidence) -> Option<Settling> {
        let settling = self.log.as_ref().and_then(|log| log::close(log, evidence, record));
        self.metrics.count(record);
        self.sink.accept(record);
        settling
    }
}

/// How a request ended, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// The status on the wire.
    pub status: u16,
    /// The fault, where there is one.
    pub fault: Option<FaultKind>,
    /// Why the engine stopped.
    pub finish_reason: Option<String>,
    /// Tokens.
    pub usage: Option<Usage>,
    /// About how many events of a stream the engine has sent.
    pub events: u64,
}

struct Draft {
    id: RequestId,
    at: Timestamp,
    route: &'static str,
    actor: Actor,
    target: Target,
    end: End,
    /// When the body had arrived; the overhead counts from here.
    received: Instant,
    /// Time spent waiting for engines.
    upstream: Duration,
    first_token: Option<Duration>,
    bytes: (u64, u64),
    /// Tokens of the prompt, as a guess.
    prompt: u64,
    standing: Option<Standing>,
    /// What was reserved for the request. A record that is lost settles it by itself.
    ticket: Option<Ticket>,
    trail: Arc<Trail>,
    inspection: Option<Arc<Inspection>>,
    evidence: Evidence,
}

/// Whom an incident is about.
pub(crate) struct Subject<'r> {
    pub(crate) request: &'r RequestId,
    pub(crate) actor: &'r Actor,
    pub(crate) target: &'r Target,
}

/// What attempts leave behind while nobody holds the record.
#[derive(Default)]
pub struct Trail(Mutex<Option<Footprint>>);

/// Where the last attempt went, which one it was, and the fallback model (with its pattern) that it was for.
struct Footprint {
    backend: BackendId,
    attempt: u32,
    fallback: Option<(ModelName, Option<ModelName>)>,
    work: Work,
}

impl Trail {
    /// The `attempt`th attempt begins, at `backend`; for the model asked for, or for a fallback with its pattern.
    pub fn mark(
        &self,
        backend: BackendId,
        attempt: u32,
        fallback: Option<(ModelName, Option<ModelName>)>,
        work: Work,
    ) {
        let footprint = Footprint { backend, attempt, fallback, work };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(footprint);
    }
}

/// An open record. Dropping it closes it as cancelled: then the caller has left.
pub struct Record {
    records: Arc<Records>,
    started: Instant,
    draft: Option<Box<Draft>>,
}

impl Record {
    fn draft(&mut self) -> Option<&mut Draft> {
        self.draft.as_deref_mut()
    }

    /// The request's identifier.
    pub fn id(&self) -> Option<&RequestId> {
        self.draft.as_deref().map(|d| &d.id)
    }

    /// Where the caller is.
    pub fn address(&self) -> Option<std::net::IpAddr> {
        self.draft.as_deref().and_then(|d| d.actor.address)
    }

    /// Who asked; to be filled in.
    pub fn actor(&mut self, fill: impl FnOnce(&mut Actor)) {
        if let Some(draft) = self.draft() {
            fill(&mut draft.actor);
        }
    }

    /// What was asked of whom; to be filled in.
    pub fn target(&mut self, fill: impl FnOnce(&mut Target)) {
        if let Some(draft) = self.draft() {
            fill(&mut draft.target);
        }
    }

    /// What digests the request's body, where there is an audit log.
    pub(crate) fn digester(&self) -> Option<Digester> {
        self.draft.as_deref().and_then(|draft| draft.evidence.digester())
    }

    /// The request's body has arrived: this many bytes, with this digest.
    pub(crate) fn received(&mut self, bytes: u64, digest: Option<Digest>) {
        if let Some(draft) = self.draft() {
            draft.received = Instant::now();
            draft.bytes.0 = bytes;
            draft.evidence.request = digest;
        }
    }

    /// Makes ready what the audit log needs of the request, once it is known who asks.
    pub(crate) async fn prepare(&mut self) {
        if let (Some(log), Some(draft)) = (&self.records.log, self.draft.as_deref_mut()) {
            log::prepare(log, draft).await;
        }
    }

    /// Writes the entry that accepts the request, where there is an audit log.
    ///
    /// # Errors
    /// `audit_unavailable`.
    pub(crate) async fn accept(&mut self) -> Result<(), Fault> {
        match (&self.records.log, self.draft.as_deref_mut()) {
            (Some(log), Some(draft)) => log::accept(log, draft).await,
            _ => Ok(()),
        }
    }

    /// What the caller can keep as proof that the request was recorded.
    pub(crate) fn receipt(&self, log: &AuditLog) -> Option<String> {
        self.draft.as_deref()?.evidence.receipt(log)
    }

    /// How many tokens the prompt may have.
    pub fn prompt(&mut self, tokens: u64) {
        if let Some(draft) = self.draft() {
            draft.prompt = tokens;
        }
    }

    /// Holds what was reserved for the request, and settles it at its end.
    pub fn hold(&mut self, ticket: Ticket) {
        if let Some(draft) = self.draft() {
            draft.ticket = Some(ticket);
        }
    }

    /// How the caller stands with its limits.
    pub fn stand(&mut self, standing: Standing) {
        if let Some(draft) = self.draft() {
            draft.standing = Some(standing);
        }
    }

    /// How the caller stands with its limits, where it has any.
    pub fn standing(&self) -> Option<&Standing> {
        self.draft.as_deref().and_then(|d| d.standing.as_ref())
    }

    /// Where attempts leave word of themselves.
    pub fn trail(&self) -> Arc<Trail> {
        self.draft.as_deref().map(|d| Arc::clone(&d.trail)).unwrap_or_default()
    }

    /// The request and its reply are searched for sensitive data.
    pub(crate) fn inspects(&mut self, inspection: Arc<Inspection>) {
        if let Some(draft) = self.draft() {
            draft.inspection = Some(inspection);
        }
    }

    /// Adds time spent waiting for an engine.
    pub fn waited_upstream(&mut self, time: Duration) {
        if let Some(draft) = self.draft() {
            draft.upstream += time;
        }
    }

    /// The first content goes out now.
    pub fn first_content(&mut self) {
        let elapsed = self.started.elapsed();
        if let Some(draft) = self.draft() {
            draft.first_token.get_or_insert(elapsed);
        }
    }

    /// Bytes of the reply go out.
    pub fn sent(&mut self, bytes: &[u8]) {
        if let Some(draft) = self.draft() {
            draft.bytes.1 += bytes.len() as u64;
            draft.evidence.take_reply(bytes);
        }
    }

    /// What is known of the end.
    pub fn end(&mut self, fill: impl FnOnce(&mut End)) {
        if let Some(draft) = self.draft() {
            fill(&mut draft.end);
        }
    }

    /// Closes the record by what is known: with a fault as rejected or failed, else as completed. Gives what
    /// the caller's last byte must wait for.
    pub fn close(mut self) -> Option<Settling> {
        self.write(false)
    }

    fn write(&mut self, cancelled: bool) -> Option<Settling> {
        let mut draft = self.draft.take()?;
        let mut work = None;
        if let Some(last) = draft.trail.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            draft.target.backend = Some(last.backend);
            draft.target.attempts = last.attempt;
            draft.target.zone = Some(last.work.zone);
            work = Some(last.work);
            if let Some((model, pattern)) = last.fallback {
                draft.target.asked = draft.target.model.replace(model);
                draft.target.pattern = pattern;
            }
        }
        let cancelled = cancelled || draft.end.fault == Some(FaultKind::ClientClosedRequest);
        let outcome = match draft.end.fault {
            _ if cancelled => Outcome::Cancelled,
            None => Outcome::Completed,
            Some(FaultKind::DlpBlocked | FaultKind::DlpResponseBlocked) => Outcome::Blocked,
            Some(kind) if matches!(kind.blame(), Blame::Caller | Blame::Policy) => Outcome::Rejected,
            Some(_) => Outcome::Failed,
        };
        // What was stopped whole has left no word of its cost but with those who stopped it.
        let told = draft.inspection.as_ref().and_then(|inspection| inspection.state().usage);
        draft.end.usage = draft.end.usage.or(told);
        let facts = Facts {
            operation: draft.target.operation,
            work: work.as_ref(),
            end: &draft.end,
            cancelled,
            prompt: draft.prompt,
            sent: draft.bytes.1,
        };
        let bill = facts.bill();
        if let Some(ticket) = draft.ticket {
            ticket.settle(bill.usage.unwrap_or_default().total(), bill.cost.unwrap_or_default());
        }
        let duration = self.started.elapsed();
        let ours = draft.first_token.map_or(duration, |first| first.min(duration));
        let receiving = draft.received.duration_since(self.started);
        let incident = draft.inspection.take().and_then(|inspection| {
            let subject = Subject { request: &draft.id, actor: &draft.actor, target: &draft.target };
            let state = inspection.state();
            self.records.metrics.count_findings(&state.tally);
            state.tally.incident(&inspection.policy, draft.at, subject).map(Box::new)
        });
        let record = RequestRecord {
            id: draft.id,
            at: draft.at,
            route: draft.route,
            actor: draft.actor,
            target: draft.target,
            outcome,
            status: if cancelled { 499 } else { draft.end.status },
            code: if cancelled {
                Some(FaultKind::ClientClosedRequest.code())
            } else {
                draft.end.fault.map(FaultKind::code)
            },
            finish_reason: draft.end.finish_reason,
            usage: bill.usage,
            is_estimate: bill.is_estimate,
            cost: bill.cost,
            unpriced: bill.unpriced,
            duration,
            first_token: draft.first_token,
            overhead: ours.saturating_sub(receiving).saturating_sub(draft.upstream),
            receiving,
            upstream: draft.upstream,
            bytes: draft.bytes,
            incident,
        };
        self.records.close(&record, draft.evidence)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        if panicked {
            self.end(|end| (end.status, end.fault) = (500, Some(FaultKind::Internal)));
        }
        let _settling = self.write(!panicked);
    }
}
