//! How a simulator behaves right now: latency, faults, models and health. A plain value that can be
//! replaced while the simulator runs and travels as JSON; carrying it out is `playback`'s work.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Everything about a simulator that can change between two requests. A call keeps the behaviour it
/// arrived under, except that lifting a hang or a stall lets held calls go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// The models served, in the order they are listed.
    pub models: Vec<String>,
    /// The time from a whole request to the first token; in milliseconds on the wire.
    #[serde(rename = "ttft_ms", with = "millis")]
    pub ttft: Duration,
    /// The time between two tokens; in milliseconds on the wire.
    #[serde(rename = "itl_ms", with = "millis")]
    pub itl: Duration,
    /// At most this much is added to each wait, by the seed; in milliseconds on the wire.
    #[serde(rename = "jitter_ms", with = "millis")]
    pub jitter: Duration,
    /// The length of a reply in tokens, unless the request asks for less.
    pub tokens: u32,
    /// The share of calls, from 0 to 1, answered with the engine's 500.
    pub error_rate: f64,
    /// Answer every call with this status instead of a reply.
    pub status: Option<ForcedStatus>,
    /// Take calls but send nothing, not even a head, until this is false again.
    pub hang_before_head: bool,
    /// What befalls a streamed reply.
    pub interruption: Option<Interruption>,
    /// What health probes are told.
    pub health: Health,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            ttft: Duration::ZERO,
            itl: Duration::ZERO,
            jitter: Duration::ZERO,
            tokens: 32,
            error_rate: 0.0,
            status: None,
            hang_before_head: false,
            interruption: None,
            health: Health::Ready,
        }
    }
}

impl Behaviour {
    /// The same behaviour, with streamed replies interrupted after `after` events.
    #[must_use]
    pub fn interrupted(self, after: u32, kind: InterruptionKind) -> Self {
        Self { interruption: Some(Interruption { after, kind }), ..self }
    }

    /// The same behaviour, with every call refused with `status`.
    #[must_use]
    pub fn failing(self, status: u16) -> Self {
        Self { status: Some(ForcedStatus { status, retry_after_s: None }), ..self }
    }
}

/// A status every call is answered with, in the engine's own error shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForcedStatus {
    /// The HTTP status, from 400 to 599; anything else becomes 500.
    pub status: u16,
    /// The `Retry-After` header in seconds, if any.
    #[serde(default)]
    pub retry_after_s: Option<u32>,
}

/// The point at which a streamed reply goes wrong, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interruption {
    /// The number of events delivered before it happens; a shorter reply ends well.
    pub after: u32,
    /// What happens then.
    pub kind: InterruptionKind,
}

/// The ways in which a streamed reply goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterruptionKind {
    /// The connection is reset.
    Reset,
    /// The body ends cleanly, without a finish reason and without `[DONE]`.
    Eof,
    /// Nothing more is sent until the behaviour no longer stalls; then the reply goes on.
    Stall,
    /// An error event in the engine's own shape, then the end.
    Error,
    /// One event is not valid JSON; the others follow.
    Malformed,
}

/// What a health probe is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// The engine serves.
    #[default]
    Ready,
    /// The model is being loaded: probes and calls alike are answered 503.
    Loading,
    /// Probes are answered 503, calls still work.
    Failing,
    /// Probes are never answered, calls still work.
    Silent,
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_behaviour_survives_its_way_through_json() {
        let behaviour = Behaviour {
            models: vec!["a".to_owned()],
            itl: Duration::from_millis(7),
            health: Health::Loading,
            status: Some(ForcedStatus { status: 429, retry_after_s: Some(3) }),
            ..Behaviour::default()
        }
        .interrupted(2, InterruptionKind::Malformed);
        let json = serde_json::to_value(&behaviour).unwrap();
        assert_eq!(json["itl_ms"], 7);
        assert_eq!(json["interruption"]["kind"], "malformed");
        assert_eq!(serde_json::from_value::<Behaviour>(json).unwrap(), behaviour);
    }
}
