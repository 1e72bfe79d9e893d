//! What counts as unusual, and where alerts go, as it is configured.

use std::time::Duration;

use super::{OutsideUrl, SigningSecret};
use crate::alert::{Rule, Severity};
use jiff::{
    civil::{Date, Weekday},
    tz::TimeZone,
};

/// What counts as unusual.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    /// Whether anything is looked for.
    pub enabled: bool,
    /// When people work.
    pub calendar: Calendar,
    /// How long a key is known before what is new about it counts.
    pub learning: Duration,
    /// More than a key or a team asks at this hour.
    pub usage_spike: UsageSpike,
    /// Requests of a key outside working hours.
    pub off_hours: Repeated,
    /// Requests of a key that policies stopped.
    pub dlp_blocks: Repeated,
    /// A model that a key did not ask for before.
    pub new_model: Watch,
    /// A network that a key was not used from before.
    pub new_source: Watch,
    /// Refused keys from one network.
    pub refused_keys: Repeated,
    /// Failures of a team's requests.
    pub errors: Repeated,
    /// The share of a team's requests that must fail besides.
    pub error_share: f64,
}

/// What every rule has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watch {
    /// Whether it is looked for.
    pub enabled: bool,
    /// How bad it is.
    pub severity: Severity,
    /// How long the same is not told again of the same subject.
    pub cool_down: Duration,
}

/// Something that is unusual when it happens often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repeated {
    /// Whether, how bad, how often told.
    pub watch: Watch,
    /// How often.
    pub count: u32,
    /// Within how long.
    pub window: Duration,
}

/// More than is usual at an hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UsageSpike {
    /// Whether, how bad, how often told.
    pub watch: Watch,
    /// How many deviations above the mean.
    pub deviations: f64,
    /// How many times the mean.
    pub factor: f64,
    /// Fewer requests within an hour are no spike.
    pub min_requests: u32,
    /// Fewer tokens within an hour are no spike.
    pub min_tokens: u64,
}

impl Anomaly {
    /// What every rule has, by its name.
    pub fn watch(&self, rule: Rule) -> Watch {
        match rule {
            Rule::UsageSpike => self.usage_spike.watch,
            Rule::OffHours => self.off_hours.watch,
            Rule::DlpBlocks => self.dlp_blocks.watch,
            Rule::NewModel => self.new_model,
            Rule::NewSource => self.new_source,
            Rule::RefusedKeys => self.refused_keys.watch,
            Rule::Errors => self.errors.watch,
        }
    }
}

/// When people work.
#[derive(Clone, Debug, PartialEq)]
pub struct Calendar {
    /// Where.
    pub time_zone: TimeZone,
    /// From which minute of a day until before which.
    pub minutes: (u16, u16),
    /// On which days of a week.
    pub days: Vec<Weekday>,
    /// Days on which nobody works.
    pub holidays: Vec<Date>,
}

impl Calendar {
    /// Whether people work on a day.
    pub fn is_working_day(&self, date: Date) -> bool {
        self.days.contains(&date.weekday()) && !self.holidays.contains(&date)
    }
}

/// Where alerts go.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// Its name, unique.
    pub name: String,
    /// Where it listens.
    pub url: OutsideUrl,
    /// What messages are signed with; chat services need none.
    pub secret: Option<SigningSecret>,
    /// What messages look like.
    pub format: WebhookFormat,
    /// Which rules it is told of; of all, where none is named.
    pub rules: Vec<Rule>,
    /// The least severity that it is told of.
    pub min_severity: Severity,
    /// Whether it may be at a private address.
    pub allow_private: bool,
}

impl Webhook {
    /// Whether it is told of such alerts.
    pub fn wants(&self, rule: Rule, severity: Severity) -> bool {
        severity >= self.min_severity && (self.rules.is_empty() || self.rules.contains(&rule))
    }
}

/// What messages look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookFormat {
    /// JSON of our own, signed.
    Generic,
    /// Slack's incoming webhooks.
    Slack,
    /// Microsoft Teams' workflows.
    Teams,
}

impl WebhookFormat {
    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Slack => "slack",
            Self::Teams => "teams",
        }
    }
}
