//! The records that the rows of either database make.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use synapse_core::{
    alert::{Alert, Rule, Severity, State},
    binding::SystemPrompt,
    id::TeamName,
    incident::Incident,
    limits::Limits,
    principal::KeyTable,
    store::{
        StoreError,
        admin_tokens::{AdminTokenInfo, AdminTokenTable},
        alerts::{Delivery, Progress},
        keys::{KeyInfo, PromptVersion},
        retention::{Hold, StoredAnchor},
        teams::Team,
        worker_keys::WorkerKeyInfo,
    },
    worker::WorkerKeyTable,
};
use uuid::Uuid;

use crate::rows::{Cells, backend, from_json, hash, moment, time};

/// Anchors, the furthest of a chain first.
pub(crate) const ANCHORS: &str = "SELECT * FROM audit_anchors ORDER BY chain, next DESC";

pub(crate) fn anchor(row: &impl Cells) -> Result<StoredAnchor, StoreError> {
    let chain = row.optional_bytes("chain")?.unwrap_or_default();
    Ok(StoredAnchor {
        chain: Uuid::from_slice(&chain).map_err(backend)?,
        next: u64::try_from(row.number("next")?).map_err(backend)?,
        at: time(row, "at")?,
        note: row.text("note")?,
    })
}

pub(crate) fn hold(row: &impl Cells) -> Result<Hold, StoreError> {
    Ok(Hold {
        id: row.text("id")?,
        since: moment(row, "since")?,
        reason: row.text("reason")?,
        at: time(row, "at")?,
        released_at: moment(row, "released_at")?,
    })
}

pub(crate) fn team(row: &impl Cells) -> Result<Team, StoreError> {
    Ok(Team {
        name: row.text("name")?.into(),
        created_at: time(row, "created_at")?,
        disabled: row.flag("disabled")?,
        limits: from_json(row, "limits")?,
    })
}

pub(crate) fn key(row: &impl Cells) -> Result<KeyInfo, StoreError> {
    Ok(KeyInfo {
        id: row.text("id")?.into(),
        team: row.text("team")?.into(),
        group: row.text("group_name")?.into(),
        name: row.optional_text("name")?,
        models: from_json(row, "models")?,
        created_at: time(row, "created_at")?,
        expires_at: moment(row, "expires_at")?,
        revoked_at: moment(row, "revoked_at")?,
        disabled: row.flag("disabled")?,
        previous_secret_until: moment(row, "previous_until")?,
        binding: from_json(row, "binding")?,
    })
}

pub(crate) fn prompt(row: &impl Cells) -> Result<PromptVersion, StoreError> {
    let version = row.number("version")?.try_into().map_err(backend)?;
    let prompt = SystemPrompt::new(version, row.text("text")?);
    Ok(PromptVersion { prompt, created_at: time(row, "created_at")? })
}

/// Keys for the request path, from rows of keys with `team_disabled` and `team_limits`.
pub(crate) fn key_table(rows: &[impl Cells]) -> Result<KeyTable, StoreError> {
    let mut limits_of = HashMap::<TeamName, Arc<Limits>>::new();
    let mut table = KeyTable::default();
    for row in rows {
        let info = key(row)?;
        let mut secrets = Vec::with_capacity(2);
        secrets.extend(hash(row, "hash")?.map(|hash| (hash, None)));
        secrets.extend(hash(row, "previous_hash")?.map(|hash| (hash, info.previous_secret_until)));
        let limits = match limits_of.get(&info.team) {
            Some(known) => Arc::clone(known),
            None => {
                let limits = Arc::new(from_json(row, "team_limits")?);
                limits_of.insert(info.team.clone(), Arc::clone(&limits));
                limits
            }
        };
        table.insert_issued(info.principal(row.flag("team_disabled")?, limits), secrets);
    }
    Ok(table)
}

pub(crate) fn worker_key(row: &impl Cells) -> Result<WorkerKeyInfo, StoreError> {
    Ok(WorkerKeyInfo {
        id: row.text("id")?.into(),
        group: row.text("group_name")?.into(),
        description: row.optional_text("description")?,
        allows_cloud: row.flag("allows_cloud")?,
        created_at: time(row, "created_at")?,
        revoked_at: moment(row, "revoked_at")?,
    })
}

pub(crate) fn worker_key_table(rows: &[impl Cells]) -> Result<WorkerKeyTable, StoreError> {
    let mut table = WorkerKeyTable::default();
    for row in rows {
        if let (Some(hash), Some(key)) = (hash(row, "hash")?, worker_key(row)?.good()) {
            table.insert(hash, key);
        }
    }
    Ok(table)
}

pub(crate) fn admin_token(row: &impl Cells) -> Result<AdminTokenInfo, StoreError> {
    Ok(AdminTokenInfo {
        id: row.text("id")?.into(),
        description: row.optional_text("description")?,
        created_at: time(row, "created_at")?,
        revoked_at: moment(row, "revoked_at")?,
    })
}

pub(crate) fn admin_token_table(rows: &[impl Cells]) -> Result<AdminTokenTable, StoreError> {
    let mut table = AdminTokenTable::default();
    for row in rows {
        if let Some(hash) = hash(row, "hash")? {
            table.insert(hash, admin_token(row)?.id);
        }
    }
    Ok(table)
}

pub(crate) fn incident(row: &impl Cells) -> Result<Incident, StoreError> {
    Ok(Incident {
        id: row.text("id")?,
        at: time(row, "at")?,
        request: row.text("request")?.into(),
        key: row.optional_text("key")?.map(Into::into),
        team: row.optional_text("team")?.map(Into::into),
        model: row.optional_text("model")?.map(Into::into),
        policy: row.text("policy")?.into(),
        policy_version: row.text("policy_version")?,
        action: row.text("action")?,
        severity: row.text("severity")?,
        findings: from_json(row, "findings")?,
    })
}

/// The time that belongs to an alert's state.
pub(crate) fn alert_time(state: State) -> Option<Timestamp> {
    match state {
        State::Open => None,
        State::Acknowledged { at } => Some(at),
        State::Muted { until } => Some(until),
    }
}

pub(crate) fn alert(row: &impl Cells) -> Result<Alert, StoreError> {
    let state = match (row.text("state")?.as_str(), moment(row, "state_time")?) {
        ("open", None) => State::Open,
        ("acknowledged", Some(at)) => State::Acknowledged { at },
        ("muted", Some(until)) => State::Muted { until },
        _ => return Err(backend("a stored alert is in a state that does not exist")),
    };
    Ok(Alert {
        id: row.text("id")?,
        at: time(row, "at")?,
        rule: named(row, "rule", Rule::of)?,
        severity: named(row, "severity", Severity::of)?,
        key: row.optional_text("key")?.map(Into::into),
        team: row.optional_text("team")?.map(Into::into),
        source: row.optional_text("source")?,
        title: row.text("title")?,
        explanation: row.text("explanation")?,
        state,
    })
}

pub(crate) fn delivery(row: &impl Cells) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        alert: row.text("alert")?,
        webhook: row.text("webhook")?,
        progress: named(row, "progress", Progress::of)?,
        attempts: u32::try_from(row.number("attempts")?).unwrap_or(u32::MAX),
        next_at: time(row, "next_at")?,
        error: row.optional_text("error")?,
    })
}

/// How many deliveries (`n`) of a webhook have come how far.
pub(crate) fn count_of_deliveries(row: &impl Cells) -> Result<(String, Progress, u64), StoreError> {
    let count = u64::try_from(row.number("n")?).unwrap_or(0);
    Ok((row.text("webhook")?, named(row, "progress", Progress::of)?, count))
}

/// A column that holds one of a few words.
fn named<T>(row: &impl Cells, column: &str, of: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
    let unknown = || backend(format!("the column `{column}` holds a word that this version does not know"));
    of(&row.text(column)?).ok_or_else(unknown)
}
