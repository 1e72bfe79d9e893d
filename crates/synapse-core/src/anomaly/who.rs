//! Whom something is about: a key and its team, or, where nobody needs a key, a network and everybody.

use std::fmt;

use super::Observation;
use crate::{
    alert::Alert,
    id::{KeyId, TeamName},
    network::Network,
};

/// What stands for all callers where nobody needs a key.
const EVERYBODY: &str = "everybody";

/// One caller, or some together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Key(KeyId, Option<TeamName>),
    Network(String),
    Team(TeamName),
    Everybody,
}

impl Who {
    /// Who asked, alone and together with others.
    pub(super) fn of(seen: &Observation) -> Option<(Self, Option<Self>)> {
        match &seen.key {
            Some(key) => {
                let team = seen.team.clone();
                Some((Self::Key(key.clone(), team.clone()), team.map(Self::Team)))
            }
            None if seen.is_open => {
                let network = Network::from(seen.address?).to_string();
                Some((Self::Network(network), Some(Self::Everybody)))
            }
            None => None,
        }
    }

    /// What its history is called.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Key(key, _) => key.as_str(),
            Self::Network(network) => network,
            Self::Team(team) => team.as_str(),
            // No team is called so.
            Self::Everybody => "",
        }
    }

    /// An alert about it.
    pub(super) fn on(&self, alert: Alert) -> Alert {
        match self {
            Self::Key(key, team) => Alert { key: Some(key.clone()), team: team.clone(), ..alert },
            Self::Network(network) => Alert { source: Some(network.clone()), ..alert },
            Self::Team(team) => Alert { team: Some(team.clone()), ..alert },
            Self::Everybody => Alert { source: Some(EVERYBODY.to_owned()), ..alert },
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key, _) => write!(f, "key {key}"),
            Self::Network(network) => write!(f, "network {network}"),
            Self::Team(team) => write!(f, "team {team}"),
            Self::Everybody => f.write_str(EVERYBODY),
        }
    }
}
