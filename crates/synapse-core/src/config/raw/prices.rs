//! The section `prices` as it is written, which is also what a price file holds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What models cost.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Prices {
    /// What amounts are in. A label: nothing is converted.
    #[schemars(length(min = 1, max = 16))]
    pub(in crate::config) currency: String,
    /// A file with a section `models` like the one here, in place of the list of well-known providers'
    /// prices that Synapse ships with. Like that, it is for backends in the cloud only.
    #[schemars(length(min = 1))]
    pub(in crate::config) file: Option<String>,
    /// Prices; the first that matches counts, wherever the backend is, and they come before those of the file.
    pub(in crate::config) models: Vec<ModelPrice>,
}

impl Default for Prices {
    fn default() -> Self {
        Self { currency: "USD".to_owned(), file: None, models: Vec::new() }
    }
}

/// A price.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ModelPrice {
    /// A glob over public names, and over the names that backends have for their models.
    #[schemars(required, length(min = 1, max = 256))]
    pub(in crate::config) model: Option<String>,
    /// For a million tokens of prompts.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) input_per_million: f64,
    /// For a million tokens of replies.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) output_per_million: f64,
    /// For a million tokens of prompts that the engine had cached. Default: as any other.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) cached_input_per_million: Option<f64>,
    /// For each request.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) per_request: f64,
    /// For each second from sending a request to an engine to its last byte: what a machine of your
    /// own costs.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) per_gpu_second: f64,
}
