//! The audit log's end in the request path: what of a request goes into it, and when. An entry accepts a request
//! before any engine is asked; another one closes it before its caller has the last byte.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures_util::FutureExt;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use synapse_audit::{
    digest::{Content, DigestKey, Digester, Epoch, KeyRing},
    journal::{Journal, Receipt, Reservation, Unavailable},
};
use synapse_core::{
    audit::{
        Outcome, RequestRecord,
        entry::{Digest, Entry, EntryKind},
    },
    config::snapshot::Durability,
    error::{Fault, FaultKind},
    hex,
    id::TeamName,
};
use uuid::Uuid;

use super::{
    Draft, entries,
    refusals::{Refusals, Untold},
};
use crate::tasks;

/// How many requests at most wait at once for a disk that makes them wait.
const MOST_ENTERING: usize = 1024;
/// Whose key digests are made with for callers without a team.
pub const NO_TEAM: &str = "default";

/// The audit log of a gateway.
pub struct AuditLog {
    journal: Arc<Journal>,
    chain: Uuid,
    /// The keys of digests; none where digests are plain.
    keys: Option<Arc<KeyRing>>,
    durability: Durability,
    refusals: Refusals,
    /// Counts entries that could not be written.
    lost: OnceLock<Counter>,
    is_losing: AtomicBool,
    has_no_keys: AtomicBool,
    /// Entries that accept requests and take their time to be written.
    entering: AtomicUsize,
}

impl AuditLog {
    /// One that writes to this journal, which goes on with that chain. Without `keys`, digests are plain.
    pub fn new(
        (journal, chain): (Arc<Journal>, Uuid),
        keys: Option<Arc<KeyRing>>,
        durability: Durability,
    ) -> Self {
        Self {
            journal,
            chain,
            keys,
            durability,
            refusals: Refusals::default(),
            lost: OnceLock::new(),
            is_losing: AtomicBool::new(false),
            has_no_keys: AtomicBool::new(false),
            entering: AtomicUsize::new(0),
        }
    }

    /// Counts from now on, and for good, here what could not be written.
    pub(crate) fn count_lost(&self, counter: Counter) {
        let _only_once = self.lost.set(counter);
    }

    /// The chain that it goes on with.
    pub const fn chain(&self) -> Uuid {
        self.chain
    }

    /// Whether requests can be recorded now.
    ///
    /// # Errors
    /// `audit_unavailable`.
    pub fn check(&self) -> Result<(), Fault> {
        self.journal.check().map_err(unavailable)
    }

    /// The key of a team's digests. The first request of a month makes it, which writes a file: not on a thread that
    /// others wait for.
    async fn key(&self, team: Option<&TeamName>) -> Option<DigestKey> {
        let Some(keys) = &self.keys else { return Some(DigestKey::plain()) };
        let (team, epoch) = (team.cloned().unwrap_or_else(|| NO_TEAM.into()), Epoch::at(Timestamp::now()));
        if let Some(key) = keys.get(&team, epoch) {
            return Some(key);
        }
        let keys = Arc::clone(keys);
        match tasks::block(move || keys.get_or_make(&team, epoch)).await {
            Ok(key) => {
                self.has_no_keys.store(false, Ordering::Relaxed);
                Some(key)
            }
            Err(error) => {
                if !self.has_no_keys.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "there is no key for digests; the audit log goes on without them");
                }
                None
            }
        }
    }

    /// Writes an entry at the end of a request. A disk that makes writers wait makes only this caller wait, and
    /// nobody else on the thread.
    fn write(
        self: &Arc<Self>,
        write: impl FnOnce(&Journal) -> Result<Receipt, Unavailable> + Send + 'static,
    ) -> Writing {
        let log = Arc::clone(self);
        let write = move || {
            let written = write(&log.journal);
            let receipt = written.as_ref().ok().copied();
            log.note(written.map(drop));
            receipt
        };
        if !self.journal.is_slow() {
            return Writing::Done(write());
        }
        match tasks::begin_block(write) {
            Ok(done) => Writing::Begun(Box::pin(done.map(Option::flatten))),
            Err(write) => Writing::Done(write()),
        }
    }

    /// Writes an entry about a request that was never accepted; gives what its caller's last byte must wait for.
    fn refuse(self: &Arc<Self>, entry: Entry) -> Option<Settling> {
        if entry.key.is_none() {
            self.refuse_stranger(&entry);
            return None;
        }
        match self.write(move |journal| journal.append(&entry)) {
            Writing::Done(_) => None,
            Writing::Begun(written) => Some(Box::pin(async move {
                let _noted = written.await;
                true
            })),
        }
    }

    /// The same, about one whose caller has no key.
    fn refuse_stranger(&self, entry: &Entry) {
        // Who has no key may neither fill the log nor silence others in it.
        let source = entry.source.clone().unwrap_or_else(|| "unknown".into());
        if !self.refusals.may_be_told(&source, entry.at) {
            return;
        }
        if self.journal.is_slow() {
            self.refusals.count(&source, entry.at);
            return;
        }
        match self.journal.append_minor(entry).map(drop) {
            Err(Unavailable::Full) => self.refusals.count(&source, entry.at),
            written => self.note(written),
        }
    }

    /// The keys of digests, where there are some.
    pub fn digest_keys(&self) -> Option<&Arc<KeyRing>> {
        self.keys.as_ref()
    }

    /// Writes an entry about something else than a request.
    pub fn tell(&self, entry: &Entry) {
        self.note(self.journal.append(entry).map(drop));
    }

    /// Writes the counts of refusals that were not told one by one; to be called now and then. Tells how many of
    /// them there was no room for: they are counted on.
    pub fn count_refusals(&self) -> usize {
        let untold = self.refusals.take();
        let has_no_room = |(source, untold): &&(Arc<str>, Untold)| {
            let written = self.journal.append_minor(&untold.entry(source, Timestamp::now()));
            written.inspect_err(|_| self.refusals.put_back(source, untold)).is_err()
        };
        untold.iter().filter(has_no_room).count()
    }

    /// Notes whether an entry could be written. One that could not is told of as loudly as can be.
    fn note(&self, written: Result<(), Unavailable>) {
        match written {
            Ok(()) => self.is_losing.store(false, Ordering::Relaxed),
            Err(error) => {
                self.lost.get().map(Counter::inc);
                if !self.is_losing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "the audit log cannot be written");
                }
            }
        }
    }

    /// Waits until the entry at this place has survived what it must.
    async fn settled(&self, seq: u64) -> Result<(), Unavailable> {
        match self.durability {
            Durability::Journal => Ok(()),
            Durability::Fsync => self.journal.on_disk(seq).await,
            Durability::Database => {
                let shipped = tokio::time::timeout(self.journal.max_age(), self.journal.shipped(seq));
                shipped.await.unwrap_or(Err(Unavailable::StoreAway))
            }
        }
    }
}

fn unavailable(error: Unavailable) -> Fault {
    let message =
        "The request cannot be recorded in the audit log now, so it is not served. Try again later.";
    Fault::new(FaultKind::AuditUnavailable, message).source(error)
}

/// What the audit log wants to know of a request besides its record.
#[derive(Default)]
pub(super) struct Evidence {
    key: Option<DigestKey>,
    pub(super) request: Option<Digest>,
    reply: Option<Digester>,
    reservation: Option<Reservation>,
    /// Its beginning is being written.
    is_entering: bool,
    receipt: Option<Receipt>,
    /// The policy for sensitive data and its version.
    policy: Option<(Arc<str>, Arc<str>)>,
}

impl Evidence {
    /// What digests the body of the request.
    pub(super) fn digester(&self) -> Option<Digester> {
        self.key.as_ref().map(|key| key.begin(Content::Request))
    }

    /// A piece of the reply goes out.
    pub(super) fn take_reply(&mut self, piece: &[u8]) {
        if let (None, Some(key)) = (&self.reply, &self.key) {
            self.reply = Some(key.begin(Content::Reply));
        }
        if let Some(reply) = &mut self.reply {
            reply.update(piece);
        }
    }

    /// What a caller can keep as proof: the chain, the place in it and the entry's hash.
    pub(super) fn receipt(&self, log: &AuditLog) -> Option<String> {
        let Receipt { seq, hash } = self.receipt?;
        Some(format!("{}.{seq}.{}", log.chain.simple(), hex(&hash)))
    }

    fn fill(&mut self, entry: &mut Entry) {
        entry.digest_key = self.key.as_ref().map(|key| Arc::clone(key.name()));
        entry.request_digest = self.request;
        entry.reply_digest = self.reply.take().map(Digester::finish);
        (entry.policy, entry.policy_version) = self.policy.clone().unzip();
    }
}

/// Makes ready what the entries of a request need, once it is known who asks.
pub(super) async fn prepare(log: &AuditLog, draft: &mut Draft) {
    draft.evidence.key = log.key(draft.actor.team.as_ref()).await;
}

/// Writes the entry that accepts a request, and waits until it has survived what it must.
///
/// # Errors
/// `audit_unavailable`: then no engine may be asked.
pub(super) async fn accept(log: &Arc<AuditLog>, draft: &mut Draft) -> Result<(), Fault> {
    let policy = draft.inspection.as_ref().map(|inspection| &inspection.policy);
    draft.evidence.policy = policy.map(|policy| (policy.name().into(), policy.version().into()));
    let mut entry = entries::accepted(draft);
    draft.evidence.fill(&mut entry);
    let written = if log.journal.is_slow() {
        // A disk that makes writers wait must not make everybody else wait with them.
        draft.evidence.is_entering = true;
        let written = enter(Arc::clone(log), entry).await;
        draft.evidence.is_entering = false;
        written
    } else {
        log.journal.accept(&entry)
    };
    let (receipt, reservation) = written.map_err(unavailable)?;
    draft.evidence.receipt = Some(receipt);
    draft.evidence.reservation = Some(reservation);
    log.settled(receipt.seq).await.map_err(unavailable)
}

/// Writes the same where it may take its time. A caller who leaves meanwhile leaves its end to this, too.
async fn enter(log: Arc<AuditLog>, entry: Entry) -> Result<(Receipt, Reservation), Unavailable> {
    if log.entering.fetch_add(1, Ordering::Relaxed) >= MOST_ENTERING {
        log.entering.fetch_sub(1, Ordering::Relaxed);
        return Err(Unavailable::Unwritable(Arc::new(std::io::ErrorKind::TimedOut.into())));
    }
    let (give, take) = tokio::sync::oneshot::channel();
    let write = move || {
        let written = log.journal.accept(&entry);
        log.entering.fetch_sub(1, Ordering::Relaxed);
        if let Err(Ok((_, reservation))) = give.send(written) {
            let Entry { id, at, kind, .. } = Entry::new(EntryKind::RequestClosed, Timestamp::now());
            let outcome = Some(Outcome::Cancelled.name().into());
            let end = Entry { id, at, kind, outcome, ..entry };
            log.note(log.journal.close(reservation, &end).map(drop));
        }
    };
    if let Err(write) = tasks::begin_block(write) {
        write();
    }
    take.await.unwrap_or(Err(Unavailable::Closed))
}

/// Waits until the end of a request has survived what it must; tells whether it has.
pub type Settling = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Writes the entry that closes a request; gives what its caller's last byte must wait for.
pub(super) fn close(log: &Arc<AuditLog>, mut evidence: Evidence, record: &RequestRecord) -> Option<Settling> {
    if evidence.is_entering {
        // Whoever writes its beginning sees to its end.
        return None;
    }
    let mut entry = entries::closed(record);
    evidence.fill(&mut entry);
    let Some(reservation) = evidence.reservation.take() else { return log.refuse(entry) };
    match log.write(move |journal| journal.close(reservation, &entry)) {
        // What has no end in the log must not seem whole.
        Writing::Done(None) => Some(Box::pin(std::future::ready(false))),
        Writing::Done(Some(_)) if log.durability == Durability::Journal => None,
        Writing::Done(Some(receipt)) => Some(settling(Arc::clone(log), receipt)),
        Writing::Begun(written) => {
            let log = Arc::clone(log);
            Some(Box::pin(async move {
                match written.await {
                    Some(receipt) => settling(log, receipt).await,
                    None => false,
                }
            }))
        }
    }
}

/// An entry that is being written, or was.
enum Writing {
    Done(Option<Receipt>),
    Begun(Pin<Box<dyn Future<Output = Option<Receipt>> + Send>>),
}

fn settling(log: Arc<AuditLog>, receipt: Receipt) -> Settling {
    Box::pin(async move { log.settled(receipt.seq).await.is_ok() })
}

#[cfg(test)]
mod tests;
