//! The audit log of a running gateway: where its files are, what a crash left open in it, the shipper that brings
//! entries into the database, and the relays that bring checkpoints to sinks outside it.

pub(crate) mod change;
pub(crate) mod files;
pub(crate) mod retire;
mod ship;
pub(crate) mod sinks;
pub(crate) mod walk;
mod work;

use std::sync::Arc;

use anyhow::bail;
use jiff::Timestamp;
use serde_json::json;
use synapse_audit::{
    digest::KeyRing,
    journal::{Journal, OpenRequest, Options},
};
use synapse_core::{
    audit::entry::{Entry, EntryKind},
    config::snapshot::Snapshot,
    store::audit::AuditStore,
};
use synapse_gateway::audit::AuditLog;
use uuid::Uuid;

use self::files::Files;
pub(crate) use self::{
    ship::{Gauges, Shipper, Shipping},
    sinks::Counts,
};

/// What of the audit log is up.
pub(crate) struct Audit {
    /// Its end in the request path.
    pub(crate) log: Arc<AuditLog>,
    /// What brings its entries into the database.
    pub(crate) shipper: Shipper,
}

/// Opens the audit log, where the configuration wants one, and closes what a crash left open.
pub(crate) async fn open(snapshot: &Snapshot, store: Arc<dyn AuditStore>) -> anyhow::Result<Option<Audit>> {
    let settings = &snapshot.audit;
    if !settings.enabled {
        return Ok(None);
    }
    let files = Files::of(snapshot);
    let options = Options { max_bytes: settings.journal_bytes, max_age: settings.max_wait };
    let (journal, found) = Journal::open(&files.journal(), options)?;
    check_head(&*store, found.chain, found.next, &files).await?;
    if found.cut_bytes > 0 {
        tracing::warn!(bytes = found.cut_bytes, "the audit journal ended within an entry, which was cut off");
    }
    if found.next == 0 {
        journal.append(&beginning())?;
    }
    if !found.open.is_empty() {
        tracing::warn!(requests = found.open.len(), "requests were under way when the gateway ended last");
    }
    for request in found.open {
        let OpenRequest { accepted, reservation } = request;
        journal.close(reservation, &orphaned(accepted))?;
    }
    let journal = Arc::new(journal);
    let keys =
        if settings.plain_digests { None } else { Some(Arc::new(KeyRing::open(&files.digest_keys())?)) };
    let log = AuditLog::new((Arc::clone(&journal), found.chain), keys, settings.durability);
    let log = Arc::new(log);
    let shipper = Shipper::new(store, Arc::clone(&log), journal, files, settings)?;
    Ok(Some(Audit { log, shipper }))
}

/// Refuses a journal that is older than what the database has of its chain: places that are taken there would be
/// given again, and what is sent to them would be lost.
async fn check_head(store: &dyn AuditStore, chain: Uuid, next: u64, files: &Files) -> anyhow::Result<()> {
    let heads = store.audit_heads().await?;
    let ahead = heads.iter().find(|(known, head)| *known == chain && head.seq >= next);
    if let Some((_, head)) = ahead {
        bail!(
            "{}: the database has entries of this audit log up to {}, and the journal goes on at {next}: the data \
             folder is an older copy; move the journal's folder away, and a new chain begins",
            files.journal().display(),
            head.seq
        );
    }
    Ok(())
}

/// The entry that a chain begins with.
fn beginning() -> Entry {
    let mut entry = Entry::new(EntryKind::ChainBegun, Timestamp::now());
    entry.detail = Some(json!({"version": env!("CARGO_PKG_VERSION")}).to_string().into());
    entry
}

/// The entry that closes a request whose gateway ended before it did.
fn orphaned(accepted: Entry) -> Entry {
    let Entry { id, at, kind, .. } = Entry::new(EntryKind::RequestClosed, Timestamp::now());
    Entry { id, at, kind, outcome: Some("orphaned".into()), ..accepted }
}
