//! Counters of days and months that outlast a restart, for a gateway that counts by itself.

use async_trait::async_trait;

use super::StoreError;
use crate::ledger::{Measure, Scope};

/// A counter of a calendar span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Whose it is.
    pub scope: Scope,
    /// What it counts.
    pub measure: Measure,
    /// Which day or month.
    pub bucket: u64,
    /// What was counted.
    pub used: u64,
}

/// Keeps counters.
#[async_trait]
pub trait CounterStore: Send + Sync {
    /// All that were saved, those of days and months gone by included.
    async fn load_counters(&self) -> Result<Vec<Counter>, StoreError>;

    /// Saves these, in place of what was saved of the same scope and measure.
    async fn save_counters(&self, counters: &[Counter]) -> Result<(), StoreError>;

    /// Forgets this measure's counters of buckets before `bucket`.
    async fn forget_counters(&self, measure: Measure, bucket: u64) -> Result<(), StoreError>;
}
