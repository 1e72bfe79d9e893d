//! The closing record of a request. It opens before anything can fail and closes exactly once; what of it is
//! kept for good is an entry of the audit log.

pub mod canonical;
pub mod entry;
pub mod stretch;

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    config::snapshot::Locality,
    id::{BackendId, ClassName, KeyId, ModelName, RequestId, TeamName},
    incident::Incident,
    limits::Money,
    operation::Operation,
    usage::Usage,
};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The whole reply was handed to the caller.
    Completed,
    /// Refused before an engine was asked: bad input, no such key, no such model, over a limit.
    Rejected,
    /// A policy for sensitive data stopped the request or its reply.
    Blocked,
    /// The caller hung up.
    Cancelled,
    /// An engine or the gateway failed.
    Failed,
}

impl Outcome {
    /// The name in records and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Rejected => "rejected",
            Self::Blocked => "blocked",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// Who asked.
#[derive(Clone, Debug, Default)]
pub struct Actor {
    /// The key, once it is known to be real.
    pub key: Option<KeyId>,
    /// The key's team.
    pub team: Option<TeamName>,
    /// The caller's address, behind trusted proxies the one they vouch for.
    pub address: Option<std::net::IpAddr>,
}

/// What was asked of whom.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The operation, once the route is known.
    pub operation: Option<Operation>,
    /// The public model name: of what served, where that is known.
    pub model: Option<ModelName>,
    /// The one that was asked for, where another one served.
    pub asked: Option<ModelName>,
    /// The pattern that led to the model, where a caller chose the rest of its name. Metrics carry it
    /// instead of the name, which is not bounded.
    pub pattern: Option<ModelName>,
    /// The backend that served, or that failed last.
    pub backend: Option<BackendId>,
    /// Where that is.
    pub zone: Option<Locality>,
    /// How many backends were tried.
    pub attempts: u32,
    /// Whether the caller asked for a stream.
    pub stream: bool,
    /// How sensitive the key's traffic is.
    pub key_class: Option<ClassName>,
    /// How sensitive the request was, once that is known: as its key, or more.
    pub data_class: Option<ClassName>,
    /// The system prompt that was put into it.
    pub prompt: Option<PromptMark>,
}

/// Which system prompt was in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptMark {
    /// Its version.
    pub version: u32,
    /// SHA-256 of its text, in hexadecimal.
    pub digest: std::sync::Arc<str>,
}

/// One request, closed.
#[derive(Clone, Debug)]
pub struct RequestRecord {
    /// The request's identifier.
    pub id: RequestId,
    /// When it arrived.
    pub at: Timestamp,
    /// The method and the route's template; never the raw path.
    pub route: &'static str,
    /// Who asked.
    pub actor: Actor,
    /// What was asked of whom.
    pub target: Target,
    /// How it ended.
    pub outcome: Outcome,
    /// The HTTP status sent (499 where the caller left first).
    pub status: u16,
    /// The fault's code, where there is one.
    pub code: Option<&'static str>,
    /// Why the engine stopped, in its own words.
    pub finish_reason: Option<String>,
    /// Tokens: as the engine reported them, or an estimate.
    pub usage: Option<Usage>,
    /// Whether `usage` is an estimate.
    pub is_estimate: bool,
    /// What they cost, where the model has a price.
    pub cost: Option<Money>,
    /// Whether a provider did the work at a price that nobody has told.
    pub unpriced: bool,
    /// From arrival to the last byte.
    pub duration: Duration,
    /// From arrival to the first content, where there was any.
    pub first_token: Option<Duration>,
    /// Time spent in Synapse itself: the duration less the time spent waiting for engines.
    pub overhead: Duration,
    /// Time in which the request's body came.
    pub receiving: Duration,
    /// Time spent waiting for engines, before the first content.
    pub upstream: Duration,
    /// Bytes of the request's and the reply's body.
    pub bytes: (u64, u64),
    /// What was found in the request or its reply.
    pub incident: Option<Box<Incident>>,
}
