//! Policies for sensitive data as they are configured. They are compiled where texts are searched.

use std::fmt;

use secrecy::SecretString;

use crate::id::PolicyName;

/// The search for sensitive data.
#[derive(Clone, Debug)]
pub struct Dlp {
    /// Whether there is one at all.
    pub enabled: bool,
    /// The operator's policies.
    pub policies: Vec<DlpPolicy>,
}

/// What happens to which findings.
#[derive(Clone, Debug)]
pub struct DlpPolicy {
    /// Its name.
    pub name: PolicyName,
    /// The built-in policy that it changes; `None` begins with nothing.
    pub base: Option<PolicyName>,
    /// What happens in prompts: a selector and an action each.
    pub prompt: Vec<(String, DlpAction)>,
    /// What happens in replies.
    pub reply: Vec<(String, DlpAction)>,
    /// Whether placeholders name values, which come back in replies.
    pub tokenise: bool,
    /// Hosts that links in replies may carry data to.
    pub allowed_hosts: Vec<String>,
    /// The operator's own rules.
    pub rules: Vec<DlpRule>,
    /// Where it was written, for what is only found wrong later.
    pub line: usize,
}

/// What happens to a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DlpAction {
    /// Nothing.
    Allow,
    /// It passes, and is an incident.
    Alert,
    /// A placeholder stands in its place.
    Redact,
    /// The request is refused, or the reply ends.
    Block,
}

/// How bad a leak is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DlpSeverity {
    /// Public in many cases.
    Low,
    /// Personal.
    Medium,
    /// Identifies a person, an account or a secret of the house.
    High,
    /// Opens something.
    Critical,
}

/// A rule of the operator's own.
#[derive(Clone, Debug)]
pub struct DlpRule {
    /// Its name.
    pub name: String,
    /// What it finds.
    pub finds: DlpMatcher,
    /// Texts that it must find something in.
    pub examples: Vec<String>,
    /// Texts that it must find nothing in.
    pub counter_examples: Vec<String>,
    /// Whether letters of the other case count as different.
    pub case_sensitive: bool,
    /// How bad a leak is.
    pub severity: DlpSeverity,
    /// Whether replies are held back whole for it.
    pub buffer: bool,
}

/// What a rule finds.
#[derive(Clone)]
pub enum DlpMatcher {
    /// What a regular expression matches.
    Pattern(String),
    /// Words or phrases.
    Words(Vec<String>),
    /// Values of which only keyed hashes are known.
    Hashes {
        /// The key of the hashes.
        key: SecretString,
        /// HMAC-SHA-256 of each value.
        hashes: Vec<[u8; 32]>,
    },
}

impl fmt::Debug for DlpMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(pattern) => f.debug_tuple("Pattern").field(pattern).finish(),
            Self::Words(words) => write!(f, "Words({})", words.len()),
            Self::Hashes { hashes, .. } => write!(f, "Hashes({})", hashes.len()),
        }
    }
}
