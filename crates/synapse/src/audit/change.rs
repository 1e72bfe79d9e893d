//! What was changed, as an entry of the audit log. What a gateway changes itself stands in its own chain. A command has
//! a chain of its own, of one entry, and so shares no place with a gateway that runs, nor with other commands; its
//! checkpoint stands in the same file of the data folder as those of the gateway, which gives it to all sinks.

use anyhow::Context;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};
use synapse_audit::{chain::Chain, checkpoint::Checkpointer, sink::FileSink};
use synapse_core::{
    alert::Alert,
    audit::{
        entry::{Entry, EntryKind},
        stretch::Stretch,
    },
    config::snapshot::Webhook,
    hex,
    id::{KeyId, TeamName},
    store::{audit::AuditStore, keys::KeyInfo},
};
use synapse_gateway::gateway::Gateway;
use uuid::Uuid;

use super::files::Files;

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

    /// Of a key.
    pub(crate) fn of_key(action: &'static str, info: &KeyInfo) -> Self {
        Self { team: Some(info.team.clone()), key: Some(info.id.clone()), ..Self::of(action, &info.id) }
    }

    /// Of a team.
    pub(crate) fn of_team(action: &'static str, name: &TeamName) -> Self {
        Self { team: Some(name.clone()), ..Self::of(action, name) }
    }

    /// Of an alert, and so of what it is about.
    pub(crate) fn of_alert(action: &'static str, alert: &Alert) -> Self {
        Self { team: alert.team.clone(), key: alert.key.clone(), ..Self::of(action, &alert.id) }
    }

    /// From one list of webhooks to the next.
    fn of_webhooks(before: &[Webhook], after: &[Webhook]) -> Vec<Self> {
        let find = |among: &[Webhook], name: &str| among.iter().find(|one| one.name == name).cloned();
        let is_gone = |old: &&Webhook| find(after, &old.name).is_none();
        let deleted = before.iter().filter(is_gone).map(|old| Self::of("webhook.deleted", &old.name));
        let others = after.iter().filter_map(|new| match find(before, &new.name) {
            None => Some(Self::of("webhook.created", &new.name)),
            Some(old) if old != *new => Some(Self::of("webhook.changed", &new.name)),
            Some(_) => None,
        });
        deleted.chain(others).collect()
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
        record(self.entry(&actor()), store, files).await
    }
}

/// Who gives commands.
pub(crate) fn actor() -> String {
    format!("command line, uid {}", rustix::process::geteuid().as_raw())
}

/// Writes an entry of a command into the log.
pub(crate) async fn record(entry: Entry, store: &dyn AuditStore, files: &Files) -> anyhow::Result<()> {
    let mut chain = Chain::new(Uuid::now_v7());
    let sealed = chain.seal(entry);
    let link = sealed.link();
    store.append_entries(Stretch::of(&sealed).into()).await?;
    if !files.has_folder() {
        // On a machine that has no more of the gateway than its database, nobody can vouch for it.
        return Ok(());
    }
    let mut checkpoints = Checkpointer::new(link.chain);
    if checkpoints.push(link).is_ok()
        && let Some(made) = checkpoints.checkpoint(Timestamp::now())
    {
        let signed = made.sign(&files.key()?);
        store.add_checkpoint(&signed).await?;
        let place = files.checkpoints();
        let append = |mut sink: FileSink| sink.append(&signed.note);
        FileSink::open(&place).and_then(append).with_context(|| place.display().to_string())?;
    }
    Ok(())
}

/// Notes what a gateway has changed by itself.
pub(crate) fn by_gateway(gateway: &Gateway, change: &Change) {
    if let Some(log) = gateway.records.log() {
        log.tell(&change.entry("gateway"));
    }
}

/// Notes how the webhooks of one configuration differ from those of the one before.
pub(crate) fn webhooks(gateway: &Gateway, before: &[Webhook], after: &[Webhook]) {
    for change in Change::of_webhooks(before, after) {
        by_gateway(gateway, &change);
    }
}

/// Notes which configuration is in force, or was refused, by the SHA-256 of its text: it may have secrets in it.
pub(crate) fn configuration(gateway: &Gateway, text: &str, is_in_force: bool) {
    let Some(log) = gateway.records.log() else { return };
    let mut entry = Entry::new(EntryKind::ConfigVersion, Timestamp::now());
    entry.outcome = Some(if is_in_force { "in_force" } else { "refused" }.into());
    entry.detail = Some(json!({"sha256": hex(&Sha256::digest(text))}).to_string().into());
    log.tell(&entry);
}
