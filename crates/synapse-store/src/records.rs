//! The records that the rows of either database make.

use std::{collections::HashMap, sync::Arc};

use synapse_core::{
    binding::SystemPrompt,
    id::TeamName,
    incident::Incident,
    limits::Limits,
    principal::KeyTable,
    store::{
        StoreError,
        admin_tokens::{AdminTokenInfo, AdminTokenTable},
        keys::{KeyInfo, PromptVersion},
        teams::Team,
        worker_keys::WorkerKeyInfo,
    },
    worker::WorkerKeyTable,
};

use crate::rows::{Cells, backend, from_json, hash, moment, time};

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
