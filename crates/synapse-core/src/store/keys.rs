//! Keys: made, listed, changed, rotated, revoked. Secrets are hashes here.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use super::{StoreError, check_group, check_name};
use crate::{
    binding::{Binding, BindingChange, SystemPrompt},
    glob::Glob,
    id::{GroupName, KeyId, TeamName},
    key::ApiKey,
    limits::Limits,
    principal::{KeyState, KeyTable, Principal},
};

/// A key's record, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// The public half of the key.
    pub id: KeyId,
    /// The team that it belongs to.
    pub team: TeamName,
    /// The group whose backends and workers it reaches.
    pub group: GroupName,
    /// What it is for, in the operator's words.
    pub name: Option<String>,
    /// The models it may use.
    pub models: Vec<Glob>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Whether it is switched off.
    pub disabled: bool,
    /// Until when the secret before the last rotation works.
    pub previous_secret_until: Option<Timestamp>,
    /// What else it decides for its callers.
    pub binding: Arc<Binding>,
}

impl KeyInfo {
    /// Revocation is final: a revoked key can be neither changed nor rotated.
    ///
    /// # Errors
    /// [`StoreError::Conflict`].
    pub fn check_not_revoked(&self) -> Result<(), StoreError> {
        match self.revoked_at {
            Some(_) => {
                Err(StoreError::Conflict(format!("key {} was revoked for good; create a new one", self.id)))
            }
            None => Ok(()),
        }
    }

    /// What the request path makes of this key, with what is known of its team.
    pub fn principal(&self, team_disabled: bool, team_limits: Arc<Limits>) -> Principal {
        let state = match self.revoked_at {
            Some(_) => KeyState::Revoked,
            None if self.disabled || team_disabled => KeyState::Disabled,
            None => KeyState::Active,
        };
        Principal {
            key: self.id.clone(),
            team: self.team.clone(),
            group: self.group.clone(),
            models: self.models.clone(),
            binding: Arc::clone(&self.binding),
            team_limits,
            expires_at: self.expires_at,
            state,
        }
    }
}

/// What a new key is bound to.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The team that it belongs to; it must exist.
    pub team: TeamName,
    /// The group whose backends and workers it reaches.
    pub group: GroupName,
    /// What it is for.
    pub name: Option<String>,
    /// The models it may use; at least one pattern.
    pub models: Vec<Glob>,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// What else it decides for its callers. Its prompt is the first version, whatever it says.
    pub binding: Binding,
}

impl NewKey {
    /// The rules for what a key is bound to.
    ///
    /// # Errors
    /// [`StoreError::Invalid`].
    pub fn check(&self) -> Result<(), StoreError> {
        check_group(&self.group)?;
        self.name.as_deref().map_or(Ok(()), |name| check_name("key", name))?;
        check_models(&self.models)?;
        Ok(self.binding.check()?)
    }
}

/// A change of a key: the outer `None` leaves a field alone, the inner one clears it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyChange {
    /// What it is for.
    pub name: Option<Option<String>>,
    /// The models it may use.
    pub models: Option<Vec<Glob>>,
    /// When it stops working.
    pub expires_at: Option<Option<Timestamp>>,
    /// Whether it is switched off.
    pub disabled: Option<bool>,
    /// What else it decides for its callers.
    pub binding: BindingChange,
}

impl KeyChange {
    /// `info` as it is after the change. `latest_prompt` is the latest version that its system prompt ever had.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] for a revoked key, [`StoreError::Invalid`] for a value that no key may have.
    pub fn apply(&self, mut info: KeyInfo, latest_prompt: u32) -> Result<KeyInfo, StoreError> {
        info.check_not_revoked()?;
        if let Some(name) = &self.name {
            name.as_deref().map_or(Ok(()), |name| check_name("key", name))?;
            info.name.clone_from(name);
        }
        if let Some(models) = &self.models {
            check_models(models)?;
            info.models.clone_from(models);
        }
        info.expires_at = self.expires_at.unwrap_or(info.expires_at);
        info.disabled = self.disabled.unwrap_or(info.disabled);
        let binding = self.binding.apply(Arc::unwrap_or_clone(info.binding), latest_prompt);
        binding.check()?;
        info.binding = Arc::new(binding);
        Ok(info)
    }
}

/// A system prompt that a key has, or once had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PromptVersion {
    /// The prompt.
    #[serde(flatten)]
    pub prompt: SystemPrompt,
    /// Since when it was in force.
    pub created_at: Timestamp,
}

fn check_models(models: &[Glob]) -> Result<(), StoreError> {
    if models.is_empty() || models.iter().any(|glob| glob.as_str().is_empty()) {
        let rule =
            "a key needs at least one model pattern, and none may be empty; `*` stands for every model";
        return Err(StoreError::Invalid(rule.into()));
    }
    Ok(())
}

/// Keys that last.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Stores a key's hash and its binding, which must pass [`NewKey::check`].
    async fn create_key(&self, key: &ApiKey, new: &NewKey) -> Result<KeyInfo, StoreError>;
    /// All keys, of one team where given, newest first; revoked ones too.
    async fn list_keys(&self, team: Option<&TeamName>) -> Result<Vec<KeyInfo>, StoreError>;
    /// One key.
    async fn get_key(&self, id: &KeyId) -> Result<KeyInfo, StoreError>;
    /// Changes a key's binding as [`KeyChange::apply`] says.
    async fn update_key(&self, id: &KeyId, change: &KeyChange) -> Result<KeyInfo, StoreError>;
    /// Gives the key a new secret (`key` carries the same id); the old one works for `overlap` more,
    /// and anything older no longer, so that a second rotation without overlap leaves one secret.
    async fn rotate_key(&self, key: &ApiKey, overlap: Duration) -> Result<KeyInfo, StoreError>;
    /// Every system prompt that a key has had, newest first.
    async fn list_prompts(&self, id: &KeyId) -> Result<Vec<PromptVersion>, StoreError>;
    /// Ends a key for good. Revoking twice keeps the first time.
    async fn revoke_key(&self, id: &KeyId) -> Result<KeyInfo, StoreError>;
    /// Everything the request path needs to know of keys.
    async fn load_key_table(&self) -> Result<KeyTable, StoreError>;
    /// A number that grows or changes whenever the stored keys or teams may have changed, cheap
    /// enough to ask for four times a second.
    async fn change_mark(&self) -> Result<i64, StoreError>;
    /// Returns when it is time to ask for the mark: at once when a change is told, and otherwise within a second.
    async fn next_look(&self);
}
