//! How long the audit log is kept: what takes the place of old entries, and what must not be put away.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::StoreError;

/// A signed statement in place of the first entries of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnchor {
    /// The chain.
    pub chain: Uuid,
    /// The place that the chain begins at for those who trust it.
    pub next: u64,
    /// When it was made.
    pub at: Timestamp,
    /// The signed note.
    pub note: String,
}

/// What a chain has in months that have gone by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aged {
    /// The chain.
    pub chain: Uuid,
    /// The highest place there.
    pub last: u64,
    /// The lowest place in later months, if there is any. Where a clock was set back, it may lie before.
    pub left: Option<u64>,
}

/// An order to keep what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// What it is named by.
    pub id: String,
    /// Entries from this time on are kept; all of them, where none is given.
    pub since: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// When it was given.
    pub at: Timestamp,
    /// When it was lifted; it is in force until then.
    pub released_at: Option<Timestamp>,
}

/// An audit log whose old months can be put away.
#[async_trait]
pub trait RetentionStore: Send + Sync {
    /// The chains that have entries in months before `month`, which is the beginning of one, in UTC.
    async fn aged_chains(&self, month: Timestamp) -> Result<Vec<Aged>, StoreError>;
    /// Keeps an anchor; one of that chain and place that is there already stays as it is.
    async fn add_anchor(&self, anchor: &StoredAnchor) -> Result<(), StoreError>;
    /// All anchors, chain by chain, the furthest of each first. Whether they are good is not said.
    async fn anchors(&self) -> Result<Vec<StoredAnchor>, StoreError>;
    /// Takes out all months before `month`, which is the beginning of one, in UTC; gives how many entries that were.
    /// Whether they may go is the caller's business.
    async fn retire_months(&self, month: Timestamp) -> Result<u64, StoreError>;
    /// Keeps a new hold.
    async fn add_hold(&self, hold: &Hold) -> Result<(), StoreError>;
    /// All holds, released ones too, newest first.
    async fn holds(&self) -> Result<Vec<Hold>, StoreError>;
    /// Lifts a hold; the first time counts.
    async fn release_hold(&self, id: &str) -> Result<Hold, StoreError>;
}
