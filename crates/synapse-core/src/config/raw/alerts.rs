//! The sections `anomaly` and `alerts` as they are written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// What counts as unusual. Nothing of it stands in the way of a request: alerts tell people.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Anomaly {
    /// Whether anything is looked for.
    pub(in crate::config) enabled: bool,
    /// Where people work, such as `Europe/Berlin`.
    #[schemars(length(min = 1))]
    pub(in crate::config) time_zone: String,
    /// When people work.
    pub(in crate::config) working_hours: WorkingHours,
    /// Days on which nobody works, such as `2026-12-25`.
    pub(in crate::config) holidays: Vec<String>,
    /// How many days a key is known before what is new about it counts.
    #[schemars(range(min = 0, max = 365))]
    pub(in crate::config) learning_days: u32,
    /// What is looked for.
    pub(in crate::config) rules: Rules,
}

impl Default for Anomaly {
    fn default() -> Self {
        Self {
            enabled: true,
            time_zone: "UTC".to_owned(),
            working_hours: WorkingHours::default(),
            holidays: Vec::new(),
            learning_days: 7,
            rules: Rules::default(),
        }
    }
}

/// When people work.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct WorkingHours {
    /// From then on, such as `07:30`.
    pub(in crate::config) from: String,
    /// Until then; `24:00` is the end of the day.
    pub(in crate::config) to: String,
    /// On these days.
    pub(in crate::config) days: Vec<Day>,
}

impl Default for WorkingHours {
    fn default() -> Self {
        let days = vec![Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri];
        Self { from: "07:00".to_owned(), to: "20:00".to_owned(), days }
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// How bad something may be.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum AlertSeverity {
    /// Good to know.
    Low,
    /// To be looked at.
    Medium,
    /// To be looked at soon.
    High,
    /// To be looked at now.
    Critical,
}

/// What is looked for.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Rules {
    /// A key or a team asks far more than it does at this hour, in requests or in tokens.
    pub(in crate::config) usage_spike: UsageSpike,
    /// Many requests of a key outside working hours.
    pub(in crate::config) off_hours: OffHours,
    /// Policies for sensitive data stop one request of a key after the other.
    pub(in crate::config) dlp_blocks: DlpBlocks,
    /// A key asks for a model that it has not asked for before.
    pub(in crate::config) new_model: NewModel,
    /// A key is used from a network that it was not used from before.
    pub(in crate::config) new_source: NewSource,
    /// Many keys from one network are refused.
    pub(in crate::config) refused_keys: RefusedKeys,
    /// Much of what a team asks fails.
    pub(in crate::config) errors: Errors,
}

/// Declares a rule: what every rule has, and what it alone has.
macro_rules! rule {
    (
        $(#[$doc:meta])* $name:ident, $severity:ident, $cool_down:literal
        $(, $(#[$meta:meta])* $field:ident: $type:ty = $value:expr)*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Deserialize, Serialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub(in crate::config) struct $name {
            /// Whether it is looked for.
            pub(in crate::config) enabled: bool,
            /// How bad it is.
            pub(in crate::config) severity: AlertSeverity,
            /// How many minutes pass before the same is told again of the same subject.
            #[schemars(range(min = 0, max = 100_000))]
            pub(in crate::config) cool_down_m: f64,
            $($(#[$meta])* pub(in crate::config) $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { enabled: true, severity: AlertSeverity::$severity, cool_down_m: $cool_down, $($field: $value,)* }
            }
        }
    };
}

rule!(
    /// A key or a team asks far more than it does at this hour.
    UsageSpike, High, 360.0,
    /// How many deviations above the usual hour.
    #[schemars(range(min = 0, max = 100))]
    deviations: f64 = 4.0,
    /// How many times the usual hour.
    #[schemars(range(min = 1, max = 1000))]
    factor: f64 = 3.0,
    /// Fewer requests within an hour are no spike.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    min_requests: u32 = 100,
    /// Fewer tokens within an hour are no spike.
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    min_tokens: u64 = 200_000
);
rule!(
    /// Many requests of a key outside working hours.
    OffHours, Medium, 720.0,
    /// How many.
    #[schemars(range(min = 1, max = 1000))]
    count: u32 = 30,
    /// Within how many minutes.
    #[schemars(range(min = 0.01, max = 1440))]
    window_m: f64 = 15.0
);
rule!(
    /// Policies for sensitive data stop one request of a key after the other.
    DlpBlocks, High, 60.0,
    /// How many.
    #[schemars(range(min = 1, max = 1000))]
    count: u32 = 5,
    /// Within how many minutes.
    #[schemars(range(min = 0.01, max = 1440))]
    window_m: f64 = 10.0
);
rule!(
    /// A key asks for a model that it has not asked for before.
    NewModel, Low, 60.0
);
rule!(
    /// A key is used from a network that it was not used from before.
    NewSource, Medium, 60.0
);
rule!(
    /// Many keys from one network are refused.
    RefusedKeys, High, 60.0,
    /// How many.
    #[schemars(range(min = 1, max = 1000))]
    count: u32 = 50,
    /// Within how many minutes.
    #[schemars(range(min = 0.01, max = 1440))]
    window_m: f64 = 5.0
);
rule!(
    /// Much of what a team asks fails.
    Errors, Medium, 60.0,
    /// How many failures.
    #[schemars(range(min = 1, max = 1000))]
    count: u32 = 20,
    /// Within how many minutes.
    #[schemars(range(min = 0.01, max = 1440))]
    window_m: f64 = 5.0,
    /// The share of the requests in that time that must fail besides.
    #[schemars(range(min = 0, max = 1))]
    share: f64 = 0.5
);

/// Where alerts go.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Alerts {
    /// Who is told of alerts over HTTP.
    pub(in crate::config) webhooks: Vec<Webhook>,
}

/// Somebody to tell of alerts.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Webhook {
    /// Its name, unique.
    #[schemars(required, length(min = 1, max = 64))]
    pub(in crate::config) name: Option<String>,
    /// Where it listens: `https://…`, or `http://…` beside `allow_private`.
    #[serde(skip_serializing)]
    #[schemars(required)]
    pub(in crate::config) url: Option<Secret>,
    /// What messages are signed with: `whsec_` and Base64 of 24 to 64 bytes. `generic` needs one.
    #[serde(default, skip_serializing)]
    pub(in crate::config) secret: Option<Secret>,
    /// What messages look like.
    #[serde(default)]
    pub(in crate::config) format: WebhookFormat,
    /// Which rules it is told of. Default: all.
    #[serde(default)]
    pub(in crate::config) rules: Vec<RuleName>,
    /// The least severity that it is told of.
    #[serde(default = "least")]
    pub(in crate::config) min_severity: AlertSeverity,
    /// Whether it may be at a private address, and without TLS.
    #[serde(default)]
    pub(in crate::config) allow_private: bool,
}

fn least() -> AlertSeverity {
    AlertSeverity::Low
}

/// What messages look like.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum WebhookFormat {
    /// JSON as in the Standard Webhooks specification, signed.
    #[default]
    Generic,
    /// Slack's incoming webhooks.
    Slack,
    /// Microsoft Teams' workflows.
    Teams,
}

/// The name of a rule.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum RuleName {
    /// Far more than usual.
    UsageSpike,
    /// Outside working hours.
    OffHours,
    /// Stopped by policies.
    DlpBlocks,
    /// A new model.
    NewModel,
    /// A new network.
    NewSource,
    /// Refused keys.
    RefusedKeys,
    /// Failures.
    Errors,
}
