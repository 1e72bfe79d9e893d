//! Teams: the identities that keys belong to.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use super::{StoreError, check_name};
use crate::{binding::LimitsChange, id::TeamName, limits::Limits};

/// A team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Team {
    /// Its name, unique.
    pub name: TeamName,
    /// When it was made.
    pub created_at: Timestamp,
    /// While disabled, none of its keys works.
    pub disabled: bool,
    /// What all its keys may spend together.
    pub limits: Limits,
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

/// A change of a team; what is `None` is left alone.
#[derive(Clone, Debug, Default)]
pub struct TeamChange {
    /// Whether it is switched off.
    pub disabled: Option<bool>,
    /// What its keys may spend together.
    pub limits: LimitsChange,
}

impl TeamChange {
    /// `team` as it is after the change.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a limit that no team may have.
    pub fn apply(&self, mut team: Team) -> Result<Team, StoreError> {
        team.disabled = self.disabled.unwrap_or(team.disabled);
        team.limits = self.limits.apply(team.limits);
        team.limits.check()?;
        Ok(team)
    }
}

/// Teams that last.
#[async_trait]
pub trait TeamStore: Send + Sync {
    /// Makes a team. The name must pass [`Team::check_name`], and the limits their own check.
    async fn create_team(&self, name: &TeamName, limits: &Limits) -> Result<Team, StoreError>;
    /// All teams by name.
    async fn list_teams(&self) -> Result<Vec<Team>, StoreError>;
    /// One team.
    async fn get_team(&self, name: &TeamName) -> Result<Team, StoreError>;
    /// Changes a team as [`TeamChange::apply`] says.
    async fn update_team(&self, name: &TeamName, change: &TeamChange) -> Result<Team, StoreError>;
}
