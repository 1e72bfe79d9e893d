//! The section `limits` as it is written.

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
