//! Every policy of a configuration, compiled, by name.

use std::{collections::HashMap, sync::Arc};

use secrecy::ExposeSecret;
use synapse_core::config::snapshot::{Dlp, DlpAction, DlpMatcher, DlpPolicy, DlpRule, DlpSeverity};
use synapse_dlp::{
    Action, CustomKind, CustomRule, Group, Placeholder, Policy, PolicyError, PolicySpec, Selector, Severity,
};

/// The policy for what may leave the house.
pub const CLOUD: &str = "cloud";
/// The words of a value that a set of hashes can hold.
const MAX_WORDS: usize = 8;

/// The policies of a configuration.
#[derive(Default)]
pub struct Policies {
    enabled: bool,
    by_name: HashMap<String, Arc<Policy>>,
}

/// Policies that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct PolicyFault {
    line: usize,
    source: PolicyError,
}

impl PolicyFault {
    /// The line of the configuration where the policy begins.
    pub const fn line(&self) -> usize {
        self.line
    }
}

impl Policies {
    /// Compiles what is configured, and the built-in ones besides.
    ///
    /// # Errors
    /// When a selector selects nothing, or a rule does not do what its examples say.
    pub fn compile(config: &Dlp) -> Result<Self, PolicyFault> {
        let mut by_name = HashMap::new();
        for built_in in [PolicySpec::cloud(), PolicySpec::on_prem()] {
            let name = built_in.name.clone();
            let policy = Policy::compile(built_in).map_err(|source| PolicyFault { line: 1, source })?;
            by_name.insert(name, policy);
        }
        for policy in &config.policies {
            let fault = |source| PolicyFault { line: policy.line, source };
            let compiled = spec(policy).and_then(Policy::compile).map_err(fault)?;
            by_name.insert(policy.name.as_str().to_owned(), compiled);
        }
        Ok(Self { enabled: config.enabled, by_name })
    }

    /// Whether these come from a configuration.
    pub(crate) fn is_compiled(&self) -> bool {
        !self.by_name.is_empty()
    }

    /// The policy of this name; a name that is gone means `cloud`, the stricter one of those that come along. `None`
    /// while the search is switched off.
    pub fn find(&self, name: &str) -> Option<&Arc<Policy>> {
        if !self.enabled {
            return None;
        }
        self.by_name.get(name).or_else(|| self.by_name.get(CLOUD))
    }

    /// Whether there is a policy of this name.
    pub fn knows(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// All names, in order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

fn spec(policy: &DlpPolicy) -> Result<PolicySpec, PolicyError> {
    let base = match policy.base.as_ref().map(|name| name.as_str()) {
        Some(CLOUD) => PolicySpec::cloud(),
        Some(_) => PolicySpec::on_prem(),
        None => own_rules_only(),
    };
    let name = policy.name.as_str().to_owned();
    let entries = |written: &[(String, DlpAction)]| -> Result<Vec<(Selector, Action)>, PolicyError> {
        let mut entries = Vec::with_capacity(written.len());
        for (selector, act) in written {
            let unknown = |_| PolicyError::UnknownCategory { policy: name.clone(), name: selector.clone() };
            entries.push((selector.parse::<Selector>().map_err(unknown)?, action(*act)));
        }
        // The last one counts, and the narrower one is to count.
        entries.sort_by_key(|(selector, _)| match selector {
            Selector::All => 0,
            Selector::Group(_) => 1,
            Selector::Category(_) => 2,
        });
        Ok(entries)
    };
    let mut spec = PolicySpec { name: name.clone(), ..base };
    spec.prompt.extend(entries(&policy.prompt)?);
    spec.reply.extend(entries(&policy.reply)?);
    spec.placeholder = if policy.tokenise { Placeholder::Tokenise } else { Placeholder::Label };
    spec.allowed_hosts.clone_from(&policy.allowed_hosts);
    spec.custom = policy.rules.iter().map(rule).collect();
    Ok(spec)
}

/// Where nothing else is looked for, the operator's rules are: nobody writes one to have it ignored.
fn own_rules_only() -> PolicySpec {
    let rules = vec![(Selector::Group(Group::Custom), Action::Redact)];
    PolicySpec { prompt: rules.clone(), reply: rules, ..PolicySpec::empty() }
}

fn action(action: DlpAction) -> Action {
    match action {
        DlpAction::Allow => Action::Allow,
        DlpAction::Alert => Action::Alert,
        DlpAction::Redact => Action::Redact,
        DlpAction::Block => Action::Block,
    }
}

fn rule(rule: &DlpRule) -> CustomRule {
    let kind = match &rule.finds {
        DlpMatcher::Pattern(pattern) => CustomKind::Regex {
            pattern: if rule.case_sensitive { pattern.clone() } else { format!("(?i:{pattern})") },
            examples: rule.examples.clone(),
            counter_examples: rule.counter_examples.clone(),
            max_len: None,
        },
        DlpMatcher::Words(words) => CustomKind::Dictionary {
            words: words.clone(),
            whole_words: true,
            case_sensitive: rule.case_sensitive,
        },
        DlpMatcher::Hashes { key, hashes } => CustomKind::ExactMatch {
            salt: key.expose_secret().as_bytes().to_vec(),
            hmacs: hashes.iter().copied().collect(),
            max_words: MAX_WORDS,
        },
    };
    let severity = match rule.severity {
        DlpSeverity::Low => Severity::Low,
        DlpSeverity::Medium => Severity::Medium,
        DlpSeverity::High => Severity::High,
        DlpSeverity::Critical => Severity::Critical,
    };
    CustomRule { name: rule.name.clone(), kind, severity, buffer: rule.buffer }
}
