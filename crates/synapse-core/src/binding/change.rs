//! Changes of what a key is bound to and of what may be spent, field by field.

use std::sync::Arc;

use super::{Binding, SystemPrompt, Unscannable};
use crate::{
    config::snapshot::IpNet,
    id::{ClassName, PolicyName},
    limits::{Limits, Money, RequestLimit},
    operation::Operation,
};

/// A change of one value: `None` leaves it alone, the inner `None` clears it.
pub type Change<T> = Option<Option<T>>;

/// A change of a binding.
#[derive(Clone, Default, PartialEq)]
pub struct BindingChange {
    /// The operations that are allowed.
    pub operations: Change<Vec<Operation>>,
    /// The system prompt's text; another text is another version.
    pub system_prompt: Change<String>,
    /// How sensitive the traffic is.
    pub data_class: Change<ClassName>,
    /// The policy for sensitive data.
    pub dlp_policy: Change<PolicyName>,
    /// What happens to media that cannot be searched.
    pub unscannable: Change<Unscannable>,
    /// The networks that callers may come from.
    pub networks: Change<Vec<IpNet>>,
    /// The most tokens of a reply.
    pub max_tokens: Change<u32>,
    /// The least and the greatest temperature.
    pub temperature: Change<(Option<f64>, Option<f64>)>,
    /// Whether tools may be offered to the model.
    pub tools: Change<bool>,
    /// What may be spent.
    pub limits: LimitsChange,
}

/// A change of limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsChange {
    /// Requests within a window.
    pub requests: Change<RequestLimit>,
    /// Tokens within a minute.
    pub tokens_per_minute: Change<u64>,
    /// Tokens within a day.
    pub tokens_per_day: Change<u64>,
    /// Requests at once.
    pub concurrent: Change<u32>,
    /// Money within a day.
    pub cost_per_day: Change<Money>,
    /// Money within a month.
    pub cost_per_month: Change<Money>,
}

impl std::fmt::Debug for BindingChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A prompt's text is shown nowhere.
        f.debug_struct("BindingChange").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl BindingChange {
    /// `binding` as it is after the change. `latest_prompt` is the latest version that its prompt ever had.
    #[must_use]
    pub fn apply(&self, mut binding: Binding, latest_prompt: u32) -> Binding {
        put(&mut binding.operations, &self.operations);
        put(&mut binding.data_class, &self.data_class);
        put(&mut binding.dlp_policy, &self.dlp_policy);
        if let Some(text) = &self.system_prompt {
            let known = binding.system_prompt.take();
            binding.system_prompt = text.as_ref().map(|text| match known {
                Some(same) if same.text == *text => same,
                _ => Arc::new(SystemPrompt::new(latest_prompt + 1, text.as_str())),
            });
        }
        if let Some(unscannable) = self.unscannable {
            binding.unscannable = unscannable.unwrap_or_default();
        }
        if let Some(networks) = &self.networks {
            binding.networks = networks.clone().unwrap_or_default();
        }
        let parameters = &mut binding.parameters;
        put(&mut parameters.max_tokens, &self.max_tokens);
        if let Some(range) = self.temperature {
            (parameters.min_temperature, parameters.max_temperature) = range.unwrap_or_default();
        }
        put(&mut parameters.tools, &self.tools);
        binding.limits = self.limits.apply(binding.limits);
        binding
    }
}

impl LimitsChange {
    /// `limits` as they are after the change.
    #[must_use]
    pub fn apply(&self, mut limits: Limits) -> Limits {
        put(&mut limits.requests, &self.requests);
        put(&mut limits.tokens_per_minute, &self.tokens_per_minute);
        put(&mut limits.tokens_per_day, &self.tokens_per_day);
        put(&mut limits.concurrent, &self.concurrent);
        put(&mut limits.cost_per_day, &self.cost_per_day);
        put(&mut limits.cost_per_month, &self.cost_per_month);
        limits
    }
}

fn put<T: Clone>(field: &mut Option<T>, change: &Change<T>) {
    if let Some(value) = change {
        field.clone_from(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_prompt(text: Option<&str>, before: Binding, latest: u32) -> Binding {
        let change = BindingChange { system_prompt: Some(text.map(str::to_owned)), ..Default::default() };
        change.apply(before, latest)
    }

    #[test]
    fn another_prompt_is_another_version_and_the_same_one_is_not() {
        let version = |binding: &Binding| binding.system_prompt.as_ref().map(|prompt| prompt.version);
        let first = with_prompt(Some("a"), Binding::default(), 0);
        assert_eq!(version(&first), Some(1));
        let same = with_prompt(Some("a"), first.clone(), 1);
        assert_eq!(version(&same), Some(1));
        let second = with_prompt(Some("b"), first, 1);
        assert_eq!(version(&second), Some(2));
        let none = with_prompt(None, second, 2);
        assert_eq!(version(&none), None);
        assert_eq!(version(&with_prompt(Some("a"), none, 2)), Some(3), "no version stands for two texts");
    }

    #[test]
    fn a_change_that_names_nothing_changes_nothing() {
        let text = r#"{"operations":["chat"],"data_class":"c","unscannable":"block","networks":["10.0.0.0/8"],
            "parameters":{"tools":false,"max_temperature":1.0},"limits":{"tokens_per_day":5}}"#;
        let binding: Binding = serde_json::from_str(text).expect("a binding");
        assert_eq!(BindingChange::default().apply(binding.clone(), 7), binding);
    }

    #[test]
    fn a_change_does_not_show_its_prompt() {
        let change = BindingChange { system_prompt: Some(Some("canary".into())), ..Default::default() };
        assert!(!format!("{change:?}").contains("canary"));
    }
}
