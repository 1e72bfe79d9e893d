//! `synapse audit find` and `synapse audit erase`: what the digests of the log still tell, and the end of that.

use std::{path::PathBuf, time::Duration};

use anyhow::bail;
use synapse_audit::digest::{Content, DigestKey, Epoch, KeyRing};
use synapse_core::{
    audit::entry::Sealed,
    id::TeamName,
    store::audit::{AuditFilter, AuditStore},
};
use synapse_dialect::multipart::Scanner;

use synapse_gateway::audit::NO_TEAM;

use super::{Files, Output, PAGE, export, print, read};
use crate::audit::change::Change;

/// How long a request can take at most.
const LONGEST_REQUEST: Duration = Duration::from_secs(24 * 3600);

/// Prints the entries of requests or replies with this text.
pub(super) async fn find(
    store: &dyn AuditStore,
    files: &Files,
    content: &PathBuf,
    output: Output,
) -> anyhow::Result<()> {
    let text = read(content)?;
    let mut keys = vec![(DigestKey::plain(), AuditFilter::default())];
    if files.digest_keys().exists() {
        let ring = KeyRing::open(&files.digest_keys())?;
        keys.extend(ring.all().into_iter().map(|(team, epoch, key)| (key, within(team, epoch))));
    }
    let mut texts = vec![(Content::Request, text.clone()), (Content::Reply, text)];
    texts.extend(file_of(&texts[0].1).map(|file| (Content::Request, file)));
    let mut found: Vec<Sealed> = Vec::new();
    for (key, within) in &keys {
        for (content, text) in &texts {
            let digest = Some(key.digest(*content, text));
            let entries = store.list_entries(&AuditFilter { digest, ..within.clone() }, PAGE).await?;
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

/// Where entries are whose digests were made with a team's key of a month: a request may end in the month after.
fn within(team: TeamName, epoch: Epoch) -> AuditFilter {
    let until = epoch.next().start().map(|end| end + LONGEST_REQUEST);
    let team = (team.as_str() != NO_TEAM).then_some(team);
    AuditFilter { team, since: epoch.start(), until, ..AuditFilter::default() }
}

/// The one file of a body that is a form: what the log has the digest of.
fn file_of(body: &[u8]) -> Option<Vec<u8>> {
    let line = body.strip_prefix(b"--")?.split(|byte| *byte == b'\r').next()?;
    let kind = format!("multipart/form-data; boundary={}", std::str::from_utf8(line).ok()?.trim_end());
    let (mut scanner, mut file) = (Scanner::new(&kind, &[]).ok()?, Vec::new());
    scanner.push(body, |piece| file.extend_from_slice(piece)).ok()?;
    (scanner.finish().ok()?.files == 1).then_some(file)
}

/// Destroys the key of a team's digests of a month.
pub(super) async fn erase(
    store: &dyn AuditStore,
    files: &Files,
    team: &TeamName,
    month: &str,
    output: Output,
) -> anyhow::Result<()> {
    let Ok(epoch) = month.parse::<Epoch>() else { bail!("`{month}` is no month such as 2026-01") };
    if !files.digest_keys().exists() || !KeyRing::open(&files.digest_keys())?.destroy(team, epoch)? {
        bail!("there is no key for the digests of {team} of {month}");
    }
    let change =
        Change { team: Some(team.clone()), ..Change::of("digests.erased", format!("{team} {month}")) };
    change.record(store, files).await?;
    Ok(output.note(&format!(
        "The digests of {team} of {month} say nothing any more. A gateway that runs forgets their key within a minute."
    ))?)
}
