//! Alerts, what is owed to webhooks for them, and what the detector has learnt.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::{
    alert::{Alert, Rule, Severity},
    id::{KeyId, TeamName},
};

/// Which alerts are asked for; what is absent does not matter.
#[derive(Clone, Debug, Default)]
pub struct AlertFilter {
    /// At this time or later.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// Of this team.
    pub team: Option<TeamName>,
    /// Of this key.
    pub key: Option<KeyId>,
    /// Of this rule.
    pub rule: Option<Rule>,
    /// Of this severity.
    pub severity: Option<Severity>,
    /// In this state, by its name.
    pub state: Option<String>,
    /// Older than this alert: the last of the page before.
    pub before: Option<String>,
}

/// How far a delivery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// To be tried, or tried again.
    Pending,
    /// The receiver has it.
    Delivered,
    /// Given up.
    Dead,
}

impl Progress {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Dead];

    /// The name in databases.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }

    /// The one of that name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|progress| progress.name() == name)
    }
}

/// An alert on its way to a webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// The alert's identifier.
    pub alert: String,
    /// The webhook's name.
    pub webhook: String,
    /// How far it has come.
    pub progress: Progress,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next, while it is pending.
    pub next_at: Timestamp,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

impl Delivery {
    /// The same after an attempt.
    #[must_use]
    pub fn after(&self, attempt: &Attempt) -> Self {
        let (progress, next_at, error) = match attempt {
            Attempt::Delivered => (Progress::Delivered, self.next_at, None),
            Attempt::Failed { again_at, error } => (Progress::Pending, *again_at, Some(error.clone())),
            Attempt::Dead { error } => (Progress::Dead, self.next_at, Some(error.clone())),
        };
        Self { progress, next_at, error, attempts: self.attempts.saturating_add(1), ..self.clone() }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The receiver has it.
    Delivered,
    /// It failed, and is to be tried again at this time.
    Failed {
        /// When.
        again_at: Timestamp,
        /// Why.
        error: String,
    },
    /// It failed, and is given up.
    Dead {
        /// Why.
        error: String,
    },
}

/// Alerts that last.
#[async_trait]
pub trait AlertStore: Send + Sync {
    /// Keeps an alert together with what is owed to these webhooks for it; one that is there already stays as it
    /// is. Where one of the same rule and subject is muted, it is kept as muted, and nothing is owed. Gives it as it
    /// is kept.
    async fn add_alert(&self, alert: &Alert, webhooks: &[&str]) -> Result<Alert, StoreError>;
    /// Those that fit, newest first, `limit` at most.
    async fn list_alerts(&self, filter: &AlertFilter, limit: u32) -> Result<Vec<Alert>, StoreError>;
    /// One of them.
    async fn get_alert(&self, id: &str) -> Result<Alert, StoreError>;
    /// Somebody has seen to it. The first time counts.
    async fn acknowledge_alert(&self, id: &str, at: Timestamp) -> Result<Alert, StoreError>;
    /// It and its like are not told of until then.
    async fn mute_alert(&self, id: &str, until: Timestamp) -> Result<Alert, StoreError>;
    /// Forgets those of before `end`, with their deliveries; gives how many.
    async fn forget_alerts(&self, end: Timestamp) -> Result<u64, StoreError>;

    /// Takes deliveries to this webhook that are due at `now`, the worst alerts first, `limit` at most. Nobody else
    /// is given them before `until`; if their attempts are not recorded by then, they are due again.
    async fn claim_deliveries(
        &self,
        webhook: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<(Delivery, Alert)>, StoreError>;
    /// Records how an attempt at a delivery ended.
    async fn record_attempt(&self, delivery: &Delivery, attempt: &Attempt) -> Result<(), StoreError>;
    /// Gives up pending deliveries of alerts from before `end`, such as those to webhooks that are not configured any
    /// more; gives how many.
    async fn abandon_deliveries(&self, end: Timestamp) -> Result<u64, StoreError>;
    /// What became of an alert on its ways.
    async fn list_deliveries(&self, alert: &str) -> Result<Vec<Delivery>, StoreError>;
    /// How many deliveries of each webhook have come how far.
    async fn count_deliveries(&self) -> Result<Vec<(String, Progress, u64)>, StoreError>;

    /// Keeps what the detector of a gateway has learnt, in place of what it had kept.
    async fn save_baselines(&self, instance: &str, state: &str) -> Result<(), StoreError>;
    /// What it kept.
    async fn load_baselines(&self, instance: &str) -> Result<Option<String>, StoreError>;
}
