//! Administrators' tokens: made, listed, revoked. Secrets are hashes here.

use std::collections::HashMap;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use super::{StoreError, check_text};
use crate::{
    id::KeyId,
    key::{AdminToken, SecretHash},
};

/// An administrator's token's record, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdminTokenInfo {
    /// The public half of the token.
    pub id: KeyId,
    /// Whose it is, or what it is for.
    pub description: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// Every token that is good, by the hash of its secret.
pub type AdminTokenTable = HashMap<SecretHash, KeyId>;

/// The rules for what is said of a token.
///
/// # Errors
/// [`StoreError::Invalid`].
pub fn check_description(description: Option<&str>) -> Result<(), StoreError> {
    description.map_or(Ok(()), |text| check_text("the description of an administrator's token", text))
}

/// Administrators' tokens that last.
#[async_trait]
pub trait AdminTokenStore: Send + Sync {
    /// Stores a token's hash; the description must pass [`check_description`].
    async fn create_admin_token(
        &self,
        token: &AdminToken,
        description: Option<&str>,
    ) -> Result<AdminTokenInfo, StoreError>;
    /// All tokens, newest first; revoked ones too.
    async fn list_admin_tokens(&self) -> Result<Vec<AdminTokenInfo>, StoreError>;
    /// Ends a token for good. Revoking twice keeps the first time.
    async fn revoke_admin_token(&self, id: &KeyId) -> Result<AdminTokenInfo, StoreError>;
    /// All tokens that are good. [`change_mark`](super::keys::KeyStore::change_mark) tells when to ask again.
    async fn load_admin_tokens(&self) -> Result<AdminTokenTable, StoreError>;
}
