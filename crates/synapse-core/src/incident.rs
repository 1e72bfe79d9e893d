//! What was found in one request, and what became of it; never the matched text.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{KeyId, ModelName, PolicyName, RequestId, TeamName};

/// How many places of one category are named.
pub const MAX_PATHS: usize = 8;

/// Findings of one request, in its prompt and its reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Its identifier: `inc_…`.
    pub id: String,
    /// When the request arrived.
    pub at: Timestamp,
    /// The request.
    pub request: RequestId,
    /// The caller's key.
    pub key: Option<KeyId>,
    /// The key's team.
    pub team: Option<TeamName>,
    /// The model asked for.
    pub model: Option<ModelName>,
    /// The policy that was in force.
    pub policy: PolicyName,
    /// Which version of it.
    pub policy_version: String,
    /// The strongest action taken: `alert`, `redact` or `block`.
    pub action: String,
    /// The worst severity: `low`, `medium`, `high` or `critical`.
    pub severity: String,
    /// What was found, by direction, category and action.
    pub findings: Vec<IncidentFinding>,
}

/// Findings of one category in one direction with one action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentFinding {
    /// `prompt` or `reply`.
    pub direction: String,
    /// What was found.
    pub category: String,
    /// How bad a leak is.
    pub severity: String,
    /// What became of it.
    pub action: String,
    /// How often.
    pub count: u64,
    /// Where: fields of the request or the reply, the first few.
    pub paths: Vec<String>,
}
