//! What callers are told of their limits with every reply.

use std::fmt::{self, Write};

use bytes::BytesMut;
use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use synapse_core::ledger::{Measure, Meter, Reading};

/// How a caller stands with requests and tokens: of several limits, by the one that leaves the least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    requests: Option<Left>,
    tokens: Option<Left>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    limit: u64,
    remaining: u64,
    resets_in_ms: u64,
}

const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

impl Standing {
    /// From the meters and what they say.
    pub fn of(meters: &[Meter], readings: &[Reading]) -> Self {
        let mut standing = Self::default();
        for (meter, reading) in meters.iter().zip(readings) {
            let place = match meter.measure {
                Measure::Requests => &mut standing.requests,
                Measure::TokensPerMinute | Measure::TokensPerDay => &mut standing.tokens,
                Measure::Concurrent | Measure::CostPerDay | Measure::CostPerMonth => continue,
            };
            let left = Left {
                limit: meter.limit,
                remaining: meter.limit.saturating_sub(reading.used),
                resets_in_ms: reading.resets_in_ms,
            };
            if place.is_none_or(|known| left.remaining < known.remaining) {
                *place = Some(left);
            }
        }
        standing
    }

    /// Adds the headers.
    pub fn tell(&self, headers: &mut HeaderMap) {
        // All values stand in one piece of memory.
        let mut room = BytesMut::with_capacity(ROOM);
        for (names, left) in [(REQUESTS, self.requests), (TOKENS, self.tokens)] {
            let Some(left) = left else { continue };
            let values = [
                value(&mut room, format_args!("{}", left.limit)),
                value(&mut room, format_args!("{}", left.remaining)),
                value(&mut room, format_args!("{}", Reset(left.resets_in_ms))),
            ];
            for (name, value) in names.into_iter().zip(values) {
                value.map(|value| headers.insert(name, value));
            }
        }
    }
}

/// Enough for six usual values.
const ROOM: usize = 64;

fn value(room: &mut BytesMut, text: fmt::Arguments<'_>) -> Option<HeaderValue> {
    room.write_fmt(text).ok()?;
    HeaderValue::from_maybe_shared(room.split().freeze()).ok()
}

/// So many milliseconds as OpenAI writes them: `20ms`, `1s`, `6m0s`, `2h0m5s`; whole seconds from one second on,
/// rounded up.
struct Reset(u64);

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_ceil(1000);
        match seconds {
            _ if self.0 < 1000 => write!(f, "{}ms", self.0),
            0..60 => write!(f, "{seconds}s"),
            60..3600 => write!(f, "{}m{}s", seconds / 60, seconds % 60),
            _ => write!(f, "{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use synapse_core::ledger::{Scope, Span};

    use super::*;

    #[test]
    fn durations_are_written_as_openai_writes_them() {
        let cases = [
            (0, "0ms"),
            (20, "20ms"),
            (1000, "1s"),
            (1001, "2s"),
            (59_500, "1m0s"),
            (360_000, "6m0s"),
            (7_205_000, "2h0m5s"),
        ];
        for (ms, text) in cases {
            assert_eq!(Reset(ms).to_string(), text);
        }
    }

    #[test]
    fn the_limit_that_leaves_the_least_is_the_one_that_is_told() {
        let meter = |measure, limit| Meter { scope: Scope::Key("k".into()), measure, span: Span::Day, limit };
        let reading = |used| Reading { used, bucket: 0, resets_in_ms: 1500 };
        let meters = [
            meter(Measure::TokensPerMinute, 100),
            meter(Measure::TokensPerDay, 1000),
            meter(Measure::Concurrent, 1),
        ];
        let mut headers = HeaderMap::new();
        Standing::of(&meters, &[reading(50), reading(990), reading(1)]).tell(&mut headers);
        let told: Vec<_> = TOKENS.iter().map(|name| headers[name].to_str().expect("text")).collect();
        assert_eq!(told, ["1000", "10", "2s"]);
        assert_eq!(headers.len(), 3);
    }
}
