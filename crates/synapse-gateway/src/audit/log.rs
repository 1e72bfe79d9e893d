//! The audit log's end in the request path: what of a request goes into it, and when. An entry accepts a request
//! before any engine is asked; another one closes it before its caller has the last byte.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use synapse_audit::{
    digest::{Content, DigestKey, Digester, Epoch, KeyRing},
    journal::{Journal, Receipt, Reservation, Unavailable},
};
use synapse_core::{
    audit::{
        RequestRecord,
        entry::{Digest, Entry},
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

    /// Writes an entry about a request that was never accepted.
    fn refuse(&self, entry: &Entry) {
        if entry.key.is_some() {
            self.note(self.journal.append(entry).map(drop));
            return;
        }
        // Who has no key may neither fill the log nor silence others in it.
        let source = entry.source.clone().unwrap_or_else(|| "unknown".into());
        if !self.refusals.may_be_told(&source, entry.at) {
            return;
        }
        match self.journal.append_minor(entry).map(drop) {
            Err(Unavailable::Full) => self.refusals.count(&source, entry.at),
            written => self.note(written),
        }
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
            Durability::Database => self.journal.shipped(seq).await,
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
        let journal = Arc::clone(&log.journal);
        tasks::block(move || journal.accept(&entry)).await
    } else {
        log.journal.accept(&entry)
    };
    let (receipt, reservation) = written.map_err(unavailable)?;
    draft.evidence.receipt = Some(receipt);
    draft.evidence.reservation = Some(reservation);
    log.settled(receipt.seq).await.map_err(unavailable)
}

/// Waits until the end of a request has survived what it must; tells whether it has.
pub type Settling = std::pin::Pin<Box<dyn Future<Output = bool> + Send>>;

/// Writes the entry that closes a request; gives what its caller's last byte must wait for.
pub(super) fn close(log: &Arc<AuditLog>, mut evidence: Evidence, record: &RequestRecord) -> Option<Settling> {
    let mut entry = entries::closed(record);
    evidence.fill(&mut entry);
    let Some(reservation) = evidence.reservation.take() else {
        log.refuse(&entry);
        return None;
    };
    let written = log.journal.close(reservation, &entry);
    let seq = written.as_ref().ok().map(|receipt| receipt.seq);
    log.note(written.map(drop));
    match (seq, log.durability) {
        (Some(_), Durability::Journal) => None,
        (Some(seq), _) => {
            let log = Arc::clone(log);
            Some(Box::pin(async move { log.settled(seq).await.is_ok() }))
        }
        // What has no end in the log must not seem whole.
        (None, _) => Some(Box::pin(std::future::ready(false))),
    }
}

#[cfg(test)]
mod tests {
    use synapse_audit::journal::{Disk, Options};
    use synapse_core::audit::{Actor, entry::EntryKind};

    use super::*;
    use crate::{
        audit::{RecordSink, Records},
        metrics::Metrics,
    };

    #[test]
    fn a_storm_of_wrong_keys_from_everywhere_leaves_most_of_the_journal_to_others_and_is_told_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options { max_bytes: 1 << 20, ..Options::default() };
        let (journal, found) = Journal::open(folder.path(), options).expect("a journal");
        let journal = Arc::new(journal);
        let log = AuditLog::new((Arc::clone(&journal), found.chain), None, Durability::Journal);
        let lost = Counter::default();
        log.count_lost(lost.clone());
        // Ten minutes in which nothing is shipped; no network does more than is told one by one.
        let count = 600 * 300_u64;
        for number in 0..count {
            let second = Timestamp::from_second(1_800_000_000 + (number / 300) as i64).expect("a time");
            let mut entry = Entry::new(EntryKind::RequestClosed, second);
            entry.source = Some(format!("10.{}.{}.0/24", number / 256 % 256, number % 256).into());
            log.refuse(&entry);
        }
        let told = journal.status().next;
        assert!((100..count / 2).contains(&told), "{told}");
        assert!(log.count_refusals() > 0, "for all those networks there is no room now");
        assert_eq!(lost.get(), 0);
        let bytes: u64 = segments(folder.path());
        assert!(bytes <= (1 << 20) / 5 + (1 << 10), "{bytes}");
        let untold: u64 = log.refusals.take().iter().map(|(_, untold)| untold.count).sum();
        assert_eq!(told + untold, count);
        assert!(journal.append(&Entry::new(EntryKind::AdminChange, Timestamp::now())).is_ok());
    }

    /// A disk that keeps nothing while it is told not to.
    #[derive(Debug, Default)]
    struct Frail(AtomicBool);

    impl Disk for Frail {
        fn sync(&self, file: &std::fs::File) -> std::io::Result<()> {
            if self.0.load(Ordering::Relaxed) {
                Err(std::io::Error::other("a bad sector"))
            } else {
                file.sync_data()
            }
        }
    }

    struct Nowhere;

    impl RecordSink for Nowhere {
        fn accept(&self, _: &RequestRecord) {}
    }

    #[tokio::test]
    async fn while_the_disk_keeps_nothing_no_request_is_let_through_and_it_is_said_why() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Arc::new(Frail::default());
        let opened = Journal::open_on(Arc::clone(&disk) as _, folder.path(), Options::default());
        let (journal, found) = opened.expect("a journal");
        let journal = Arc::new(journal);
        let log = Arc::new(AuditLog::new((journal, found.chain), None, Durability::Fsync));
        let metrics = Arc::new(Metrics::new());
        let records = Records::new(metrics, Arc::new(Nowhere), Some(Arc::clone(&log)));
        let open = || records.open("r".into(), "POST /v1/chat/completions", Actor::default());
        let mut served = open();
        served.accept().await.expect("accepted");
        disk.0.store(true, Ordering::Relaxed);
        let mut under_way = open();
        for record in [&mut under_way, &mut open()] {
            let fault = record.accept().await.expect_err("a refusal");
            let why = fault.source.as_ref().expect("a reason").to_string();
            assert!(fault.kind == FaultKind::AuditUnavailable && why.contains("a bad sector"), "{why}");
        }
        assert!(log.check().is_err());
        let settled = served.close().expect("something to wait for");
        assert!(!settled.await, "an end that is not on disk is no end");
        disk.0.store(false, Ordering::Relaxed);
        while open().accept().await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    /// Bytes of entries in a journal's folder.
    fn segments(folder: &std::path::Path) -> u64 {
        let files = std::fs::read_dir(folder).expect("a folder").flatten();
        let segments = files.filter(|file| file.path().extension().is_some_and(|ending| ending == "segment"));
        segments.map(|file| file.metadata().expect("a file").len()).sum()
    }
}
