//! Spans and moments as people write and read them.

use std::{str::FromStr, time::Duration};

use anyhow::{Context, bail};
use jiff::{Span, SpanRelativeTo, Timestamp};

/// Reads `90d`, `24h`, `15m`, `1d 12h`; a day has 24 hours.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let help = "expected a span of time such as 90d, 24h or 15m";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let span: Span = text.parse().map_err(|_| help)?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| help)?;
    Duration::try_from(signed).map_err(|_| help.to_owned())
}

/// When something ends, as given on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    After(Duration),
    At(Timestamp),
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let moment = || text.parse().map(Self::At);
        parse_duration(text)
            .map(Self::After)
            .or_else(|_| moment())
            .map_err(|_| "expected a span such as 90d, or a moment such as 2030-01-31T12:00:00Z".into())
    }
}

/// A moment that has been, as given on the command line.
pub(super) fn past(text: &str) -> Result<Timestamp, String> {
    let ago = |span: Duration| Timestamp::now().checked_sub(span).map_err(|error| error.to_string());
    let day = || text.parse::<jiff::civil::Date>().and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC));
    parse_duration(text)
        .and_then(ago)
        .or_else(|_| text.parse())
        .or_else(|_| day().map(|day| day.timestamp()))
        .map_err(|_| {
            "expected a span such as 24h, a day such as 2026-01-31, or a moment such as 2026-01-31T12:00:00Z"
                .into()
        })
}

impl Expiry {
    /// The moment, which lies after `now`.
    pub(super) fn resolve(self, now: Timestamp) -> anyhow::Result<Timestamp> {
        let end = match self {
            Self::At(moment) => moment,
            Self::After(span) => now.checked_add(span).context("the expiry lies too far in the future")?,
        };
        if end <= now {
            bail!("the expiry {end} lies in the past; to end a key now, revoke or disable it");
        }
        Ok(end)
    }
}

/// A moment, and how far it is from `now`.
pub(super) fn moment(at: Timestamp, now: Timestamp) -> String {
    format!("{at:.0} ({})", relative(at, now))
}

/// `then` as seen from `now`, in its largest unit: `in 3 days`, `2 hours ago`, `now`.
pub(super) fn relative(then: Timestamp, now: Timestamp) -> String {
    const UNITS: [(u64, u64, &str); 3] = [(1, 60, "second"), (60, 60, "minute"), (3600, 24, "hour")];
    let seconds = then.duration_since(now).as_secs();
    // To the nearest unit: a key made for 90 days has not 89 left a second later.
    let count_of = |unit: u64| (seconds.unsigned_abs() + unit / 2) / unit;
    let smaller = UNITS.iter().find(|(unit, limit, _)| count_of(*unit) < *limit);
    let (unit, name) = smaller.map_or((86_400, "day"), |&(unit, _, name)| (unit, name));
    let count = count_of(unit);
    if count == 0 {
        return "now".into();
    }
    let plural = if count == 1 { "" } else { "s" };
    if seconds < 0 { format!("{count} {name}{plural} ago") } else { format!("in {count} {name}{plural}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn spans_are_read_in_the_usual_units() {
        for (text, seconds) in [
            ("90d", 7_776_000),
            ("24h", 86_400),
            ("15m", 900),
            ("30s", 30),
            ("2w", 1_209_600),
            ("1d 12h", 129_600),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_span_is_refused_with_an_example() {
        for text in ["", "90", "d", "90x", "-5d", "5d ago", "1e3d", "99999999999999999999d", "2mo"] {
            assert!(parse_duration(text).is_err_and(|help| help.contains("90d")), "{text}");
        }
    }

    #[test]
    fn an_expiry_is_a_span_from_now_or_a_moment() {
        let resolve =
            |text: &str| text.parse::<Expiry>().map(|expiry| expiry.resolve(NOW).map_err(|e| e.to_string()));
        let moment = |text: &str| Ok(Ok(text.parse::<Timestamp>().expect("a time")));
        assert_eq!(resolve("90d"), moment("1970-04-01T00:00:00Z"));
        assert_eq!(resolve("2030-01-31T12:00:00+01:00"), moment("2030-01-31T11:00:00Z"));
        assert!(resolve("tomorrow").is_err_and(|help| help.contains("2030-01-31T12:00:00Z")));
    }

    #[test]
    fn an_expiry_in_the_past_or_beyond_all_time_is_refused() {
        for text in ["0s", "1969-12-31T23:59:59Z", "7000000d"] {
            assert!(text.parse::<Expiry>().expect("an expiry").resolve(NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn distances_are_told_in_their_largest_unit() {
        for (seconds, text) in [
            (0, "now"),
            (59, "in 59 seconds"),
            (60, "in 1 minute"),
            (3599, "in 1 hour"),
            (86_399, "in 1 day"),
            (-3 * 3600, "3 hours ago"),
            (90 * 86_400 - 1, "in 90 days"),
            (-86_400, "1 day ago"),
        ] {
            let then = Timestamp::from_second(seconds).expect("a time");
            assert_eq!(relative(then, NOW), text);
        }
    }
}
