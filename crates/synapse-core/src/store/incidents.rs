//! Incidents: kept, listed, and in time forgotten.

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::{
    id::{KeyId, TeamName},
    incident::Incident,
};

/// Which incidents are asked for; what is absent does not matter.
#[derive(Clone, Debug, Default)]
pub struct IncidentFilter {
    /// At this time or later.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// Of this team.
    pub team: Option<TeamName>,
    /// Of this key.
    pub key: Option<KeyId>,
    /// With this strongest action.
    pub action: Option<String>,
    /// With this worst severity.
    pub severity: Option<String>,
    /// With a finding of this category.
    pub category: Option<String>,
    /// Older than this incident: the last of the page before.
    pub before: Option<String>,
}

/// Incidents that last.
#[async_trait]
pub trait IncidentStore: Send + Sync {
    /// Keeps these; one that is there already stays as it is.
    async fn add_incidents(&self, incidents: &[Incident]) -> Result<(), StoreError>;
    /// Those that fit, newest first, `limit` at most.
    async fn list_incidents(&self, filter: &IncidentFilter, limit: u32) -> Result<Vec<Incident>, StoreError>;
    /// One of them.
    async fn get_incident(&self, id: &str) -> Result<Incident, StoreError>;
    /// Forgets those of before `end`; gives how many.
    async fn forget_incidents(&self, end: Timestamp) -> Result<u64, StoreError>;
}
