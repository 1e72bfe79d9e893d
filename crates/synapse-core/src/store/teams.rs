//! Teams: the identities that keys belong to.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use super::{StoreError, check_name};
use crate::id::TeamName;

/// A team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Team {
    /// Its name, unique.
    pub name: TeamName,
    /// When it was made.
    pub created_at: Timestamp,
    /// While disabled, none of its keys works.
    pub disabled: bool,
}

impl Team {
    /// The rule for a team's name.
    ///
    /// # Errors
    /// [`StoreError::Invalid`].
    pub fn check_name(name: &TeamName) -> Result<(), StoreError> {
        check_name("team", name.as_str())
    }
}

/// Teams that last.
#[async_trait]
pub trait TeamStore: Send + Sync {
    /// Makes a team. The name must pass [`Team::check_name`].
    async fn create_team(&self, name: &TeamName) -> Result<Team, StoreError>;
    /// All teams by name.
    async fn list_teams(&self) -> Result<Vec<Team>, StoreError>;
    /// One team.
    async fn get_team(&self, name: &TeamName) -> Result<Team, StoreError>;
    /// Switches a team off or on.
    async fn set_team_disabled(&self, name: &TeamName, disabled: bool) -> Result<Team, StoreError>;
}
