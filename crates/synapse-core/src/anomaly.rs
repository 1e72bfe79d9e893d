//! Noticing unusual use: what keys, teams and networks do is compared with what they usually do. Nothing here
//! looks at a clock: time comes with what is observed, so that a fortnight can be replayed in a moment. What is
//! remembered has bounds, and can be saved and taken up again.

mod clock;
mod hours;
mod known;
mod recent;
mod rules;
mod subjects;
#[cfg(test)]
mod tests;
mod text;
mod who;

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    alert::{Alert, Rule, State},
    audit::{Outcome, RequestRecord},
    config::snapshot::Anomaly,
    id::{KeyId, ModelName, TeamName},
    network::Network,
};
use clock::Clock;
use hours::Hours;
use known::Known;
use recent::{Recent, Rolling};
use subjects::Subjects;
use who::Who;

/// The shape of what is saved; what has another one is not taken up.
const VERSION: u32 = 1;
/// Keys, teams and networks that are remembered; those that have been quiet longest give way.
const MOST_KEYS: usize = 4096;
const MOST_TEAMS: usize = 1024;
const MOST_SOURCES: usize = 4096;
/// How many times as many refused keys are a storm where each network stays below the threshold.
const MANY: u32 = 4;

/// What matters of one closed request.
#[derive(Clone, Debug)]
pub struct Observation {
    /// When it closed.
    pub at: Timestamp,
    /// Whose it was.
    pub key: Option<KeyId>,
    /// The key's team.
    pub team: Option<TeamName>,
    /// The model, where the key may use it.
    pub model: Option<ModelName>,
    /// Where the caller is.
    pub address: Option<IpAddr>,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether nobody was asked for a key.
    pub is_open: bool,
    /// Whether a key was given that is not good.
    pub is_refused_key: bool,
    /// Tokens of prompt and reply.
    pub tokens: u64,
}

impl From<&RequestRecord> for Observation {
    fn from(record: &RequestRecord) -> Self {
        const REFUSED: [&str; 4] = ["invalid_api_key", "key_revoked", "key_expired", "key_disabled"];
        let target = &record.target;
        let model = target.pattern.as_ref().or(target.model.as_ref());
        Self {
            // Records come in the order in which they close.
            at: record.at.saturating_add(record.duration).unwrap_or(record.at),
            key: record.actor.key.clone(),
            team: record.actor.team.clone(),
            model: model.filter(|_| record.outcome != Outcome::Rejected).cloned(),
            address: record.actor.address,
            outcome: record.outcome,
            // Without a good key, a request gets no further than this only where none is needed.
            is_open: record.actor.key.is_none() && target.model.is_some(),
            is_refused_key: record.code.is_some_and(|code| REFUSED.contains(&code)),
            tokens: record.usage.map_or(0, |usage| usage.total()),
        }
    }
}

/// When a rule last told of a subject.
type Told = BTreeMap<Rule, Timestamp>;

/// What is remembered of a key, or of a network where nobody needs a key.
#[derive(Debug, Default, Serialize, Deserialize)]
struct KeyHistory {
    first: Timestamp,
    hours: Hours,
    models: Known<String>,
    networks: Known<Network>,
    told: Told,
    #[serde(skip)]
    off_hours: Recent,
    #[serde(skip)]
    blocks: Recent,
}

/// What is remembered of a team, or of everybody.
#[derive(Debug, Default, Serialize, Deserialize)]
struct TeamHistory {
    hours: Hours,
    told: Told,
    #[serde(skip)]
    failures: Recent,
    #[serde(skip)]
    requests: Rolling,
}

/// What is remembered of a network.
#[derive(Debug, Default)]
struct SourceHistory {
    refused: Recent,
    told: Told,
}

/// What is saved.
#[derive(Serialize, Deserialize)]
struct Saved<K, T> {
    version: u32,
    keys: K,
    teams: T,
}

/// Why what was saved is not taken up.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is of another version of Synapse.
    #[error("it is of version {0}, and not of {VERSION}")]
    Version(u32),
    /// It cannot be read.
    #[error("it cannot be read")]
    Damaged(#[from] serde_json::Error),
}

/// Looks at one closed request after the other.
#[derive(Debug)]
pub struct Detector {
    config: Anomaly,
    clock: Clock,
    keys: Subjects<KeyHistory>,
    teams: Subjects<TeamHistory>,
    sources: Subjects<SourceHistory>,
    /// All networks that nothing is told of by themselves.
    many_sources: SourceHistory,
    /// The first hour that is seen whole: from then on, silence means that nothing was asked.
    awake_since: i64,
    latest: Timestamp,
}

impl Detector {
    /// One that knows nothing yet.
    pub fn new(config: Anomaly, now: Timestamp) -> Self {
        Self {
            clock: Clock::new(config.calendar.clone()),
            config,
            keys: Subjects::new(MOST_KEYS),
            teams: Subjects::new(MOST_TEAMS),
            sources: Subjects::new(MOST_SOURCES),
            many_sources: SourceHistory::default(),
            awake_since: clock::hour_of(now) + 1,
            latest: now,
        }
    }

    /// Goes by another configuration from now on.
    pub fn reconfigure(&mut self, config: Anomaly) {
        if config.calendar != self.config.calendar {
            self.clock = Clock::new(config.calendar.clone());
        }
        self.config = config;
    }

    /// What it has learnt, as a text.
    ///
    /// # Errors
    /// When it cannot be written, which it always can.
    pub fn save(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&Saved { version: VERSION, keys: &self.keys, teams: &self.teams })
    }

    /// Takes up what another one has learnt.
    ///
    /// # Errors
    /// [`Unreadable`]; then it goes on with what it knows.
    pub fn restore(&mut self, saved: &str) -> Result<(), Unreadable> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_str(saved)?;
        if head.version != VERSION {
            return Err(Unreadable::Version(head.version));
        }
        let saved: Saved<Subjects<KeyHistory>, Subjects<TeamHistory>> = serde_json::from_str(saved)?;
        self.keys = saved.keys.within(MOST_KEYS);
        self.teams = saved.teams.within(MOST_TEAMS);
        Ok(())
    }

    /// Looks at a request; gives what is to be told of.
    pub fn observe(&mut self, seen: &Observation) -> Vec<Alert> {
        let mut alerts = Vec::new();
        if !self.config.enabled {
            return alerts;
        }
        let at = self.in_order(seen.at);
        if seen.is_refused_key {
            self.refused(seen, at, &mut alerts);
        }
        if let Some((caller, together)) = Who::of(seen) {
            let spiked = self.caller(&caller, seen, at, &mut alerts);
            if let Some(together) = together {
                self.together(&together, seen, at, spiked, &mut alerts);
            }
        }
        alerts
    }

    /// Requests of several connections come a little out of order, and clocks are put right.
    fn in_order(&mut self, at: Timestamp) -> Timestamp {
        const SMALL: i64 = 3600;
        let behind = self.latest.as_second() - at.as_second();
        if !(0..SMALL).contains(&behind) {
            self.latest = at;
        }
        self.latest
    }
}

/// Tells of something at `at`, unless the same was told lately; `alert` is only made where it is.
fn tell(
    told: &mut Told,
    config: &Anomaly,
    rule: Rule,
    at: Timestamp,
    alert: impl FnOnce() -> Alert,
) -> Option<Alert> {
    let cool_down = config.watch(rule).cool_down;
    if told.get(&rule).is_some_and(|last| is_within(*last, at, cool_down)) {
        return None;
    }
    told.insert(rule, at);
    Some(alert())
}

fn is_within(then: Timestamp, now: Timestamp, span: std::time::Duration) -> bool {
    let passed = now.as_microsecond().saturating_sub(then.as_microsecond());
    u128::try_from(passed).is_ok_and(|passed| passed < span.as_micros())
}

/// An alert with everything but its subject.
fn alert(config: &Anomaly, rule: Rule, at: Timestamp, title: String, explanation: String) -> Alert {
    Alert {
        id: Alert::new_id(),
        at,
        rule,
        severity: config.watch(rule).severity,
        key: None,
        team: None,
        source: None,
        title,
        explanation,
        state: State::Open,
    }
}
