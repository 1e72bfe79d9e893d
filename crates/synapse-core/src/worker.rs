//! Workers' keys: who may connect an engine to the gateway, and what follows from that.

use std::{collections::HashMap, sync::Arc};

use crate::{
    id::{GroupName, KeyId},
    key::SecretHash,
};

/// What a worker's key allows. Group and rights come from this record, never from the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerKey {
    /// The key's name in records.
    pub id: KeyId,
    /// The group whose keys reach the worker.
    pub group: GroupName,
    /// Whether the worker's engine may be outside the house.
    pub allows_cloud: bool,
}

/// Every worker's key that is good, for look-ups without a database. Immutable: a change makes a new table.
#[derive(Debug, Default)]
pub struct WorkerKeyTable(HashMap<SecretHash, Arc<WorkerKey>>);

impl WorkerKeyTable {
    /// Adds a key.
    pub fn insert(&mut self, secret: SecretHash, key: WorkerKey) {
        self.0.insert(secret, key.into());
    }

    /// The key that this secret is of.
    pub fn find(&self, secret: &SecretHash) -> Option<&Arc<WorkerKey>> {
        self.0.get(secret)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
