//! What a policy says of a text: where something stands, what it is, and what becomes of it.

use std::{fmt, ops::Range, str::FromStr, sync::Arc};

use crate::hit::{CategoryInfo, Certainty, Severity};

/// Which way a text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From a caller to a model.
    Prompt,
    /// From a model to a caller.
    Reply,
}

impl Direction {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Prompt, Self::Reply];
}

/// What becomes of a finding; the strongest comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Passes unmentioned.
    Allow,
    /// Passes, and is told of.
    Alert,
    /// Passes with a placeholder in its place.
    Redact,
    /// Nothing passes.
    Block,
}

impl Action {
    /// Its name in configuration and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Alert => "alert",
            Self::Redact => "redact",
            Self::Block => "block",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Allow, Self::Alert, Self::Redact, Self::Block];
        let found = all.into_iter().find(|action| action.as_str() == text);
        found.ok_or_else(|| format!("unknown action `{text}`: use allow, alert, redact or block"))
    }
}

/// What a finding is, by name: a built-in category such as `us_ssn`, or `custom:` and a rule's name.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Category(Name);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Name {
    BuiltIn(&'static str),
    Custom(Arc<str>),
}

impl From<&CategoryInfo> for Category {
    fn from(info: &CategoryInfo) -> Self {
        Self::built_in(info.name)
    }
}

impl Category {
    pub(crate) const fn built_in(name: &'static str) -> Self {
        Self(Name::BuiltIn(name))
    }

    /// The category of an operator's rule.
    pub(crate) fn custom(rule: &str) -> Self {
        Self(Name::Custom(format!("custom:{rule}").into()))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::BuiltIn(name) => name,
            Name::Custom(name) => name,
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something found in a text. It says where, not what: the text itself is never part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub category: Category,
    /// How bad a leak of it is.
    pub severity: Severity,
    /// What the policy makes of it.
    pub action: Action,
    /// How sure the detector is.
    pub certainty: Certainty,
    /// Where it stands, in bytes of the text that was given.
    pub range: Range<usize>,
}
