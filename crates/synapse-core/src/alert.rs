//! Alerts: something about the use of the gateway is unusual. They name keys, teams, models and networks, and
//! never a text.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{KeyId, TeamName};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$doc_of:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$doc_of])* #[serde(rename = $word)] $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in the configuration, in databases, metrics and messages.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The one of that name.
            pub fn of(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }
    };
}

words! {
    /// What is looked for.
    Rule {
        /// A key or a team asks far more than it does at this hour.
        UsageSpike = "usage_spike",
        /// Many requests outside working hours.
        OffHours = "off_hours",
        /// Policies for sensitive data stop one request of a key after the other.
        DlpBlocks = "dlp_blocks",
        /// A key asks for a model that it has not asked for before.
        NewModel = "new_model",
        /// A key is used from a network that it was not used from before.
        NewSource = "new_source",
        /// Many keys from one network are refused.
        RefusedKeys = "refused_keys",
        /// Much of what a team asks fails.
        Errors = "errors",
    }
}

words! {
    /// How bad it may be.
    Severity {
        /// Good to know.
        Low = "low",
        /// To be looked at.
        Medium = "medium",
        /// To be looked at soon.
        High = "high",
        /// To be looked at now.
        Critical = "critical",
    }
}

/// What has become of an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum State {
    /// Nobody has seen to it.
    #[default]
    Open,
    /// Somebody has.
    Acknowledged {
        /// When.
        at: Timestamp,
    },
    /// It and its like are not to be told of for a while.
    Muted {
        /// Until when.
        until: Timestamp,
    },
}

impl State {
    /// The names that states have.
    pub const NAMES: [&'static str; 3] = ["open", "acknowledged", "muted"];

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged { .. } => "acknowledged",
            Self::Muted { .. } => "muted",
        }
    }
}

/// Something unusual.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Its identifier: `alr_…`.
    pub id: String,
    /// When it was noticed.
    pub at: Timestamp,
    /// What was looked for.
    pub rule: Rule,
    /// How bad it may be.
    pub severity: Severity,
    /// The key that it is about.
    pub key: Option<KeyId>,
    /// The team that it is about, or the key's.
    pub team: Option<TeamName>,
    /// The network that it is about.
    pub source: Option<String>,
    /// In a few words.
    pub title: String,
    /// In numbers: what was seen, what is usual, where the threshold lies.
    pub explanation: String,
    /// What has become of it.
    pub state: State,
}

impl Alert {
    /// A new identifier; later ones sort after earlier ones.
    pub fn new_id() -> String {
        format!("alr_{}", Uuid::now_v7().simple())
    }

    /// What it is about, as one text: of two alerts with the same rule and subject, one mutes the other.
    pub fn subject(&self) -> String {
        match (&self.source, &self.key, &self.team) {
            (Some(source), None, _) => format!("source {source}"),
            (_, Some(key), _) => format!("key {key}"),
            (None, None, Some(team)) => format!("team {team}"),
            (None, None, None) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_what_they_name() {
        for rule in Rule::ALL {
            assert_eq!(Rule::of(rule.name()), Some(*rule));
        }
        assert_eq!(Severity::of("severe"), None);
        assert!(Severity::Critical > Severity::Low);
    }
}
