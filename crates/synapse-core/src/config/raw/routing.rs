//! The section `routing` as it is written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a request finds its backend.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Routing {
    /// How deployments of the same order share the load.
    pub(in crate::config) strategy: Strategy,
    /// What requests of one conversation share. `prefix` keeps them at the backend that has their
    /// beginning in its cache, unless it is busier than its peers; the strategy decides the rest.
    pub(in crate::config) affinity: Affinity,
    /// Attempts after the first.
    #[schemars(range(min = 0, max = 10))]
    pub(in crate::config) retries: u32,
    /// Retries as a share of live traffic.
    #[schemars(range(min = 0, max = 1))]
    pub(in crate::config) retry_budget: f64,
    /// When a backend is left alone.
    pub(in crate::config) breaker: Breaker,
    /// The next `order` serves when a request would wait for longer than this at the one before, in
    /// milliseconds.
    #[schemars(range(min = 0, max = 86_400_000))]
    pub(in crate::config) spill_after_ms: u32,
    /// How long a backend that takes up work again needs to get its full share, in seconds.
    #[schemars(range(min = 0, max = 3600))]
    pub(in crate::config) slow_start_s: f64,
    /// Where requests wait for a backend that is at its `max_in_flight`.
    pub(in crate::config) queue: Queue,
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            retries: 2,
            retry_budget: 0.2,
            breaker: Breaker::default(),
            affinity: Affinity::default(),
            spill_after_ms: 2000,
            slow_start_s: 10.0,
            queue: Queue::default(),
        }
    }
}

/// Where requests wait for a backend.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Queue {
    /// Requests that may wait per backend; 0 refuses at once. Keys take turns.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) max_waiting: u32,
    /// How long a request may wait, in seconds. One that would have to wait longer is refused at once.
    #[schemars(range(min = 0.001, max = 86_400))]
    pub(in crate::config) max_wait_s: f64,
    /// What the bodies of all waiting requests may take together, in MiB.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub(in crate::config) max_mb: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self { max_waiting: 512, max_wait_s: 30.0, max_mb: 256 }
    }
}

/// How deployments of the same order share the load.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Strategy {
    /// The less loaded of two picked at random.
    #[default]
    LeastLoaded,
    /// In turn.
    RoundRobin,
    /// At random by weight.
    Weighted,
    /// The one that has begun to answer fastest lately.
    Latency,
    /// As `least_loaded`, with `affinity: prefix`.
    Prefix,
}

/// What keeps requests at one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Affinity {
    /// Nothing.
    #[default]
    None,
    /// The beginning of the prompt.
    Prefix,
}

/// When a backend is left alone, and for how long.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Breaker {
    /// Consecutive failures that open it.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) failures: u32,
    /// How long it stays open before a probe, in seconds, at most: it begins with one second, and each
    /// failed probe doubles that.
    #[schemars(range(min = 0.001, max = 86_400))]
    pub(in crate::config) open_s: f64,
    /// It opens, too, when of at least 20 requests of the last 30 s a smaller share than this went
    /// well; but what has no alternative is still used then. 0 switches that off.
    #[schemars(range(min = 0, max = 1))]
    pub(in crate::config) success_rate: f64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 5, open_s: 10.0, success_rate: 0.5 }
    }
}
