//! What was changed, as an entry of the audit log. What a gateway changes itself is an entry of its own chain. A command has a chain of its own, of one
//! entry: it shares no place in a chain with a gateway that runs, nor with other commands. Its checkpoint stands in
//! the same file outside the database as those of the gateway.

use anyhow::Context;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};
use synapse_audit::{
    chain::Chain,
    checkpoint::{Checkpoint, Checkpointer},
    sink::FileSink,
};
use synapse_core::{
    audit::entry::{Entry, EntryKind},
    id::{KeyId, TeamName},
    store::audit::AuditStore,
};
use synapse_gateway::gateway::Gateway;
use uuid::Uuid;

use super::files::{Files, signing_key};

/// What was changed; never a secret, nor the text of a prompt.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Such as `key.revoked`.
    pub(crate) action: &'static str,
    /// The name or the id of what was changed.
    pub(crate) target: String,
    /// The team that it is about.
    pub(crate) team: Option<TeamName>,
    /// The key that it is about.
    pub(crate) key: Option<KeyId>,
}

impl Change {
    /// Of something that is neither a key nor a team.
    pub(crate) fn of(action: &'static str, target: impl ToString) -> Self {
        Self { action, target: target.to_string(), team: None, key: None }
    }

    /// Its entry; `actor` made it.
    pub(crate) fn entry(&self, actor: &str) -> Entry {
        let mut entry = Entry::new(EntryKind::AdminChange, Timestamp::now());
        entry.actor = Some(actor.into());
        entry.team = self.team.as_ref().map(|team| team.as_str().into());
        entry.key = self.key.as_ref().map(|key| key.as_str().into());
        entry.detail = Some(json!({"action": self.action, "target": self.target}).to_string().into());
        entry
    }

    /// Writes it into the log.
    pub(crate) async fn record(&self, store: &dyn AuditStore, files: &Files) -> anyhow::Result<()> {
        let actor = format!("command line, uid {}", rustix::process::geteuid().as_raw());
        let mut chain = Chain::new(Uuid::now_v7());
        let sealed = chain.seal(self.entry(&actor));
        store.append_entries(std::slice::from_ref(&sealed)).await?;
        if !files.signing_key().exists() {
            // On a machine that has no more of the gateway than its database, nobody can vouch for it.
            return Ok(());
        }
        let mut checkpoints = Checkpointer::new(sealed.chain);
        let covered = checkpoints.push(&sealed).is_ok();
        let made: Option<Checkpoint> = checkpoints.checkpoint(Timestamp::now()).filter(|_| covered);
        if let Some(made) = made {
            let signed = made.sign(&signing_key(files)?);
            store.add_checkpoint(&signed).await?;
            let place = files.sink();
            let mut sink = FileSink::open(&place).with_context(|| place.display().to_string())?;
            sink.append(&signed.note).with_context(|| place.display().to_string())?;
        }
        Ok(())
    }
}

/// Notes what a gateway has made by itself when it was started for the first time.
pub(crate) fn first_start(gateway: &Gateway, has_key: bool, has_token: bool) {
    let made = [("key.created", has_key), ("admin_token.created", has_token)];
    for (action, _) in made.into_iter().filter(|(_, is_new)| *is_new) {
        if let Some(log) = gateway.journal.log() {
            log.tell(&Change::of(action, "shown at the first start").entry("gateway"));
        }
    }
}

/// Notes which configuration is in force, or was refused, by the SHA-256 of its text: it may have secrets in it.
pub(crate) fn configuration(gateway: &Gateway, text: &str, is_in_force: bool) {
    let Some(log) = gateway.journal.log() else { return };
    let mut entry = Entry::new(EntryKind::ConfigVersion, Timestamp::now());
    let digest: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    entry.outcome = Some(if is_in_force { "in_force" } else { "refused" }.into());
    entry.detail = Some(json!({"sha256": digest}).to_string().into());
    log.tell(&entry);
}
