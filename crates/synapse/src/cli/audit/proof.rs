//! `synapse audit proof` and `check-proof`: that a request stands in the log, for those who have nothing else of it.

use std::path::PathBuf;

use anyhow::{Context, bail};
use synapse_audit::{checkpoint::Checkpoint, note::PublicKey, proof};
use synapse_core::{
    audit::{
        canonical::decode,
        entry::{Digest, EntryKind, Sealed},
        stretch::Standing,
    },
    hex,
    store::audit::{AuditFilter, AuditStore},
};
use uuid::Uuid;

use super::{PAGE, export, print, read};

/// Prints the proof of the entry that closes a request, or of the one that accepts it where that is all there is.
pub(super) async fn prove(store: &dyn AuditStore, request: &str, keys: &[PublicKey]) -> anyhow::Result<()> {
    let sealed = match request.split_once('.') {
        Some((chain, place)) => at(store, chain, place).await?,
        None => of(store, request).await?,
    };
    let next = store.list_checkpoints(sealed.chain, sealed.seq, 1).await?;
    let Some(stored) = next.first() else {
        bail!("no checkpoint covers the request {request} yet; there is one every minute");
    };
    let checkpoint = Checkpoint::open(&stored.note, keys).context("its checkpoint cannot be trusted")?;
    let hashes = hashes(store, &checkpoint).await?;
    let text = proof::prove(&sealed, &hashes, &stored.note, keys)
        .context("the log cannot prove it: run `synapse audit verify`")?;
    Ok(print(&text)?)
}

/// The entry of a request: the one that closes it, or the one that accepts it where that is all there is.
async fn of(store: &dyn AuditStore, request: &str) -> anyhow::Result<Sealed> {
    let filter = AuditFilter { request: Some(request.to_owned()), accepted: true, ..AuditFilter::default() };
    let mut entries = store.list_entries(&filter, PAGE).await?;
    let closing = entries.iter().position(|sealed| sealed.entry.kind == EntryKind::RequestClosed);
    if entries.is_empty() {
        bail!("the audit log has no request {request}; entries reach it within a second");
    }
    Ok(entries.swap_remove(closing.unwrap_or(0)))
}

/// The entry at a place, `SEQ` or, as a receipt says it, `SEQ.HASH`.
async fn at(store: &dyn AuditStore, chain: &str, place: &str) -> anyhow::Result<Sealed> {
    let (seq, hash) = place.split_once('.').map_or((place, None), |(seq, hash)| (seq, Some(hash)));
    let (Ok(chain), Ok(seq)) = (chain.parse::<Uuid>(), seq.parse::<u64>()) else {
        bail!("`{chain}.{place}` is neither a place, CHAIN.SEQ, nor a receipt");
    };
    let stretch = store.read_chain(chain, seq, 1).await?;
    let there = stretch.iter().find_map(|(_, standing)| standing.filter(|standing| standing.link.seq == seq));
    let Some(Standing { link, canonical }) = there else {
        bail!("the audit log has no entry {seq} of chain {chain}");
    };
    if hash.is_some_and(|hash| *hash != *hex(&link.hash)) {
        bail!("entry {seq} of chain {chain} is not the one of this receipt: run `synapse audit verify`");
    }
    let (.., entry) = decode(canonical).context("the entry cannot be read: run `synapse audit verify`")?;
    Ok(Sealed { chain, seq, prev: link.prev, hash: link.hash, entry })
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
