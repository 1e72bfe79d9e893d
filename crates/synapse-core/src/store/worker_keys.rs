//! Workers' keys: made, listed, revoked. Secrets are hashes here.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use super::{StoreError, check_group, check_text};
use crate::{
    id::{GroupName, KeyId},
    key::WorkerSecret,
    worker::{WorkerKey, WorkerKeyTable},
};

/// A worker key's record, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerKeyInfo {
    /// The public half of the key.
    pub id: KeyId,
    /// The group that its workers join.
    pub group: GroupName,
    /// What it is for, in the operator's words.
    pub description: Option<String>,
    /// Whether its workers' engines may be outside the house.
    pub allows_cloud: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl WorkerKeyInfo {
    /// What the tunnel makes of this key, unless it was revoked.
    pub fn good(self) -> Option<WorkerKey> {
        let Self { id, group, allows_cloud, revoked_at, .. } = self;
        revoked_at.is_none().then_some(WorkerKey { id, group, allows_cloud })
    }
}

/// What a new worker key allows.
#[derive(Clone, Debug, Default)]
pub struct NewWorkerKey {
    /// The group that its workers join.
    pub group: GroupName,
    /// What it is for.
    pub description: Option<String>,
    /// Whether its workers' engines may be outside the house.
    pub allows_cloud: bool,
}

impl NewWorkerKey {
    /// The rules for what a key says.
    ///
    /// # Errors
    /// [`StoreError::Invalid`].
    pub fn check(&self) -> Result<(), StoreError> {
        check_group(&self.group)?;
        self.description.as_deref().map_or(Ok(()), |text| check_text("the description of a worker key", text))
    }
}

/// Workers' keys that last.
#[async_trait]
pub trait WorkerKeyStore: Send + Sync {
    /// Stores a key's hash and what it allows, which must pass [`NewWorkerKey::check`].
    async fn create_worker_key(
        &self,
        key: &WorkerSecret,
        new: &NewWorkerKey,
    ) -> Result<WorkerKeyInfo, StoreError>;
    /// All keys, of one group where given, newest first; revoked ones too.
    async fn list_worker_keys(&self, group: Option<&GroupName>) -> Result<Vec<WorkerKeyInfo>, StoreError>;
    /// One key.
    async fn get_worker_key(&self, id: &KeyId) -> Result<WorkerKeyInfo, StoreError>;
    /// Ends a key for good. Revoking twice keeps the first time.
    async fn revoke_worker_key(&self, id: &KeyId) -> Result<WorkerKeyInfo, StoreError>;
    /// All keys that are good. [`change_mark`](super::keys::KeyStore::change_mark) tells when to ask again.
    async fn load_worker_key_table(&self) -> Result<WorkerKeyTable, StoreError>;
}
