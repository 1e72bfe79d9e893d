//! The section `dlp` as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// The search for sensitive data in prompts and replies.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Dlp {
    /// Whether there is one at all.
    pub(in crate::config) enabled: bool,
    /// Policies, besides the built-in `cloud` and `on_prem`. One with such a name stands in its place.
    pub(in crate::config) policies: Vec<DlpPolicy>,
}

impl Default for Dlp {
    fn default() -> Self {
        Self { enabled: true, policies: Vec::new() }
    }
}

/// What happens to which findings.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct DlpPolicy {
    /// Its name. Keys and classes of data refer to it.
    #[schemars(required, length(min = 1, max = 128))]
    pub(in crate::config) name: Option<String>,
    /// What holds where the policy itself says nothing.
    #[serde(default)]
    pub(in crate::config) base: DlpBase,
    /// What happens to findings in prompts: by category (`us_ssn`), group (`national_id`), own rule
    /// (`custom:codename`), or `*` for all of them; the narrower one counts.
    #[serde(default)]
    pub(in crate::config) prompt: BTreeMap<String, DlpAction>,
    /// What happens to findings in replies.
    #[serde(default)]
    pub(in crate::config) reply: BTreeMap<String, DlpAction>,
    /// What stands in place of what is redacted.
    #[serde(default)]
    pub(in crate::config) placeholder: DlpPlaceholder,
    /// Hosts that links in replies may carry data to; `*.example.com` stands for all below.
    #[serde(default)]
    pub(in crate::config) allowed_hosts: Vec<String>,
    /// Rules of your own. Each has exactly one of `pattern`, `words`, `words_file` and `hashes_file`.
    #[serde(default)]
    pub(in crate::config) rules: Vec<DlpRule>,
}

/// What a policy begins with.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum DlpBase {
    /// The built-in policy for traffic that may leave the house.
    #[default]
    Cloud,
    /// The built-in policy for traffic that stays.
    OnPrem,
    /// Nothing is looked for but what the policy names.
    None,
}

/// What happens to a finding.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum DlpAction {
    /// Nothing.
    Allow,
    /// It passes, and is an incident.
    Alert,
    /// A placeholder stands in its place.
    Redact,
    /// The request is refused, or the reply ends.
    Block,
}

/// What stands in place of what is redacted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum DlpPlaceholder {
    /// The category: `[REDACTED:email]`.
    #[default]
    Label,
    /// A name for the value: `[EMAIL_1]`. In the reply, the value comes back.
    Tokenise,
}

/// A rule of your own.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct DlpRule {
    /// Its name; the category is `custom:NAME`.
    #[schemars(required, length(min = 1, max = 64))]
    pub(in crate::config) name: Option<String>,
    /// A regular expression, without look-around and back-references: it takes linear time.
    #[serde(default)]
    #[schemars(length(min = 1, max = 4096))]
    pub(in crate::config) pattern: Option<String>,
    /// Texts that the rule must find something in; a pattern needs at least one.
    #[serde(default)]
    pub(in crate::config) examples: Vec<String>,
    /// Texts that the rule must find nothing in; a pattern needs at least one.
    #[serde(default)]
    pub(in crate::config) counter_examples: Vec<String>,
    /// Words or phrases.
    #[serde(default)]
    pub(in crate::config) words: Vec<String>,
    /// A file with a word or phrase on each line.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(in crate::config) words_file: Option<String>,
    /// A file of values that no one can read from it, as `synapse dlp hash` writes them.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(in crate::config) hashes_file: Option<String>,
    /// The key that `hashes_file` was written with.
    #[serde(default, skip_serializing)]
    pub(in crate::config) hash_key: Option<Secret>,
    /// Whether letters of the other case count as different.
    #[serde(default)]
    pub(in crate::config) case_sensitive: bool,
    /// How bad a leak is.
    #[serde(default)]
    pub(in crate::config) severity: DlpSeverity,
    /// Whether replies are held back whole for this rule, which may then find more than 512 bytes.
    #[serde(default)]
    pub(in crate::config) buffer: bool,
}

/// How bad a leak is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum DlpSeverity {
    /// Public in many cases.
    Low,
    /// Personal.
    Medium,
    /// Identifies a person, an account or a secret of the house.
    #[default]
    High,
    /// Opens something.
    Critical,
}
