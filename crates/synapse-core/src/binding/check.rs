//! What no binding may hold: found before it is stored or put in force.

use super::{Binding, ParameterCaps, SystemPrompt};
use crate::limits::{Limits, RequestLimit};

/// The longest system prompt, in bytes.
const MAX_PROMPT: usize = 64 * 1024;
/// The most networks of one key.
const MAX_NETWORKS: usize = 256;
/// The longest window of requests, in seconds: a day.
const MAX_WINDOW: u32 = 86_400;
/// The temperatures that engines know.
const TEMPERATURES: std::ops::RangeInclusive<f64> = 0.0..=2.0;

/// A value that no binding may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct Unfit {
    /// The field, as a path in the binding.
    pub field: &'static str,
    /// The rule it breaks, as the end of a sentence that begins with the field.
    pub rule: String,
}

/// Says what is wrong with `field` unless it is `fine`.
fn rule(field: &'static str, fine: bool, rule: impl Into<String>) -> Result<(), Unfit> {
    if fine { Ok(()) } else { Err(Unfit { field, rule: rule.into() }) }
}

const NAME_RULE: &str = "has 1 to 64 characters: ASCII letters, digits, `_`, `-` and `.`";

impl Binding {
    /// Checks every value.
    ///
    /// # Errors
    /// The first that no binding may have.
    pub fn check(&self) -> Result<(), Unfit> {
        let names_some = self.operations.as_ref().is_none_or(|list| !list.is_empty());
        rule("operations", names_some, "must name at least one operation; clear it to allow all")?;
        self.system_prompt.as_deref().map_or(Ok(()), SystemPrompt::check)?;
        rule("data_class", self.data_class.as_ref().is_none_or(|name| name.is_well_formed()), NAME_RULE)?;
        rule("dlp_policy", self.dlp_policy.as_ref().is_none_or(|name| name.is_well_formed()), NAME_RULE)?;
        let few = format!("must be at most {MAX_NETWORKS} networks");
        rule("networks", self.networks.len() <= MAX_NETWORKS, few)?;
        self.parameters.check()?;
        self.limits.check()
    }
}

impl SystemPrompt {
    /// Checks the text; the message does not repeat it.
    ///
    /// # Errors
    /// When it is blank or too long.
    pub fn check(&self) -> Result<(), Unfit> {
        let fine = !self.text.trim().is_empty() && self.text.len() <= MAX_PROMPT;
        rule("system_prompt", fine, "has 1 byte to 64 KiB, and is not all spaces; clear it to bind none")
    }
}

impl ParameterCaps {
    fn check(&self) -> Result<(), Unfit> {
        rule("parameters.max_tokens", self.max_tokens != Some(0), "must be at least 1")?;
        let known = |bound: Option<f64>| bound.is_none_or(|at| TEMPERATURES.contains(&at));
        let range = "must be between 0 and 2";
        rule("parameters.min_temperature", known(self.min_temperature), range)?;
        rule("parameters.max_temperature", known(self.max_temperature), range)?;
        let ordered = self.min_temperature.zip(self.max_temperature).is_none_or(|(min, max)| min <= max);
        rule("parameters.min_temperature", ordered, "must not be above `max_temperature`")
    }
}

impl Limits {
    /// Checks every value.
    ///
    /// # Errors
    /// The first that no limit may have.
    pub fn check(&self) -> Result<(), Unfit> {
        self.requests.map_or(Ok(()), RequestLimit::check)?;
        let none = "must be above 0; to stop a key or a team, disable it";
        rule("limits.tokens_per_minute", self.tokens_per_minute != Some(0), none)?;
        rule("limits.tokens_per_day", self.tokens_per_day != Some(0), none)?;
        rule("limits.concurrent", self.concurrent != Some(0), none)?;
        rule("limits.cost_per_day", self.cost_per_day.is_none_or(|most| most.nanos() > 0), none)?;
        rule("limits.cost_per_month", self.cost_per_month.is_none_or(|most| most.nanos() > 0), none)
    }
}

impl RequestLimit {
    fn check(self) -> Result<(), Unfit> {
        let fine = self.count > 0 && (1..=MAX_WINDOW).contains(&self.window_s);
        rule("limits.requests", fine, "allows at least 1 request within 1 second to 1 day")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(binding: &str) -> &'static str {
        let binding: Binding = serde_json::from_str(binding).expect("a binding");
        binding.check().expect_err("a refusal").field
    }

    #[test]
    fn what_no_key_can_be_bound_to_is_refused_by_the_fields_name() {
        for (text, field) in [
            (r#"{"operations":[]}"#, "operations"),
            (r#"{"data_class":""}"#, "data_class"),
            (r#"{"data_class":"top secret"}"#, "data_class"),
            (r#"{"dlp_policy":"a\nb"}"#, "dlp_policy"),
            (r#"{"system_prompt":{"version":1,"text":" \n"}}"#, "system_prompt"),
            (r#"{"parameters":{"max_tokens":0}}"#, "parameters.max_tokens"),
            (r#"{"parameters":{"max_temperature":2.1}}"#, "parameters.max_temperature"),
            (r#"{"parameters":{"min_temperature":-0.1}}"#, "parameters.min_temperature"),
            (r#"{"parameters":{"min_temperature":1.0,"max_temperature":0.5}}"#, "parameters.min_temperature"),
            (r#"{"limits":{"requests":{"count":0,"window_s":60}}}"#, "limits.requests"),
            (r#"{"limits":{"requests":{"count":1,"window_s":0}}}"#, "limits.requests"),
            (r#"{"limits":{"requests":{"count":1,"window_s":86401}}}"#, "limits.requests"),
            (r#"{"limits":{"tokens_per_day":0}}"#, "limits.tokens_per_day"),
            (r#"{"limits":{"cost_per_day":"0"}}"#, "limits.cost_per_day"),
        ] {
            assert_eq!(refused(text), field, "{text}");
        }
        assert_eq!(Binding::default().check(), Ok(()));
    }

    #[test]
    fn a_refused_prompt_is_not_repeated() {
        let prompt = SystemPrompt::new(1, "canary".repeat(MAX_PROMPT));
        let refusal = prompt.check().expect_err("a refusal").to_string();
        assert!(!refusal.contains("canary"), "{refusal}");
    }
}
