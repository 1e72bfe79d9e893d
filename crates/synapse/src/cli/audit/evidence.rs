//! `synapse audit find` and `synapse audit erase`: what the digests of the log still tell, and the end of that.

use std::path::PathBuf;

use anyhow::bail;
use synapse_audit::digest::{Content, DigestKey, Epoch, KeyRing};
use synapse_core::{
    audit::entry::Sealed,
    id::TeamName,
    store::audit::{AuditFilter, AuditStore},
};

use super::{Files, Output, PAGE, export, print, read};

/// Prints the entries of requests or replies with this text.
pub(super) async fn find(
    store: &dyn AuditStore,
    files: &Files,
    content: &PathBuf,
    output: Output,
) -> anyhow::Result<()> {
    let text = read(content)?;
    let mut keys = vec![DigestKey::plain()];
    if files.digest_keys().exists() {
        keys.extend(KeyRing::open(&files.digest_keys())?.all().into_iter().map(|(_, _, key)| key));
    }
    let mut found: Vec<Sealed> = Vec::new();
    for key in &keys {
        for content in [Content::Request, Content::Reply] {
            let digest = Some(key.digest(content, &text));
            let entries = store.list_entries(&AuditFilter { digest, ..AuditFilter::default() }, PAGE).await?;
            found.extend(entries.into_iter().filter(|new| new.entry.digest_key.as_ref() == Some(key.name())));
        }
    }
    found.sort_by_key(|sealed| (sealed.chain, sealed.seq));
    found.dedup_by_key(|sealed| (sealed.chain, sealed.seq));
    if found.is_empty() {
        output.note("No entry has this text, or its key was destroyed.")?;
    }
    Ok(print(&found.iter().map(|sealed| format!("{}\n", export::document(sealed))).collect::<String>())?)
}

/// Destroys the key of a team's digests of a month.
pub(super) fn erase(files: &Files, team: &TeamName, month: &str, output: Output) -> anyhow::Result<()> {
    let Ok(epoch) = month.parse::<Epoch>() else { bail!("`{month}` is no month such as 2026-01") };
    if !files.digest_keys().exists() || !KeyRing::open(&files.digest_keys())?.destroy(team, epoch)? {
        bail!("there is no key for the digests of {team} of {month}");
    }
    Ok(output.note(&format!("The digests of {team} of {month} say nothing any more."))?)
}
