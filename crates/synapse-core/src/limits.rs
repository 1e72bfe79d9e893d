//! What a key or a team may spend: requests, tokens, money. Counting is done elsewhere.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bounds; one that is absent does not bind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests within a sliding window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<RequestLimit>,
    /// Tokens, of prompts and replies together, within a sliding minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// The same within a day (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Requests at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u32>,
    /// Money within a day (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_day: Option<Money>,
    /// Money within a calendar month (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_month: Option<Money>,
}

impl Limits {
    /// Whether nothing is bounded.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// So many requests within any stretch of time this long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestLimit {
    /// How many.
    pub count: u32,
    /// Within how many seconds.
    pub window_s: u32,
}

impl RequestLimit {
    /// The stretch of time.
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.window_s.into())
    }
}

/// An amount in billionths of the operator's currency, so that the price of one token is a whole number.
/// Written as a decimal number of units: `12.5`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(u64);

/// Billionths in one unit of the currency.
const NANOS: u64 = 1_000_000_000;

impl Money {
    /// From billionths of a unit.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// In billionths of a unit.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// As a number of units, for metrics.
    pub fn units(self) -> f64 {
        self.0 as f64 / NANOS as f64
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09}", self.0 / NANOS, self.0 % NANOS);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Not an amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an amount is a number such as `12.5`, not negative, with at most nine digits after the point")]
pub struct NotMoney;

impl FromStr for Money {
    type Err = NotMoney;

    fn from_str(text: &str) -> Result<Self, NotMoney> {
        let (units, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if units.is_empty() || !digits(units) || !digits(fraction) || fraction.len() > 9 {
            return Err(NotMoney);
        }
        let units: u64 = units.parse().map_err(|_| NotMoney)?;
        let nanos: u64 = format!("{fraction:0<9}").parse().map_err(|_| NotMoney)?;
        units.checked_mul(NANOS).and_then(|whole| whole.checked_add(nanos)).map(Self).ok_or(NotMoney)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_written_as_it_is_read() {
        for (text, nanos) in [("0", 0), ("12.5", 12_500_000_000), ("0.000000001", 1), ("7", 7 * NANOS)] {
            let money: Money = text.parse().expect("an amount");
            assert_eq!((money.nanos(), money.to_string().as_str()), (nanos, text));
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for bad in ["", "-1", "1e3", ".5", "1,5", "0.0000000001", "99999999999999999999"] {
            assert_eq!(bad.parse::<Money>(), Err(NotMoney), "{bad}");
        }
    }
}
