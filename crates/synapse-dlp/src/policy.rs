//! Policies: which categories are looked for in which direction, and what becomes of what is found.

mod defaults;
mod selector;

use std::{collections::HashMap, ops::Range, sync::Arc};

use sha2::{Digest, Sha256};

use crate::{
    custom::{Compiled, CustomRule, CustomRules, RuleError},
    exfiltration::AllowedHost,
    finding::{Action, Category, Direction, Finding},
    hit::{Certainty, Group, Severity},
    scan, secrets,
};

pub use selector::{Selector, categories};

/// Changes whenever the built-in rules find something else than before.
const RULES_VERSION: &str = "1";

/// What stands in the place of a finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placeholder {
    /// `[REDACTED:us_ssn]`, from which nothing comes back.
    #[default]
    Label,
    /// `[US_SSN_1]`, which becomes the value again in the reply.
    Tokenise,
}

/// A policy as it is written down.
#[derive(Clone)]
pub struct PolicySpec {
    /// Its name.
    pub name: String,
    /// What becomes of findings in prompts; of entries that select the same category, the last one counts.
    pub prompt: Vec<(Selector, Action)>,
    /// The same for replies.
    pub reply: Vec<(Selector, Action)>,
    /// The operator's own rules.
    pub custom: Vec<CustomRule>,
    /// What stands in the place of what is redacted.
    pub placeholder: Placeholder,
    /// Hosts that links in replies may lead to, whatever they carry: `example.com` with all hosts below it,
    /// `*.example.com` for those alone.
    pub allowed_hosts: Vec<String>,
}

/// What is wrong with a policy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// An entry selects nothing.
    #[error(
        "policy `{policy}`: nothing is called `{name}`: use `*`, a group such as `national_id`, a category such as `us_ssn`, or `custom:` and the name of one of its rules"
    )]
    UnknownCategory {
        /// The policy.
        policy: String,
        /// What it selects.
        name: String,
    },
    /// A custom rule cannot be used.
    #[error("policy `{policy}`: rule `{rule}`: {error}")]
    Rule {
        /// The policy.
        policy: String,
        /// The rule.
        rule: String,
        /// What is wrong with it.
        error: RuleError,
    },
}

/// What a policy makes of one category.
#[derive(Clone, Copy)]
pub(crate) struct Verdict {
    severity: Severity,
    actions: [Action; 2],
}

/// A policy that can be applied.
pub struct Policy {
    name: String,
    version: String,
    verdicts: HashMap<Category, Verdict>,
    strongest: [Action; 2],
    placeholder: Placeholder,
    pub(crate) allowed_hosts: Vec<AllowedHost>,
    custom: CustomRules,
}

impl Policy {
    /// Checks a policy and makes it ready to be applied.
    ///
    /// # Errors
    /// When an entry selects nothing, or a custom rule does not work as its examples say.
    pub fn compile(spec: PolicySpec) -> Result<Arc<Self>, PolicyError> {
        let version = version(&spec);
        let verdicts = verdicts(&spec)?;
        let in_replies = |category: &Category| {
            verdicts.get(category).is_some_and(|v| v.actions[Direction::Reply as usize] > Action::Allow)
        };
        let custom = CustomRules::compile(&spec.custom, in_replies)
            .map_err(|(rule, error)| PolicyError::Rule { policy: spec.name.clone(), rule, error })?;
        secrets::prepare();
        let strongest = Direction::ALL.map(|direction| {
            verdicts.values().map(|v| v.actions[direction as usize]).max().unwrap_or(Action::Allow)
        });
        Ok(Arc::new(Self {
            name: spec.name,
            version,
            verdicts,
            strongest,
            placeholder: spec.placeholder,
            allowed_hosts: spec.allowed_hosts.iter().map(|host| AllowedHost::parse(host)).collect(),
            custom,
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A short hash of the policy and of the built-in rules: two policies with the same one find the same.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What stands in the place of what is redacted.
    pub fn placeholder(&self) -> Placeholder {
        self.placeholder
    }

    /// Whether anything is looked for.
    pub fn is_active(&self, direction: Direction) -> bool {
        self.strongest[direction as usize] > Action::Allow
    }

    /// Whether a text may come out changed, or not at all.
    pub fn rewrites(&self, direction: Direction) -> bool {
        self.strongest[direction as usize] >= Action::Redact
    }

    /// Whether a text must be there whole before any of it may go out: a custom rule says so.
    pub fn needs_whole(&self, direction: Direction) -> bool {
        self.custom_rules(direction).any(Compiled::needs_whole)
    }

    /// What is in `text`: in order, without overlaps, and without what the policy allows.
    pub fn scan(&self, direction: Direction, text: &str) -> Vec<Finding> {
        self.scan_behind(direction, text, 0)
    }

    /// The same for the part of `text` from byte `left` on; what is before it is only context. Of what begins in
    /// the context and reaches into the new part, that reach is found.
    pub(crate) fn scan_behind(&self, direction: Direction, text: &str, left: usize) -> Vec<Finding> {
        if !self.is_active(direction) {
            return Vec::new();
        }
        scan::scan(self, text, left, direction, false)
    }

    /// The same as [`Policy::scan`], with what the policy allows, and with all that a number may be where nothing
    /// says which: these overlap.
    pub fn scan_all(&self, direction: Direction, text: &str) -> Vec<Finding> {
        scan::scan(self, text, 0, direction, true)
    }

    /// The custom rules that anything is made of in a direction.
    pub(crate) fn custom_rules(&self, direction: Direction) -> impl Iterator<Item = &Compiled> {
        self.custom.iter().filter(move |rule| self.action(rule.category(), direction) > Action::Allow)
    }

    /// What becomes of findings of a category.
    pub fn action(&self, category: &Category, direction: Direction) -> Action {
        self.verdicts.get(category).map_or(Action::Allow, |verdict| verdict.actions[direction as usize])
    }

    /// The categories of the operator's own rules, in their order.
    pub fn own_categories(&self) -> impl Iterator<Item = (&Category, Severity)> {
        let severity = |category| self.verdicts.get(category).map(|verdict| verdict.severity);
        self.custom.iter().filter_map(move |rule| Some((rule.category(), severity(rule.category())?)))
    }

    /// What the policy makes of something found. What may well be chance is told of at most.
    pub(crate) fn judge(
        &self,
        category: Category,
        certainty: Certainty,
        range: Range<usize>,
        direction: Direction,
    ) -> Option<Finding> {
        let verdict = self.verdicts.get(&category)?;
        let mut action = verdict.actions[direction as usize];
        if certainty == Certainty::Weak {
            action = action.min(Action::Alert);
        }
        Some(Finding { category, severity: verdict.severity, action, certainty, range })
    }
}

/// What a policy makes of each category that there is for it.
fn verdicts(spec: &PolicySpec) -> Result<HashMap<Category, Verdict>, PolicyError> {
    let verdict = |severity| Verdict { severity, actions: [Action::Allow; 2] };
    let built_in =
        categories().iter().map(|info| (Category::built_in(info.name), (info.group, verdict(info.severity))));
    let custom = spec
        .custom
        .iter()
        .map(|rule| (Category::custom(&rule.name), (Group::Custom, verdict(rule.severity))));
    let mut verdicts: HashMap<_, _> = built_in.chain(custom).collect();
    for direction in Direction::ALL {
        for (selector, action) in spec.entries(direction) {
            let mut selected = false;
            for (category, (group, verdict)) in &mut verdicts {
                if selector.selects(category, *group) {
                    verdict.actions[direction as usize] = *action;
                    selected = true;
                }
            }
            if let (false, Selector::Category(name)) = (selected, selector) {
                let (policy, name) = (spec.name.clone(), name.clone());
                return Err(PolicyError::UnknownCategory { policy, name });
            }
        }
    }
    Ok(verdicts.into_iter().map(|(category, (_, verdict))| (category, verdict)).collect())
}

/// A short hash of what a policy says.
fn version(spec: &PolicySpec) -> String {
    let mut hash = Sha256::new();
    hash.update(RULES_VERSION);
    hash.update(env!("CARGO_PKG_VERSION"));
    let head = (&spec.name, &spec.prompt, &spec.reply, spec.placeholder, &spec.allowed_hosts);
    hash.update(format!("{head:?}"));
    for rule in &spec.custom {
        rule.feed(&mut hash);
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
