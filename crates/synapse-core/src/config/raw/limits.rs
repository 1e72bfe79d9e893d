//! The section `limits`, and the limits of a static key, as they are written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How limits are counted.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Limits {
    /// What happens to requests with limits while Redis cannot be reached.
    pub(in crate::config) on_redis_failure: OnRedisFailure,
    /// How many tokens of reply are reserved for a request that does not say how many it wants.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) assumed_output_tokens: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { on_redis_failure: OnRedisFailure::default(), assumed_output_tokens: 1024 }
    }
}

/// What happens while Redis cannot be reached.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum OnRedisFailure {
    /// They are refused with 503.
    #[default]
    Closed,
    /// Each gateway counts for itself.
    Open,
}

/// What a key may spend.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct KeyLimits {
    /// Requests within a sliding window.
    pub(in crate::config) requests: Option<RequestLimit>,
    /// Tokens of prompts and replies within a sliding minute.
    #[schemars(range(min = 0, max = 1_000_000_000_000_u64))]
    pub(in crate::config) tokens_per_minute: Option<u64>,
    /// The same within a day (UTC).
    #[schemars(range(min = 0, max = 1_000_000_000_000_u64))]
    pub(in crate::config) tokens_per_day: Option<u64>,
    /// Requests at once.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) concurrent: Option<u32>,
    /// Money within a day (UTC), in `prices.currency`.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) cost_per_day: Option<f64>,
    /// Money within a calendar month (UTC).
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) cost_per_month: Option<f64>,
}

/// So many requests within a stretch of time.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RequestLimit {
    /// How many.
    #[schemars(required, range(min = 0, max = 1_000_000_000))]
    pub(in crate::config) count: Option<u32>,
    /// Within how many seconds.
    #[serde(default = "a_minute")]
    #[schemars(range(min = 1, max = 2_678_400))]
    pub(in crate::config) window_s: u32,
}

fn a_minute() -> u32 {
    60
}
