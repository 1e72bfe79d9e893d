//! Who may do what: a key as the request path sees it, and the table of all keys.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use crate::{
    error::{Fault, FaultKind},
    glob::Glob,
    id::{KeyId, TeamName},
    key::{ApiKey, SecretHash},
};

/// A key and what it is bound to.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The key's public identifier.
    pub key: KeyId,
    /// The team that the key belongs to.
    pub team: TeamName,
    /// The models it may use.
    pub models: Vec<Glob>,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// Why it does not work now, apart from expiry.
    pub state: KeyState,
}

/// Whether a key works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It works.
    Active,
    /// It was revoked for good.
    Revoked,
    /// It, or its team, is switched off.
    Disabled,
}

impl Principal {
    /// Whether the key may use `model`.
    pub fn allows_model(&self, model: &str) -> bool {
        self.models.iter().any(|glob| glob.matches(model))
    }

    /// The fault for a key that does not work at `now`, if it does not.
    ///
    /// # Errors
    /// `key_revoked`, `key_disabled` or `key_expired`.
    pub fn check_usable(&self, now: Timestamp) -> Result<(), Fault> {
        let (kind, message) = match self.state {
            KeyState::Revoked => (FaultKind::KeyRevoked, "This API key was revoked. Ask for a new one."),
            KeyState::Disabled => (FaultKind::KeyDisabled, "This API key is disabled."),
            KeyState::Active if self.expires_at.is_some_and(|end| end <= now) => {
                (FaultKind::KeyExpired, "This API key has expired. Ask for a new one.")
            }
            KeyState::Active => return Ok(()),
        };
        Err(Fault::new(kind, message))
    }
}

/// Every key, for look-ups without a database. Immutable: a change makes a new table.
#[derive(Debug, Default)]
pub struct KeyTable {
    issued: HashMap<KeyId, Issued>,
    fixed: HashMap<SecretHash, Arc<Principal>>,
}

#[derive(Debug)]
struct Issued {
    principal: Arc<Principal>,
    /// Live secrets with the end of their overlap; the newest has none.
    secrets: Vec<(SecretHash, Option<Timestamp>)>,
}

impl KeyTable {
    /// Adds an issued key (`syn_…`) with the hashes of its live secrets; while a rotation overlaps,
    /// the old secret has an end.
    pub fn insert_issued(&mut self, principal: Principal, secrets: Vec<(SecretHash, Option<Timestamp>)>) {
        self.issued.insert(principal.key.clone(), Issued { principal: principal.into(), secrets });
    }

    /// Adds a key of the operator's own spelling (`--api-auth-key`, a LiteLLM master key).
    pub fn insert_fixed(&mut self, principal: Principal, secret: SecretHash) {
        self.fixed.insert(secret, principal.into());
    }

    /// Whether there is any key at all.
    pub fn is_empty(&self) -> bool {
        self.issued.is_empty() && self.fixed.is_empty()
    }

    /// Finds the key that `secret` opens.
    ///
    /// # Errors
    /// `invalid_api_key` for anything unknown; what a known key lacks (time, activity) is said only
    /// to a caller who has the right secret.
    pub fn authenticate(&self, secret: &str, now: Timestamp) -> Result<Arc<Principal>, Fault> {
        let unknown = || Fault::new(FaultKind::InvalidApiKey, "Incorrect API key provided.");
        let hash = SecretHash::of(secret);
        let principal = match ApiKey::parse(secret) {
            Some(key) => {
                let entry = self.issued.get(key.id()).ok_or_else(unknown)?;
                let live = |(known, end): &(SecretHash, Option<Timestamp>)| {
                    known.matches(&hash) && end.is_none_or(|end| now < end)
                };
                if !entry.secrets.iter().any(live) {
                    return Err(unknown());
                }
                &entry.principal
            }
            None => self.fixed.get(&hash).ok_or_else(unknown)?,
        };
        principal.check_usable(now)?;
        Ok(Arc::clone(principal))
    }
}
