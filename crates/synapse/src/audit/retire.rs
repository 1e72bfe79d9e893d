//! Putting away months of the audit log that are too old to be kept. A signed anchor takes the place of what goes, so
//! that verification goes on behind it; nothing goes that does not verify, that a hold keeps, or that another
//! gateway has yet to vouch for.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::bail;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::json;
use synapse_audit::{
    anchor::Anchor,
    checkpoint::Checkpoint,
    note::{NoteError, PublicKey, SigningKey},
    verify::Verifier,
};
use synapse_core::{
    audit::entry::{Entry, EntryKind},
    store::{
        audit::AuditStore,
        retention::{Aged, RetentionStore, StoredAnchor},
    },
};
use synapse_gateway::audit::AuditLog;
use synapse_store::place::Stores;
use uuid::Uuid;

use super::walk::{anchor, walk};

/// Until the first look, so that what a gateway has yet to vouch for is vouched for before.
const FIRST_LOOK: Duration = Duration::from_secs(600);
/// Between two looks for old months.
const LOOK_EVERY: Duration = Duration::from_secs(6 * 3600);

/// What is put away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retirement {
    /// Entries before this beginning of a month go.
    pub(crate) month: Timestamp,
    /// How many chains have some.
    pub(crate) chains: usize,
    /// How many entries there are, as far as their places tell.
    pub(crate) entries: u64,
}

/// What can be done about old months.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prospect {
    /// There are none, or holds keep them.
    Nothing,
    /// Other gateways have so many chains in them and have not vouched for them yet.
    Waiting(usize),
    /// They can go.
    Ready(Retirement),
}

/// Who vouches for what goes.
#[derive(Debug)]
pub(crate) struct Retirer<'s, S: ?Sized> {
    pub(crate) store: &'s S,
    /// Whose checkpoints are believed.
    pub(crate) keys: &'s [PublicKey],
    /// What anchors are signed with.
    pub(crate) key: &'s SigningKey,
}

impl<S: AuditStore + RetentionStore + ?Sized> Retirer<'_, S> {
    /// Makes anchors for whatever is older than `kept` and can go; tells what can go then.
    ///
    /// # Errors
    /// When the database does not answer, or the log was tampered with: then nothing goes.
    pub(crate) async fn prepare(&self, now: Timestamp, kept: SignedDuration) -> anyhow::Result<Prospect> {
        let Some((month, aged)) = self.old(now.checked_sub(kept)?).await? else {
            return Ok(Prospect::Nothing);
        };
        let (mut entries, mut waiting) = (0, 0);
        let stored = self.anchors().await?;
        for chain in &aged {
            let stored = stored.get(&chain.chain).map(Vec::as_slice).unwrap_or_default();
            let ours = anchor(self.store, chain.chain, stored, self.keys).await?;
            let next = ours.as_ref().map_or(0, |anchor| anchor.next);
            entries += (chain.last + 1).saturating_sub(next);
            if next > chain.last || self.vouch(chain, ours, now).await? {
                continue;
            }
            // What its own gateway has to vouch for, only that one can check.
            waiting += usize::from(stored.iter().all(|anchor| anchor.next <= chain.last));
        }
        let retirement = Retirement { month, chains: aged.len(), entries };
        Ok(if waiting == 0 { Prospect::Ready(retirement) } else { Prospect::Waiting(waiting) })
    }

    /// Puts away what is ready; gives how many entries went.
    ///
    /// # Errors
    /// When something has changed since: a hold was given, or there are entries that no anchor stands in place of.
    pub(crate) async fn finish(&self, retirement: Retirement) -> anyhow::Result<u64> {
        let stored = self.anchors().await?;
        let is_covered = |chain: &Aged| {
            stored
                .get(&chain.chain)
                .is_some_and(|anchors| anchors.iter().any(|anchor| anchor.next > chain.last))
        };
        match self.old(retirement.month).await? {
            Some((month, aged)) if month == retirement.month && aged.iter().all(is_covered) => {
                Ok(self.store.retire_months(month).await?)
            }
            _ => bail!(
                "a hold was given, or entries were added, while old months were looked at; they stay for now"
            ),
        }
    }

    /// All anchors, chain by chain.
    async fn anchors(&self) -> anyhow::Result<HashMap<Uuid, Vec<StoredAnchor>>> {
        let mut anchors = HashMap::<_, Vec<_>>::new();
        for anchor in self.store.anchors().await? {
            anchors.entry(anchor.chain).or_default().push(anchor);
        }
        Ok(anchors)
    }

    /// The chains that have something before a time, and the beginning of the month up to which all of it can go.
    pub(crate) async fn old(&self, end: Timestamp) -> anyhow::Result<Option<(Timestamp, Vec<Aged>)>> {
        let held = self.store.holds().await?;
        let held = held.iter().filter(|hold| hold.released_at.is_none());
        let held = held.map(|hold| hold.since.unwrap_or(Timestamp::UNIX_EPOCH)).min();
        let mut month = month_of(held.map_or(end, |held| held.min(end)))?;
        loop {
            let aged = self.store.aged_chains(month).await?;
            if aged.is_empty() {
                return Ok(None);
            }
            // Where a clock was set back, months interlace: they go together.
            if aged.iter().all(|chain| chain.left.is_none_or(|left| left > chain.last)) {
                return Ok(Some((month, aged)));
            }
            month = month_of(month.checked_sub(SignedDuration::from_hours(24))?)?;
        }
    }

    /// Makes an anchor for a chain; tells whether that could be done. What another gateway has signed it must vouch
    /// for itself.
    async fn vouch(&self, aged: &Aged, anchor: Option<Anchor>, now: Timestamp) -> anyhow::Result<bool> {
        let chain = aged.chain;
        let anchor = anchor.unwrap_or_else(|| Anchor::beginning(chain));
        let first = self.store.list_checkpoints(chain, anchor.next, 1).await?;
        if first.iter().any(|stored| Checkpoint::open(&stored.note, self.keys) == Err(NoteError::Unsigned)) {
            return Ok(false);
        }
        let mut verifier = Verifier::after(&anchor, self.keys.to_vec(), &["the database"]);
        let nowhere = Vec::<std::iter::Empty<_>>::new();
        walk(self.store, chain, (anchor.next, aged.last + 1), &mut verifier, nowhere).await?;
        let Some(made) = verifier.anchor(now) else { bail!("{}", damage(chain, verifier)) };
        if made.next != aged.last + 1 {
            bail!("chain {chain}: its entries up to {} cannot be read", aged.last);
        }
        self.store.add_anchor(&made.sign(self.key)).await?;
        Ok(true)
    }
}

fn damage(chain: Uuid, verifier: Verifier) -> String {
    let report = verifier.finish();
    let found = report.first().map_or_else(|| "it does not verify".to_owned(), ToString::to_string);
    format!(
        "chain {chain} keeps its old entries, as something is wrong with them: {found}; run `synapse audit verify`"
    )
}

/// The beginning of the month of a time, in UTC.
pub(crate) fn month_of(at: Timestamp) -> anyhow::Result<Timestamp> {
    let first = at.to_zoned(TimeZone::UTC).date().first_of_month();
    Ok(first.to_zoned(TimeZone::UTC)?.timestamp())
}

/// The entry that tells of it.
pub(crate) fn entry(retirement: &Retirement, actor: &str) -> Entry {
    let mut entry = Entry::new(EntryKind::EntriesRetired, Timestamp::now());
    entry.actor = Some(actor.into());
    let Retirement { month, chains, entries } = retirement;
    let detail = json!({"before": month.strftime("%Y-%m").to_string(), "chains": chains, "entries": entries});
    entry.detail = Some(detail.to_string().into());
    entry
}

/// Looks for old months for as long as the gateway runs.
pub(crate) async fn keep(
    store: Arc<dyn Stores>,
    log: Arc<AuditLog>,
    key: Arc<SigningKey>,
    kept: impl Fn() -> Option<SignedDuration> + Send + Sync,
) {
    tokio::time::sleep(FIRST_LOOK).await;
    loop {
        if let Some(kept) = kept() {
            let keys = [key.public().clone()];
            let retirer = Retirer { store: &*store, keys: &keys, key: &key };
            if let Err(error) = look(&retirer, &log, kept).await {
                let because = format!("{error:#}");
                tracing::error!(because, "old months of the audit log could not be put away");
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(retirer: &Retirer<'_, dyn Stores>, log: &AuditLog, kept: SignedDuration) -> anyhow::Result<()> {
    match retirer.prepare(Timestamp::now(), kept).await? {
        Prospect::Nothing => {}
        Prospect::Waiting(chains) => {
            tracing::info!(
                chains,
                "old months of the audit log wait for other gateways to vouch for their chains"
            );
        }
        Prospect::Ready(retirement) => {
            let entries = retirer.finish(retirement).await?;
            log.tell(&entry(&Retirement { entries, ..retirement }, "gateway"));
            tracing::info!(entries, "old months of the audit log were put away behind signed anchors");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use synapse_audit::{chain::Chain, checkpoint::Checkpointer};
    use synapse_core::{
        audit::stretch::Stretch,
        store::{audit::AuditFilter, retention::Hold},
    };
    use synapse_store::sqlite::SqliteStore;

    use super::*;

    const KEPT: SignedDuration = SignedDuration::from_hours(400 * 24);

    struct Log {
        store: SqliteStore,
        _folder: tempfile::TempDir,
    }

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn now() -> Timestamp {
        time("2026-04-20T00:00:00Z")
    }

    impl Log {
        async fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let store = SqliteStore::open(folder.path().join("synapse.db")).await.expect("a store");
            Self { store, _folder: folder }
        }

        /// A chain of an entry a day from the beginning of 2025 on, with a checkpoint for every ten.
        async fn chain(&self, key: &SigningKey, days: u64) -> Uuid {
            let mut chain = Chain::new(Uuid::now_v7());
            let mut checkpoints = Checkpointer::new(chain.id);
            for day in 0..days {
                let at = time("2025-01-01T12:00:00Z") + Duration::from_secs(day * 86_400);
                let sealed = chain.seal(Entry::new(EntryKind::RequestClosed, at));
                checkpoints.push(sealed.link()).expect("the next one");
                self.store.append_entries(Stretch::of(&sealed).into()).await.expect("appended");
                if day % 10 == 9 {
                    let made = checkpoints.checkpoint(at).expect("a checkpoint");
                    self.store.add_checkpoint(&made.sign(key)).await.expect("kept");
                }
            }
            chain.id
        }

        async fn prepare(&self, key: &SigningKey) -> anyhow::Result<Prospect> {
            let keys = [key.public().clone()];
            Retirer { store: &self.store, keys: &keys, key }.prepare(now(), KEPT).await
        }

        async fn retire(&self, key: &SigningKey) -> u64 {
            let keys = [key.public().clone()];
            let retirer = Retirer { store: &self.store, keys: &keys, key };
            match retirer.prepare(now(), KEPT).await.expect("an answer") {
                Prospect::Ready(retirement) => retirer.finish(retirement).await.expect("put away"),
                _ => 0,
            }
        }

        /// How many entries are left, when they verify behind the anchor.
        async fn verified(&self, key: &SigningKey, chain: Uuid) -> u64 {
            let keys = [key.public().clone()];
            let anchors = self.store.anchors().await.expect("anchors");
            let stored = anchors.iter().find(|anchor| anchor.chain == chain).expect("an anchor");
            let anchor = Anchor::open(&stored.note, &keys).expect("an anchor");
            let mut verifier = Verifier::after(&anchor, keys.to_vec(), &["the database"]);
            let nowhere = Vec::<std::iter::Empty<_>>::new();
            walk(&self.store, chain, (anchor.next, u64::MAX), &mut verifier, nowhere).await.expect("a walk");
            let report = verifier.finish();
            assert!(report.is_sound(), "{:?}", report.damages);
            report.entries
        }
    }

    fn key() -> SigningKey {
        SigningKey::generate("synapse-audit").expect("a key")
    }

    #[tokio::test]
    async fn months_that_are_older_than_is_kept_go_and_the_rest_verifies() {
        let (log, key) = (Log::new().await, key());
        let chain = log.chain(&key, 100).await;
        // 400 days before the 20th of April 2026 are in the middle of March 2025.
        assert_eq!(log.retire(&key).await, 31 + 28);
        assert_eq!(log.verified(&key, chain).await, 100 - 31 - 28);
        assert_eq!(log.prepare(&key).await.expect("an answer"), Prospect::Nothing);
    }

    #[tokio::test]
    async fn a_chain_of_which_nothing_is_left_has_an_anchor_too() {
        let (log, key) = (Log::new().await, key());
        let chain = log.chain(&key, 20).await;
        assert_eq!(log.retire(&key).await, 20);
        assert_eq!(log.verified(&key, chain).await, 0);
    }

    #[tokio::test]
    async fn what_was_tampered_with_stays() {
        let (log, key) = (Log::new().await, key());
        let chain = log.chain(&key, 40).await;
        let taken = Chain { id: chain, next: 40, head: [7; 32] }
            .seal(Entry::new(EntryKind::RequestClosed, time("2025-02-10T00:00:00Z")));
        log.store.append_entries(Stretch::of(&taken).into()).await.expect("appended");
        let refusal = log.prepare(&key).await.expect_err("a refusal").to_string();
        assert!(
            refusal.contains("keeps its old entries") && refusal.contains("entry 40: forked"),
            "{refusal}"
        );
        let left = log.store.list_entries(&AuditFilter::default(), 100).await.expect("entries");
        assert_eq!(left.len(), 41);
    }

    #[tokio::test]
    async fn a_hold_keeps_its_months_until_it_is_released() {
        let (log, key) = (Log::new().await, key());
        log.chain(&key, 100).await;
        let since = Some(time("2025-02-10T00:00:00Z"));
        let hold = Hold { id: "one".into(), since, reason: "a lawsuit".into(), at: now(), released_at: None };
        log.store.add_hold(&hold).await.expect("kept");
        assert_eq!(log.retire(&key).await, 31);
        log.store.release_hold("one").await.expect("released");
        assert_eq!(log.retire(&key).await, 28);
    }

    #[tokio::test]
    async fn each_gateway_vouches_for_its_own_chain() {
        let (log, ours, theirs) = (Log::new().await, key(), key());
        let (our_chain, their_chain) = (log.chain(&ours, 100).await, log.chain(&theirs, 100).await);
        assert_eq!(log.prepare(&ours).await.expect("an answer"), Prospect::Waiting(1));
        assert_eq!(log.retire(&theirs).await, 2 * (31 + 28));
        assert_eq!(log.verified(&ours, our_chain).await, 41);
        assert_eq!(log.verified(&theirs, their_chain).await, 41);
    }

    #[tokio::test]
    async fn an_anchor_that_nobody_signed_stands_in_place_of_nothing() {
        let (log, key) = (Log::new().await, key());
        let chain = log.chain(&key, 100).await;
        let forged = Anchor { next: 1_000, ..Anchor::beginning(chain) }.sign(&self::key());
        log.store.add_anchor(&forged).await.expect("kept");
        assert_eq!(log.retire(&key).await, 31 + 28);
        let anchors = log.store.anchors().await.expect("anchors");
        assert_eq!(anchors.iter().map(|anchor| anchor.next).collect::<Vec<_>>(), [1_000, 59]);
    }

    #[tokio::test]
    async fn what_changes_between_looking_and_putting_away_keeps_the_months() {
        let (log, key) = (Log::new().await, key());
        log.chain(&key, 100).await;
        let keys = [key.public().clone()];
        let retirer = Retirer { store: &log.store, keys: &keys, key: &key };
        let Prospect::Ready(retirement) = retirer.prepare(now(), KEPT).await.expect("an answer") else {
            panic!("nothing is ready");
        };
        let hold =
            Hold { id: "one".into(), since: None, reason: "a lawsuit".into(), at: now(), released_at: None };
        log.store.add_hold(&hold).await.expect("kept");
        retirer.finish(retirement).await.expect_err("a hold");
        log.store.release_hold("one").await.expect("released");
        let late = Chain::new(Uuid::now_v7())
            .seal(Entry::new(EntryKind::RequestClosed, time("2025-01-05T00:00:00Z")));
        log.store.append_entries(Stretch::of(&late).into()).await.expect("appended");
        retirer.finish(retirement).await.expect_err("an entry that nobody looked at");
    }

    #[tokio::test]
    async fn months_that_interlace_go_together() {
        let (log, key) = (Log::new().await, key());
        let chain = log.chain(&key, 60).await;
        // The clock was set back from March into February.
        let mut end = Chain { id: chain, next: 60, head: log.head(chain).await };
        let back = end.seal(Entry::new(EntryKind::RequestClosed, time("2025-02-20T00:00:00Z")));
        log.store.append_entries(Stretch::of(&back).into()).await.expect("appended");
        assert_eq!(log.retire(&key).await, 31);
        assert_eq!(log.verified(&key, chain).await, 30);
    }

    impl Log {
        async fn head(&self, chain: Uuid) -> synapse_core::audit::entry::Digest {
            let heads = self.store.audit_heads().await.expect("heads");
            heads.into_iter().find(|(known, _)| *known == chain).expect("a chain").1.hash
        }
    }
}
