//! Keys: made, listed, changed, rotated, revoked. Secrets are hashes here.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use super::StoreError;
use crate::{
    glob::Glob,
    id::{KeyId, TeamName},
    key::ApiKey,
    principal::KeyTable,
};

/// A key's record, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// The public half of the key.
    pub id: KeyId,
    /// The team that it belongs to.
    pub team: TeamName,
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
}

/// What a new key is bound to.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The team that it belongs to; it must exist.
    pub team: TeamName,
    /// What it is for.
    pub name: Option<String>,
    /// The models it may use; at least one pattern.
    pub models: Vec<Glob>,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
}

/// A change of a key: the outer `None` leaves a field alone, the inner one clears it.
#[derive(Clone, Debug, Default)]
pub struct KeyChange {
    /// What it is for.
    pub name: Option<Option<String>>,
    /// The models it may use.
    pub models: Option<Vec<Glob>>,
    /// When it stops working.
    pub expires_at: Option<Option<Timestamp>>,
    /// Whether it is switched off.
    pub disabled: Option<bool>,
}

/// Keys that last.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Stores a key's hash and its binding.
    async fn create_key(&self, key: &ApiKey, new: &NewKey) -> Result<KeyInfo, StoreError>;
    /// All keys, of one team where given, newest first; revoked ones too.
    async fn list_keys(&self, team: Option<&TeamName>) -> Result<Vec<KeyInfo>, StoreError>;
    /// One key.
    async fn get_key(&self, id: &KeyId) -> Result<KeyInfo, StoreError>;
    /// Changes a key's binding.
    async fn update_key(&self, id: &KeyId, change: &KeyChange) -> Result<KeyInfo, StoreError>;
    /// Gives the key a new secret (`key` carries the same id); the old one works for `overlap` more.
    async fn rotate_key(&self, key: &ApiKey, overlap: Duration) -> Result<KeyInfo, StoreError>;
    /// Ends a key for good. Revoking twice keeps the first time.
    async fn revoke_key(&self, id: &KeyId) -> Result<KeyInfo, StoreError>;
    /// Everything the request path needs to know of keys.
    async fn load_key_table(&self) -> Result<KeyTable, StoreError>;
    /// A number that grows or changes whenever the stored keys or teams may have changed, cheap
    /// enough to ask for four times a second.
    async fn change_mark(&self) -> Result<i64, StoreError>;
}
