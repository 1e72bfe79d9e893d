//! `synapse audit proof` and `check-proof`: that a request stands in the log, for those who have nothing else of it.

use std::path::PathBuf;

use anyhow::{Context, bail};
use synapse_audit::{checkpoint::Checkpoint, note::PublicKey, proof};
use synapse_core::{
    audit::entry::{Digest, EntryKind},
    store::audit::{AuditFilter, AuditStore},
};

use super::{PAGE, export, print, read};

/// Prints the proof of the entry that closes a request, or of the one that accepts it where that is all there is.
pub(super) async fn prove(store: &dyn AuditStore, request: &str, keys: &[PublicKey]) -> anyhow::Result<()> {
    let filter = AuditFilter { request: Some(request.to_owned()), accepted: true, ..AuditFilter::default() };
    let entries = store.list_entries(&filter, PAGE).await?;
    let closing = entries.iter().find(|sealed| sealed.entry.kind == EntryKind::RequestClosed);
    let Some(sealed) = closing.or(entries.first()) else {
        bail!("the audit log has no request {request}; entries reach it within a second");
    };
    let next = store.list_checkpoints(sealed.chain, sealed.seq, 1).await?;
    let Some(stored) = next.first() else {
        bail!("no checkpoint covers the request {request} yet; there is one every minute");
    };
    let checkpoint = Checkpoint::open(&stored.note, keys).context("its checkpoint cannot be trusted")?;
    let hashes = hashes(store, &checkpoint).await?;
    let text = proof::prove(sealed, &hashes, &stored.note, keys)
        .context("the log cannot prove it: run `synapse audit verify`")?;
    Ok(print(&text)?)
}

async fn hashes(store: &dyn AuditStore, checkpoint: &Checkpoint) -> anyhow::Result<Vec<Digest>> {
    let mut hashes = Vec::new();
    let mut next = checkpoint.first;
    while next <= checkpoint.last {
        let page = store.read_chain(checkpoint.chain, next, PAGE).await?;
        let Some(last) = page.last() else { break };
        next = last + 1;
        let covered = page.iter().filter(|(seq, _)| *seq <= checkpoint.last);
        hashes.extend(covered.map(|(_, standing)| standing.map_or([0; 32], |standing| standing.link.hash)));
    }
    Ok(hashes)
}

/// Checks a proof and prints its entry.
pub(super) fn check(file: &PathBuf, keys: &[PublicKey]) -> anyhow::Result<()> {
    let text = String::from_utf8(read(file)?).context("the proof is no text")?;
    let proven = proof::verify(&text, keys)?;
    Ok(print(&format!("{}\n", export::document(&proven.sealed)))?)
}
