//! The way along a chain: what verification is given of it, in order, page by page.

use std::io;

use synapse_audit::{anchor::Anchor, note::PublicKey, verify::Verifier};
use synapse_core::store::{audit::AuditStore, retention::StoredAnchor};
use uuid::Uuid;

/// The place among the sources of checkpoints that the database has.
const DATABASE: usize = 0;
/// How many entries are read at once: a few megabytes.
const STRETCH: u32 = 5000;
/// How many checkpoints are read at once.
const PAGE: u32 = 1000;

/// The last place that databases count to.
const LAST: u64 = i64::MAX as u64;

/// Gives the verifier the entries of a chain from `from` to before `end`, and before each the checkpoints that cover
/// it: those of the database, and what `sinks` have.
pub(crate) async fn walk(
    store: &(impl AuditStore + ?Sized),
    chain: Uuid,
    (from, end): (u64, u64),
    verifier: &mut Verifier,
    mut sinks: Vec<impl Iterator<Item = io::Result<String>>>,
) -> anyhow::Result<()> {
    let (mut next, mut checkpoint_from) = (from, from);
    while next < end && next <= LAST {
        let stretch = store.read_chain(chain, next, STRETCH).await?;
        let last = stretch.last().unwrap_or(u64::MAX).min(end - 1);
        let mut has_more = false;
        while verifier.covered(DATABASE) <= last {
            let page = store.list_checkpoints(chain, checkpoint_from, PAGE).await?;
            for stored in &page {
                verifier.checkpoint(DATABASE, &stored.note);
                checkpoint_from = stored.seq + 1;
            }
            if page.is_empty() || checkpoint_from > LAST {
                break;
            }
            has_more = true;
        }
        for (at, notes) in sinks.iter_mut().enumerate() {
            while verifier.covered(at + 1) <= last
                && let Some(note) = notes.next()
            {
                verifier.checkpoint(at + 1, &note?);
            }
        }
        if stretch.is_empty() && !has_more {
            return Ok(());
        }
        // Checkpoints that came just now may cover entries that came with them.
        for (seq, standing) in stretch.iter().take_while(|(seq, _)| *seq < end) {
            verifier.entry(seq, standing);
            next = seq + 1;
        }
    }
    Ok(())
}

/// The furthest good anchor of a chain with no entries before it: what is still there is looked at.
pub(crate) async fn anchor(
    store: &(impl AuditStore + ?Sized),
    chain: Uuid,
    stored: &[StoredAnchor],
    keys: &[PublicKey],
) -> anyhow::Result<Option<Anchor>> {
    let first = match stored {
        [] => return Ok(None),
        _ => store.read_chain(chain, 0, 1).await?.last().unwrap_or(u64::MAX),
    };
    let good = stored.iter().filter_map(|stored| opened(stored, keys));
    Ok(good.filter(|anchor| anchor.next <= first).max_by_key(|anchor| anchor.next))
}

/// An anchor, where one of these keys has signed it for the place that it is kept for.
pub(crate) fn opened(stored: &StoredAnchor, keys: &[PublicKey]) -> Option<Anchor> {
    let anchor = Anchor::open(&stored.note, keys).ok()?;
    ((anchor.chain, anchor.next) == (stored.chain, stored.next)).then_some(anchor)
}
