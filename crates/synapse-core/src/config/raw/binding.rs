//! What a key of the configuration decides for its callers, as it is written; and the classes of data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Locality, Secret};

/// What a key decides for its callers, whatever their requests say. What is left out does not bind.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(in crate::config) struct Binding {
    /// The operations that are allowed, such as `chat` or `embeddings`. Default: all.
    pub(in crate::config) operations: Option<Vec<String>>,
    /// The system prompt that stands in place of any that callers send.
    #[serde(skip_serializing)]
    pub(in crate::config) system_prompt: Option<Secret>,
    /// How sensitive the traffic is: one of `data_classes`. Default: the most sensitive.
    #[schemars(length(min = 1, max = 64))]
    pub(in crate::config) data_class: Option<String>,
    /// The policy for sensitive data in prompts and replies. Default: the class's.
    #[schemars(length(min = 1, max = 64))]
    pub(in crate::config) dlp_policy: Option<String>,
    /// What happens to images, audio and files, which cannot be searched for sensitive data.
    pub(in crate::config) unscannable: Unscannable,
    /// Networks (CIDR) or addresses that callers may come from. Default: any.
    pub(in crate::config) networks: Vec<String>,
    /// Bounds of what a request may ask of an engine.
    pub(in crate::config) parameters: Parameters,
    /// What may be spent.
    pub(in crate::config) limits: KeyLimits,
}

/// What happens to what cannot be searched.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Unscannable {
    /// It goes wherever the class of the request may go.
    Allow,
    /// It goes to backends on premises only.
    #[default]
    OnPrem,
    /// The request is refused.
    Block,
}

/// Bounds of what a request may ask of an engine.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Parameters {
    /// The most tokens of a reply; requests that ask for more, or do not say, get this number.
    #[schemars(range(min = 1, max = 4_294_967_295_i64))]
    pub(in crate::config) max_tokens: Option<u32>,
    /// The least temperature; requests below it get this one.
    #[schemars(range(min = 0, max = 2))]
    pub(in crate::config) min_temperature: Option<f64>,
    /// The greatest temperature; requests above it get this one.
    #[schemars(range(min = 0, max = 2))]
    pub(in crate::config) max_temperature: Option<f64>,
    /// Whether tools may be offered to the model.
    pub(in crate::config) tools: Option<bool>,
}

/// What may be spent.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct KeyLimits {
    /// Requests within a sliding window.
    pub(in crate::config) requests: Option<Requests>,
    /// Tokens of prompts and replies within a sliding minute.
    #[schemars(range(min = 1, max = 9_007_199_254_740_992_i64))]
    pub(in crate::config) tokens_per_minute: Option<u64>,
    /// Tokens of prompts and replies within a day (UTC).
    #[schemars(range(min = 1, max = 9_007_199_254_740_992_i64))]
    pub(in crate::config) tokens_per_day: Option<u64>,
    /// Requests at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) concurrent: Option<u32>,
    /// Money within a day (UTC), such as `12.5`.
    pub(in crate::config) cost_per_day: Option<String>,
    /// Money within a calendar month (UTC).
    pub(in crate::config) cost_per_month: Option<String>,
}

fn a_minute() -> u32 {
    60
}

/// Requests within a sliding window.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Requests {
    /// How many.
    #[schemars(required, range(min = 1, max = 4_294_967_295_i64))]
    pub(in crate::config) count: Option<u32>,
    /// Within how many seconds.
    #[serde(default = "a_minute")]
    #[schemars(range(min = 1, max = 86_400))]
    pub(in crate::config) window_s: u32,
}

/// A class of data: how sensitive traffic is.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct DataClass {
    /// Its name, as keys and the header `x-synapse-data-class` name it.
    #[schemars(required, length(min = 1, max = 64))]
    pub(in crate::config) name: Option<String>,
    /// The backends that its traffic may go to: `on_prem`, `cloud`, or both.
    #[schemars(required, length(min = 1))]
    pub(in crate::config) localities: Option<Vec<Locality>>,
    /// The policy for sensitive data in its traffic, where a key names none.
    #[schemars(required, length(min = 1, max = 64))]
    pub(in crate::config) dlp_policy: Option<String>,
}

/// Values for what a request leaves open.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Defaults {
    /// How freely words are chosen.
    #[schemars(range(min = 0, max = 2))]
    pub(in crate::config) temperature: Option<f64>,
    /// Only words that together have this probability are chosen from.
    #[schemars(range(min = 0, max = 1))]
    pub(in crate::config) top_p: Option<f64>,
    /// Only so many words are chosen from, where the engine knows that.
    #[schemars(range(min = -1, max = 1_000_000))]
    pub(in crate::config) top_k: Option<i64>,
    /// Words that have appeared become less likely.
    #[schemars(range(min = -2, max = 2))]
    pub(in crate::config) presence_penalty: Option<f64>,
    /// The same, the more often they have.
    #[schemars(range(min = -2, max = 2))]
    pub(in crate::config) frequency_penalty: Option<f64>,
    /// The most tokens of a reply.
    #[schemars(range(min = 1, max = 4_294_967_295_i64))]
    pub(in crate::config) max_tokens: Option<u32>,
    /// Where the same request is to have the same reply.
    #[schemars(range(min = 0, max = 9_007_199_254_740_992_i64))]
    pub(in crate::config) seed: Option<i64>,
}
