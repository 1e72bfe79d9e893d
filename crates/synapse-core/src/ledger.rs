//! Reserving and settling what keys and teams may spend: the words for it, and what counts for how long. Where
//! the counting is done (memory, Redis) is not said here.

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::{
    error::FaultKind,
    id::{KeyId, TeamName},
    limits::{Limits, Money},
};

/// Whose counters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One key's.
    Key(KeyId),
    /// Those of all keys of a team together.
    Team(TeamName),
}

impl Scope {
    /// `key` or `team`.
    pub const fn level(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Team(_) => "team",
        }
    }

    /// The key's or team's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Key(key) => key.as_str(),
            Self::Team(team) => team.as_str(),
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Requests within a sliding window.
    Requests,
    /// Tokens within a sliding minute.
    TokensPerMinute,
    /// Tokens within a day.
    TokensPerDay,
    /// Requests at once.
    Concurrent,
    /// Money within a day.
    CostPerDay,
    /// Money within a calendar month.
    CostPerMonth,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Requests,
        Self::TokensPerMinute,
        Self::TokensPerDay,
        Self::Concurrent,
        Self::CostPerDay,
        Self::CostPerMonth,
    ];

    /// The name in configuration, error bodies and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::TokensPerMinute => "tokens_per_minute",
            Self::TokensPerDay => "tokens_per_day",
            Self::Concurrent => "concurrent",
            Self::CostPerDay => "cost_per_day",
            Self::CostPerMonth => "cost_per_month",
        }
    }

    /// The measure of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|measure| measure.name() == name)
    }

    /// The fault of a request that is over such a limit.
    pub const fn fault(self) -> FaultKind {
        match self {
            Self::Requests => FaultKind::RequestLimit,
            Self::TokensPerMinute | Self::TokensPerDay => FaultKind::TokenLimit,
            Self::Concurrent => FaultKind::ConcurrencyLimit,
            Self::CostPerDay | Self::CostPerMonth => FaultKind::BudgetExceeded,
        }
    }

    /// The day or month that it counts over, if it is one of those.
    pub const fn calendar_span(self) -> Option<Span> {
        match self {
            Self::TokensPerDay | Self::CostPerDay => Some(Span::Day),
            Self::CostPerMonth => Some(Span::Month),
            Self::Requests | Self::TokensPerMinute | Self::Concurrent => None,
        }
    }

    /// Whether it counts money.
    pub const fn is_money(self) -> bool {
        matches!(self, Self::CostPerDay | Self::CostPerMonth)
    }
}

/// Buckets of a sliding window. What was counted stays until its whole bucket has left the window, so that
/// never more than the limit falls into any stretch of this length; it may stay a bucket's length too long.
const BUCKETS: u64 = 60;
const DAY_MS: u64 = 86_400_000;

/// For how long something counts. Time is in milliseconds since 1970 and falls into numbered buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// For so many milliseconds.
    Sliding(u64),
    /// Until midnight (UTC).
    Day,
    /// Until the month ends (UTC).
    Month,
    /// Until it is given back.
    Held,
}

impl Span {
    /// The length of a bucket, where all have the same.
    pub const fn bucket_ms(self) -> Option<u64> {
        match self {
            Self::Sliding(width) => Some(if width > BUCKETS { width.div_ceil(BUCKETS) } else { 1 }),
            Self::Day => Some(DAY_MS),
            Self::Month | Self::Held => None,
        }
    }

    /// The bucket of this moment.
    pub fn bucket(self, now_ms: u64) -> u64 {
        match self.bucket_ms() {
            Some(length) => now_ms / length,
            None if self == Self::Month => month(now_ms),
            None => 0,
        }
    }

    /// How many buckets count, the present one included.
    pub const fn reach(self) -> u64 {
        match self {
            Self::Sliding(_) => BUCKETS + 1,
            Self::Day | Self::Month | Self::Held => 1,
        }
    }

    /// When a bucket counts no more. What is held ends by itself; whoever waits for that may ask again in a
    /// second.
    pub fn release_ms(self, bucket: u64, now_ms: u64) -> u64 {
        match self.bucket_ms() {
            Some(length) => (bucket + self.reach()) * length,
            None if self == Self::Month => end_of_month(now_ms),
            None => now_ms + 1000,
        }
    }
}

fn utc(now_ms: u64) -> jiff::Zoned {
    let now = i64::try_from(now_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    now.unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC)
}

/// Months since the year 0.
fn month(now_ms: u64) -> u64 {
    let now = utc(now_ms);
    u64::from(now.year().unsigned_abs()) * 12 + u64::from(now.month().unsigned_abs()) - 1
}

fn end_of_month(now_ms: u64) -> u64 {
    let now = utc(now_ms);
    let next = now.first_of_month().and_then(|first| first.checked_add(1.month())?.start_of_day());
    next.map_or(now_ms + 31 * DAY_MS, |next| next.timestamp().as_millisecond().unsigned_abs())
}

/// One counter with its bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Whose it is.
    pub scope: Scope,
    /// What it counts.
    pub measure: Measure,
    /// For how long.
    pub span: Span,
    /// Up to where. Money is in billionths.
    pub limit: u64,
}

/// Adds a meter for each bound in `limits`.
pub fn meters(scope: &Scope, limits: &Limits, into: &mut Vec<Meter>) {
    let money = |amount: Option<Money>| amount.map(Money::nanos);
    let requests = limits.requests.as_ref();
    let window = requests.map_or(0, |r| u64::from(r.window_s) * 1000);
    let bounds = [
        (Measure::Requests, Span::Sliding(window), requests.map(|r| u64::from(r.count))),
        (Measure::TokensPerMinute, Span::Sliding(60_000), limits.tokens_per_minute),
        (Measure::TokensPerDay, Span::Day, limits.tokens_per_day),
        (Measure::Concurrent, Span::Held, limits.concurrent.map(u64::from)),
        (Measure::CostPerDay, Span::Day, money(limits.cost_per_day)),
        (Measure::CostPerMonth, Span::Month, money(limits.cost_per_month)),
    ];
    for (measure, span, limit) in bounds {
        if let Some(limit) = limit {
            into.push(Meter { scope: scope.clone(), measure, span, limit });
        }
    }
}

/// What a request takes of each measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// 1, or 0 for one that never was.
    pub requests: u64,
    /// Tokens of prompt and reply.
    pub tokens: u64,
    /// Money.
    pub cost: Money,
    /// 1 while it runs.
    pub running: u64,
}

impl Amounts {
    /// The amount of one measure.
    pub const fn of(&self, measure: Measure) -> u64 {
        match measure {
            Measure::Requests => self.requests,
            Measure::TokensPerMinute | Measure::TokensPerDay => self.tokens,
            Measure::CostPerDay | Measure::CostPerMonth => self.cost.nanos(),
            Measure::Concurrent => self.running,
        }
    }
}

/// Whether a counter at `used` has room for `amount`. One that is full takes nothing, not even what costs
/// nothing: a budget that was overdrawn closes.
pub const fn fits(limit: u64, used: u64, amount: u64) -> bool {
    used < limit && amount <= limit - used
}

/// How a counter stands: after a reservation, or where it was refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// What has been counted.
    pub used: u64,
    /// Where the reservation was counted.
    pub bucket: u64,
    /// When nothing of it counts any more, in milliseconds from now.
    pub resets_in_ms: u64,
}

/// What came of a reservation. Readings stand in the order of the meters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All meters had room, and have counted it.
    Granted(Vec<Reading>),
    /// One had none, and none has counted it.
    Refused {
        /// Which one; of several, the one that takes longest.
        meter: usize,
        /// When there will be room, in milliseconds; `None` where the request alone is more than the limit.
        wait_ms: Option<u64>,
        /// All of them.
        readings: Vec<Reading>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        text.parse::<Timestamp>().expect("a time").as_millisecond().unsigned_abs()
    }

    #[test]
    fn a_sliding_bucket_counts_for_as_long_as_any_of_it_is_in_the_window() {
        for width in [1, 7, 59, 60, 61, 1000, 60_000, 86_400_000] {
            let span = Span::Sliding(width);
            for now in [0, 1, 999, 12_345_678_901] {
                let released = span.release_ms(span.bucket(now), now);
                assert!(released > now + width, "{width} at {now}");
                assert!(span.bucket(released) == span.bucket(now) + span.reach());
                assert!(span.bucket(released - 1) < span.bucket(now) + span.reach());
            }
        }
    }

    #[test]
    fn days_and_months_end_by_the_calendar() {
        let now = at("2028-02-29T23:59:59.999Z");
        assert_eq!(Span::Day.release_ms(Span::Day.bucket(now), now), at("2028-03-01T00:00:00Z"));
        assert_eq!(Span::Month.release_ms(Span::Month.bucket(now), now), at("2028-03-01T00:00:00Z"));
        assert_eq!(Span::Month.bucket(now + 1), Span::Month.bucket(now) + 1);
        let december = at("2026-12-31T12:00:00Z");
        assert_eq!(Span::Month.release_ms(0, december), at("2027-01-01T00:00:00Z"));
        assert_eq!(Span::Month.bucket(at("2027-01-01T00:00:00Z")), Span::Month.bucket(december) + 1);
    }

    #[test]
    fn a_full_counter_takes_nothing_and_an_empty_one_all_of_its_limit() {
        assert!(fits(5, 0, 5) && fits(5, 4, 1) && fits(5, 4, 0));
        assert!(!fits(5, 5, 0) && !fits(5, 9, 0) && !fits(5, 4, 2) && !fits(0, 0, 0));
        assert!(!fits(u64::MAX, 1, u64::MAX));
    }

    #[test]
    fn every_bound_is_a_meter() {
        let limits = Limits {
            requests: Some(crate::limits::RequestLimit { count: 3, window_s: 60 }),
            cost_per_month: Some(Money::from_nanos(7)),
            ..Limits::default()
        };
        let mut found = Vec::new();
        meters(&Scope::Team("lab".into()), &limits, &mut found);
        let seen: Vec<_> = found.iter().map(|m| (m.measure.name(), m.span, m.limit)).collect();
        assert_eq!(seen, [("requests", Span::Sliding(60_000), 3), ("cost_per_month", Span::Month, 7)]);
    }
}
