//! The shipper: brings the journal's entries into the database, in order, each at least once, and vouches for them
//! with checkpoints that the database is given, and a file that the relays of all sinks read.

use std::{
    fs, io,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use futures_util::future::join_all;
use jiff::Timestamp;
use prometheus_client::metrics::{gauge::Gauge, histogram::Histogram};
use synapse_audit::{
    anchor::Anchor,
    chain,
    checkpoint::{Checkpoint, Checkpointer},
    journal::Journal,
    note::SigningKey,
    sink::FileSink,
};
use synapse_core::{
    audit::entry::Link,
    config::snapshot::{Audit, Durability},
    store::{
        StoreError,
        audit::{AuditStore, StoredCheckpoint},
    },
};
use synapse_gateway::{audit::AuditLog, tasks};
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    files::Files,
    sinks::{self, Counts, Relay},
    work::{Work, asked_to},
};

/// Entries of one transaction.
const BATCH: usize = 2000;
/// How long entries gather, so that a transaction has many.
const GATHER: Duration = Duration::from_millis(50);
/// The same where requests wait for their entries.
const GATHER_URGENT: Duration = Duration::from_millis(1);
/// Between two attempts at a store or a file that fails.
const PAUSE: Duration = Duration::from_secs(1);
/// A checkpoint covers no more entries than this.
const MANY: u64 = 1000;
/// And none of them waits longer.
const LONG: Duration = Duration::from_secs(60);
/// Between two looks at what has to be done by the clock.
const TICK: Duration = Duration::from_secs(1);
/// What stands behind the last checkpoint's note once everybody has it.
const DELIVERED: &str = "delivered\n";

/// What is counted of it.
#[derive(Clone, Debug)]
pub(crate) struct Gauges {
    /// Entries that the database does not have.
    pub(crate) pending: Gauge,
    /// Months that have no place of their own in the database.
    pub(crate) without_place: Gauge,
    /// How long a transaction took, in seconds.
    pub(crate) commit: Histogram,
    /// Of the sinks of checkpoints.
    pub(crate) sinks: Counts,
}

/// Waits for a store that fails; what is in the journal waits, too.
#[derive(Default)]
struct Patience {
    /// What was told of last.
    told: Option<String>,
}

impl Patience {
    async fn bear(&mut self, error: &StoreError) {
        let because = std::error::Error::source(error).map(ToString::to_string);
        let told = because.clone().unwrap_or_default();
        if self.told.replace(told.clone()) != Some(told) {
            tracing::error!(%error, because, "the audit log cannot be stored; its entries wait in the journal");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Brings entries into the database.
pub(crate) struct Shipper {
    store: Arc<dyn AuditStore>,
    log: Arc<AuditLog>,
    journal: Arc<Journal>,
    files: Files,
    key: SigningKey,
    checkpoints: Checkpointer,
    last_checkpoint: Instant,
    last_count: Instant,
    last_refresh: Instant,
    /// Entries came that do not follow those before them.
    is_broken: bool,
    /// A checkpoint that somebody may not have yet.
    undelivered: Option<StoredCheckpoint>,
    sink: Option<FileSink>,
    relays: Vec<Relay>,
    gather: Duration,
    is_failing: bool,
    /// The journal takes nothing.
    is_refusing: bool,
}

/// Goes on where the last checkpoint ends, or behind it, where it is known what came then.
fn take_up(chain: Uuid, last: Option<&Checkpoint>, files: &Files, key: &SigningKey) -> Checkpointer {
    let after = last.map_or_else(|| Checkpointer::new(chain), Checkpointer::after);
    let noted = fs::read_to_string(files.progress()).ok();
    let noted = noted.and_then(|note| Anchor::open(&note, std::slice::from_ref(key.public())).ok());
    match noted.as_ref().map(Checkpointer::behind) {
        Some(noted) if after.leads_to(&noted) => noted,
        _ => after,
    }
}

/// A shipper at work, and the relays that take on what it makes.
pub(crate) struct Shipping {
    shipper: Work,
    relays: Vec<Work>,
}

impl Shipping {
    /// Ships all there is, vouches for it and ends.
    pub(crate) async fn finish(&mut self) {
        self.shipper.finish().await;
    }

    /// Relays all there is, to the sinks that take it, and ends.
    pub(crate) async fn finish_relays(&mut self) {
        join_all(self.relays.iter_mut().map(Work::finish)).await;
    }
}

impl Shipper {
    pub(super) fn new(
        store: Arc<dyn AuditStore>,
        log: Arc<AuditLog>,
        journal: Arc<Journal>,
        files: Files,
        settings: &Audit,
    ) -> anyhow::Result<Self> {
        let chain = log.chain();
        let key = files.key()?;
        let place = files.last_checkpoint();
        let kept = match fs::read_to_string(&place) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| place.display().to_string()),
        };
        let note = kept.as_deref().map(|text| text.strip_suffix(DELIVERED).unwrap_or(text));
        let last = note.map(|note| Checkpoint::open(note, std::slice::from_ref(key.public()))).transpose();
        let last = last
            .with_context(|| {
                format!(
                    "{}: the last checkpoint of the audit log cannot be trusted; move the file away if you know why",
                    place.display()
                )
            })?
            .filter(|last| last.chain == chain);
        let is_delivered = kept.as_deref().is_none_or(|text| text.ends_with(DELIVERED));
        let undelivered = last.as_ref().zip(note).filter(|_| !is_delivered).map(|(last, note)| {
            StoredCheckpoint { chain, seq: last.last, at: last.at, note: note.to_owned() }
        });
        Ok(Self {
            checkpoints: take_up(chain, last.as_ref(), &files, &key),
            store,
            log,
            journal,
            key,
            last_checkpoint: Instant::now(),
            last_count: Instant::now(),
            last_refresh: Instant::now(),
            is_broken: false,
            undelivered,
            sink: None,
            relays: sinks::relays(settings, &files)?,
            gather: if settings.durability == Durability::Database { GATHER_URGENT } else { GATHER },
            is_failing: false,
            files,
            is_refusing: false,
        })
    }

    /// Begins to ship.
    pub(crate) fn start(mut self, gauges: Gauges) -> Shipping {
        let counts = gauges.sinks.clone();
        let relay = |relay: Relay| Work::begin("audit relay", |stop| relay.run(counts.clone(), stop));
        let relays = std::mem::take(&mut self.relays).into_iter().map(relay).collect();
        Shipping { shipper: Work::begin("audit shipper", |stop| self.run(gauges, stop)), relays }
    }

    async fn run(mut self, gauges: Gauges, mut stopping: watch::Receiver<bool>) {
        let mut next = self.journal.unshipped();
        self.catch_up(next).await;
        loop {
            let is_last = *stopping.borrow();
            if !is_last {
                tokio::select! {
                    readable = self.journal.readable(next) => if readable.is_ok() { tokio::time::sleep(self.gather).await },
                    () = tokio::time::sleep(TICK) => {}
                    () = asked_to(&mut stopping) => {}
                }
            }
            if is_last {
                let untold = self.log.count_refusals();
                if untold > 0 {
                    tracing::warn!(
                        networks = untold,
                        "refusals were counted, and the journal has no room to say so"
                    );
                }
                // The last ones have to be on disk before they can be read.
                let last = self.journal.status().next.saturating_sub(1);
                let _closed = self.journal.on_disk(last).await;
            }
            // As long as batches are full; what came meanwhile gathers.
            let mut is_behind = true;
            while is_behind {
                let shipped = self.ship(next, &gauges).await;
                next += shipped;
                is_behind = shipped == BATCH as u64;
                self.tend(&gauges);
                self.vouch(is_last && !is_behind).await;
            }
            self.refresh_keys().await;
            if is_last && self.journal.status().next == next {
                return;
            }
        }
    }

    /// What is due by the clock.
    fn tend(&mut self, gauges: &Gauges) {
        let status = self.journal.status();
        gauges.pending.set(i64::try_from(status.next - status.shipped).unwrap_or(i64::MAX));
        let refusal = self.journal.check().err();
        if let Some(error) = refusal.as_ref().filter(|_| !self.is_refusing) {
            tracing::error!(%error, "the audit log takes no entries, so no requests are served");
        }
        self.is_refusing = refusal.is_some();
        let without_place = self.store.months_without_place().into();
        if gauges.without_place.set(without_place) < without_place {
            tracing::warn!(
                months = without_place,
                "the database has no partition for a month of the audit log; its entries are kept in the default \
                 one, which `Entries in the default partition` in docs/databases.md says how to mend"
            );
        }
        if self.last_count.elapsed() >= LONG {
            self.last_count = Instant::now();
            self.log.count_refusals();
        }
    }

    /// Takes up the entries that the database has and no checkpoint covers.
    async fn catch_up(&mut self, end: u64) {
        while self.checkpoints.next() < end {
            let from = self.checkpoints.next();
            let limit = u32::try_from(BATCH).unwrap_or(u32::MAX);
            let mut patience = Patience::default();
            let stretch = loop {
                match self.store.read_chain(self.log.chain(), from, limit).await {
                    Ok(stretch) => break stretch,
                    Err(error) => patience.bear(&error).await,
                }
            };
            let before = self.checkpoints.next();
            for standing in stretch.iter().filter_map(|(_, standing)| standing) {
                // Nobody vouches for what was changed in the database.
                if chain::hash(standing.canonical, &standing.link.prev) == standing.link.hash {
                    self.push(standing.link);
                }
            }
            if self.checkpoints.next() == before {
                tracing::error!(
                    seq = before,
                    "the database lacks entries of the audit log, or has changed ones; run `synapse audit verify`"
                );
                return;
            }
        }
    }

    fn push(&mut self, link: Link) {
        if self.checkpoints.push(link).is_err() && !std::mem::replace(&mut self.is_broken, true) {
            tracing::error!(
                seq = link.seq,
                "an entry of the audit log does not follow those that are vouched for; no more will be. Run `synapse audit verify`"
            );
        }
    }

    /// Ships what is there from place `next` on; gives how many entries that were.
    async fn ship(&mut self, next: u64, gauges: &Gauges) -> u64 {
        let journal = Arc::clone(&self.journal);
        let entries = match tasks::block(move || journal.read_from(next, BATCH)).await {
            Ok(entries) => entries,
            Err(error) => {
                self.fail(&error);
                tokio::time::sleep(PAUSE).await;
                return 0;
            }
        };
        let Some(last) = entries.last() else { return 0 };
        let entries = Arc::new(entries);
        let began = Instant::now();
        let mut patience = Patience::default();
        while let Err(error) = self.store.append_entries(Arc::clone(&entries)).await {
            patience.bear(&error).await;
            self.tend(gauges);
        }
        gauges.commit.observe(began.elapsed().as_secs_f64());
        for link in entries.iter().filter_map(|(_, standing)| standing).map(|standing| standing.link) {
            self.push(link);
            if self.checkpoints.pending().is_multiple_of(MANY) {
                self.vouch(false).await;
            }
        }
        // Before they leave the journal: what is vouched for later is what was in it, whatever the database has then.
        self.keep_progress().await;
        let journal = Arc::clone(&self.journal);
        if let Err(error) = tasks::block(move || journal.acknowledge(last)).await {
            // They are shipped again, and passed over.
            self.fail(&error);
        }
        last + 1 - next
    }

    /// Notes how far the chain is known, and what the next checkpoint needs of it.
    async fn keep_progress(&mut self) {
        let (place, progress) = (self.files.progress(), self.checkpoints.anchor(Timestamp::now()));
        let note = progress.sign(&self.key).note;
        if let Err(error) = tasks::block(move || synapse_audit::files::replace_text(&place, &note)).await {
            self.fail(&error);
        }
    }

    /// Takes up what was destroyed of the keys of digests, and what was made by others.
    async fn refresh_keys(&mut self) {
        if self.last_refresh.elapsed() < LONG {
            return;
        }
        self.last_refresh = Instant::now();
        if let Some(keys) = self.log.digest_keys().map(Arc::clone)
            && let Err(error) = tasks::block(move || keys.refresh()).await
        {
            self.fail(&error);
        }
    }

    fn fail(&mut self, error: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(%error, "the audit log cannot be shipped");
        }
    }

    /// Makes a checkpoint where one is due, and gives it to the database and the file that all sinks are fed from.
    async fn vouch(&mut self, is_last: bool) {
        if self.undelivered.is_none() && self.is_due(is_last) {
            let Some(made) = self.checkpoints.clone().checkpoint(Timestamp::now()) else { return };
            let signed = made.sign(&self.key);
            // Kept first: after a crash, the same one goes to those who lack it.
            if !self.keep(signed.note.clone()).await {
                return;
            }
            self.checkpoints = Checkpointer::after(&made);
            self.last_checkpoint = Instant::now();
            self.undelivered = Some(signed);
            self.keep_progress().await;
        }
        if let Some(signed) = self.undelivered.clone()
            && self.deliver(&signed).await
        {
            self.undelivered = None;
            self.keep(format!("{}{DELIVERED}", signed.note)).await;
        }
    }

    fn is_due(&self, is_last: bool) -> bool {
        let pending = self.checkpoints.pending();
        pending >= MANY || pending > 0 && (is_last || self.last_checkpoint.elapsed() >= LONG)
    }

    async fn keep(&mut self, text: String) -> bool {
        let place = self.files.last_checkpoint();
        let kept = tasks::block(move || synapse_audit::files::replace_text(&place, &text)).await;
        match kept {
            Ok(()) => {
                self.is_failing = false;
                true
            }
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    async fn deliver(&mut self, signed: &StoredCheckpoint) -> bool {
        if let Err(error) = self.store.add_checkpoint(signed).await {
            self.fail(&error);
            return false;
        }
        let (place, note, sink) = (self.files.checkpoints(), signed.note.clone(), self.sink.take());
        let appended = tasks::block(move || {
            let mut sink = sink.map_or_else(|| FileSink::open(&place), Ok)?;
            sink.append(&note).map(|()| sink)
        });
        match appended.await {
            Ok(sink) => {
                self.sink = Some(sink);
                true
            }
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }
}
