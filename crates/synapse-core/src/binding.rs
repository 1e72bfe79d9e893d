//! What a key is bound to besides its models: what its callers may do is decided here, and by nothing
//! that a request says.

mod change;
mod check;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    config::snapshot::IpNet,
    hex,
    id::{ClassName, PolicyName},
    limits::Limits,
    operation::Operation,
};

pub use change::{BindingChange, Change, LimitsChange};
pub use check::Unfit;

/// Everything that a key decides for its callers. What is absent does not bind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Binding {
    /// The operations that are allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<Vec<Operation>>,
    /// The system prompt that stands in place of any that a caller sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<Arc<SystemPrompt>>,
    /// How sensitive its traffic is; the most sensitive class where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_class: Option<ClassName>,
    /// The policy for sensitive data in prompts and replies; the class's own where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dlp_policy: Option<PolicyName>,
    /// What happens to media that cannot be searched for sensitive data.
    pub unscannable: Unscannable,
    /// The networks that its callers may come from; any, where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
    /// Bounds of what a request may ask of an engine.
    #[serde(skip_serializing_if = "ParameterCaps::is_empty")]
    pub parameters: ParameterCaps,
    /// What may be spent.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
}

/// A system prompt. Its text is as secret as a prompt: no log shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct SystemPrompt {
    /// Grows by one with every change.
    pub version: u32,
    /// What engines are told.
    pub text: String,
    /// Made once: every record names it.
    #[serde(skip)]
    digest: Arc<str>,
    /// And every request has it.
    #[serde(skip)]
    quoted: Arc<str>,
}

/// A system prompt as it is stored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    text: String,
}

impl From<Written> for SystemPrompt {
    fn from(Written { version, text }: Written) -> Self {
        Self::new(version, text)
    }
}

impl SystemPrompt {
    /// This text as this version.
    pub fn new(version: u32, text: impl Into<String>) -> Self {
        let text = text.into();
        let digest = hex(&Sha256::digest(text.as_bytes()));
        let quoted = serde_json::Value::from(text.as_str()).to_string();
        Self { version, text, digest: digest.into(), quoted: quoted.into() }
    }

    /// The text as a JSON string.
    pub fn quoted(&self) -> &str {
        &self.quoted
    }

    /// SHA-256 of the text, in hexadecimal: tells in records which prompt was in force.
    pub fn digest(&self) -> &Arc<str> {
        &self.digest
    }
}

impl fmt::Debug for SystemPrompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SystemPrompt(version {}, {} bytes)", self.version, self.text.len())
    }
}

/// What happens to images, audio and files in which nothing can be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unscannable {
    /// They go wherever the request's class may go.
    Allow,
    /// They go to backends of the house only.
    #[default]
    OnPrem,
    /// The request is refused.
    Block,
}

impl Unscannable {
    /// The spelling on the command line and in configuration files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::OnPrem => "on_prem",
            Self::Block => "block",
        }
    }
}

/// Bounds of what a request may ask of an engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParameterCaps {
    /// The most tokens of a reply. Asked-for numbers above it, and absent ones, become this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// The least temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_temperature: Option<f64>,
    /// The greatest temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_temperature: Option<f64>,
    /// Whether tools may be offered to the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<bool>,
}

// No bound is NaN: there is no spelling for it in JSON.
impl Eq for ParameterCaps {}

impl ParameterCaps {
    /// Whether nothing is bounded.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
