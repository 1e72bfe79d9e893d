//! The audit log in a database: appended to, searched, checked; never changed.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::StoreError;
use crate::{
    audit::{
        entry::{Digest, EntryKind, Sealed},
        stretch::Stretch,
    },
    id::{KeyId, TeamName},
};

/// How far a chain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last entry's place.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
}

/// A signed statement of what a chain had up to one of its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// The chain.
    pub chain: Uuid,
    /// The last entry that it covers.
    pub seq: u64,
    /// When it was made.
    pub at: Timestamp,
    /// The signed note, as it was given to every sink.
    pub note: String,
}

/// Which entries are asked for; what is absent does not matter.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// At this time or later.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// Of these kinds; where none is named, of all but those that only say that a request was accepted.
    pub kinds: Vec<EntryKind>,
    /// Those as well, where no kind is named. Most indices leave them out: a request is found by what closes it.
    pub accepted: bool,
    /// Of this request.
    pub request: Option<String>,
    /// Of this team.
    pub team: Option<TeamName>,
    /// Of this key.
    pub key: Option<KeyId>,
    /// By this person or token.
    pub actor: Option<String>,
    /// With this outcome.
    pub outcome: Option<String>,
    /// Of requests for this model.
    pub model: Option<String>,
    /// With this incident.
    pub incident: Option<String>,
    /// With this digest, of a request or a reply.
    pub digest: Option<Digest>,
    /// Older than this entry: the last one of the page before, by its time and identifier.
    pub before: Option<(Timestamp, Uuid)>,
}

/// An audit log that lasts.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Appends entries, all or none of each month. One that stands in its place already is passed over, so that what
    /// is sent twice stands there once; where another entry has the place of one, none is appended.
    async fn append_entries(&self, entries: Arc<Stretch>) -> Result<(), StoreError>;
    /// Every chain that there is, with its last entry.
    async fn audit_heads(&self) -> Result<Vec<(Uuid, Head)>, StoreError>;
    /// Entries of a chain from place `from` on, in order, `limit` at most; more only where several claim the last
    /// place. What cannot be read as an entry is told by its place, so that verification can name it.
    async fn read_chain(&self, chain: Uuid, from: u64, limit: u32) -> Result<Stretch, StoreError>;
    /// Entries that fit, newest first, `limit` at most.
    async fn list_entries(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<Sealed>, StoreError>;
    /// Keeps a checkpoint; one of that chain and place that is there already stays as it is.
    async fn add_checkpoint(&self, checkpoint: &StoredCheckpoint) -> Result<(), StoreError>;
    /// The checkpoints of a chain that cover more than the entries before `from`, in order, `limit` at most.
    async fn list_checkpoints(
        &self,
        chain: Uuid,
        from: u64,
        limit: u32,
    ) -> Result<Vec<StoredCheckpoint>, StoreError>;
    /// How many months, of this one and those to come, have no place of their own, as far as is known: their entries
    /// are where those of no month are.
    fn months_without_place(&self) -> u32 {
        0
    }
}
