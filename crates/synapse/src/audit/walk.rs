//! The way along a chain: what verification is given of it, in order, page by page.

use std::io;

use synapse_audit::verify::Verifier;
use synapse_core::store::audit::AuditStore;
use uuid::Uuid;

/// The place among the sources of checkpoints that the database has.
const DATABASE: usize = 0;
/// How many entries are read at once: a few megabytes.
const STRETCH: u32 = 5000;
/// How many checkpoints are read at once.
const PAGE: u32 = 1000;

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
    while next < end {
        let stretch = store.read_chain(chain, next, STRETCH).await?;
        let last = stretch.last().unwrap_or(u64::MAX).min(end - 1);
        let mut has_more = false;
        while verifier.covered(DATABASE) <= last {
            let page = store.list_checkpoints(chain, checkpoint_from, PAGE).await?;
            for stored in &page {
                verifier.checkpoint(DATABASE, &stored.note);
                checkpoint_from = stored.seq + 1;
            }
            if page.is_empty() {
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
