//! How a simulator behaves right now: latency, capacity, faults, models and health. A plain value that
//! can be replaced while the simulator runs and travels as JSON; carrying it out is `playback`'s work.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::comeback::RetryForm;
use crate::durations::{micros, millis, seconds};
use crate::interruption::{Interruption, InterruptionKind, Point, Stage};
use crate::text::Random;

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
    /// The time each token of the prompt adds before the first one of the reply, unless the prefix
    /// cache has it; in microseconds on the wire.
    #[serde(rename = "prefill_us", with = "micros")]
    pub prefill: Duration,
    /// How many calls are worked on at once; the others wait their turn. Without a number, all are.
    pub slots: Option<u32>,
    /// How much each further running call lengthens every wait: 0.1 is a tenth.
    pub slowdown: f64,
    /// How many blocks of 16 tokens the prefix cache holds; those used longest ago make room.
    pub cache_blocks: usize,
    /// The length of a reply in tokens, unless the request asks for less.
    pub tokens: u32,
    /// The share of calls, from 0 to 1, answered with the engine's 500.
    pub error_rate: f64,
    /// Answer every call with this status instead of a reply.
    pub status: Option<ForcedStatus>,
    /// Take calls but send nothing, not even a head, until this is false again.
    pub hang_before_head: bool,
    /// The time between two bytes of a reply's head; in milliseconds on the wire.
    #[serde(rename = "head_drip_ms", with = "millis")]
    pub head_drip: Duration,
    /// What befalls a call on its way.
    pub interruption: Option<Interruption>,
    /// What health probes are told.
    pub health: Health,
    /// How long it takes to load a model, for engines that load them on demand; in milliseconds on
    /// the wire.
    #[serde(rename = "load_ms", with = "millis")]
    pub load: Duration,
    /// After this time without a call a model goes to sleep, for engines that load on demand; in
    /// seconds on the wire.
    #[serde(rename = "sleep_after_s", with = "seconds")]
    pub sleep_after: Option<Duration>,
    /// Whether the engine has been sent to sleep: calls wait until it is woken.
    pub asleep: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            ttft: Duration::ZERO,
            itl: Duration::ZERO,
            jitter: Duration::ZERO,
            prefill: Duration::ZERO,
            slots: None,
            slowdown: 0.0,
            cache_blocks: 100_000,
            tokens: 32,
            error_rate: 0.0,
            status: None,
            hang_before_head: false,
            head_drip: Duration::ZERO,
            interruption: None,
            health: Health::Ready,
            load: Duration::ZERO,
            sleep_after: None,
            asleep: false,
        }
    }
}

impl Behaviour {
    /// The same behaviour, with calls interrupted at this point: a number of events, or any other.
    #[must_use]
    pub fn interrupted(self, after: impl Into<Point>, kind: InterruptionKind) -> Self {
        Self { interruption: Some(Interruption::new(after, kind)), ..self }
    }

    /// The same behaviour, with every call refused with `status`.
    #[must_use]
    pub fn failing(self, status: u16) -> Self {
        Self { status: Some(ForcedStatus::new(status)), ..self }
    }

    /// The time to the first token of a reply to a prompt of which so much is to be processed.
    pub(crate) fn until_first_token(&self, prompt: u32) -> Duration {
        self.ttft.saturating_add(self.prefill.saturating_mul(prompt))
    }

    /// The behaviour that one call meets: with the interruption that was drawn for it, if any.
    pub(crate) fn drawn(self: Arc<Self>, random: &mut Random) -> Arc<Self> {
        let Some(interruption) = self.interruption else { return self };
        let drawn = interruption.drawn(random);
        if drawn == Some(interruption) {
            return self;
        }
        Arc::new(Self { interruption: drawn, ..Self::clone(&self) })
    }

    /// Whether calls are held before their head.
    pub(crate) fn holds_calls(&self) -> bool {
        let stalls = |interruption: Interruption| {
            interruption.stalls() && interruption.after == Point::Stage(Stage::Request)
        };
        self.hang_before_head || self.asleep || self.interruption.is_some_and(stalls)
    }

    /// Whether what was interrupted by a stall stays so.
    pub(crate) fn stalls(&self) -> bool {
        self.interruption.is_some_and(|interruption| interruption.stalls())
    }

    /// The same behaviour with other values for the fields that `changes` names.
    pub(crate) fn with(&self, changes: &Map<String, Value>) -> Result<Self, serde_json::Error> {
        let mut whole = serde_json::to_value(self)?;
        if let Value::Object(fields) = &mut whole {
            fields.extend(changes.clone());
        }
        serde_json::from_value(whole)
    }
}

/// A status every call is answered with, in the engine's own error shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForcedStatus {
    /// The HTTP status, from 400 to 599; anything else becomes 500.
    pub status: u16,
    /// When callers are told to come back, if they are; in seconds on the wire.
    #[serde(default, rename = "retry_after_s", with = "seconds")]
    pub retry_after: Option<Duration>,
    /// How they are told.
    #[serde(default)]
    pub form: RetryForm,
}

impl ForcedStatus {
    /// A status that does not say when to come back.
    #[must_use]
    pub const fn new(status: u16) -> Self {
        Self { status, retry_after: None, form: RetryForm::Seconds }
    }

    /// The same, saying in this form when to come back.
    #[must_use]
    pub const fn again_in(self, wait: Duration, form: RetryForm) -> Self {
        Self { retry_after: Some(wait), form, ..self }
    }
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
    /// The engine goes down: probes and new calls are answered 503, open ones are finished.
    Draining,
    /// Probes are answered 503, calls still work.
    Failing,
    /// Probes are never answered, calls still work.
    Silent,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_behaviour_survives_its_way_through_json() {
        let limit = ForcedStatus::new(429).again_in(Duration::from_millis(2_500), RetryForm::Date);
        let behaviour = Behaviour {
            models: vec!["a".to_owned()],
            itl: Duration::from_millis(7),
            prefill: Duration::from_micros(150),
            health: Health::Loading,
            status: Some(limit),
            sleep_after: Some(Duration::from_secs(1)),
            ..Behaviour::default()
        }
        .interrupted(2, InterruptionKind::Malformed);
        let json = serde_json::to_value(&behaviour).unwrap();
        assert_eq!((&json["itl_ms"], &json["prefill_us"]), (&json!(7), &json!(150)));
        assert_eq!(json["status"], json!({"status": 429, "retry_after_s": 2.5, "form": "date"}));
        assert_eq!(json["interruption"], json!({"after": 2, "kind": "malformed", "share": 1.0}));
        assert_eq!(serde_json::from_value::<Behaviour>(json).unwrap(), behaviour);
    }

    #[test]
    fn a_time_below_zero_is_refused_in_words() {
        let status = json!({"status": 429, "retry_after_s": -1});
        let refused = serde_json::from_value::<ForcedStatus>(status).unwrap_err().to_string();
        assert!(refused.contains("seconds"), "{refused}");
    }
}
