//! The ways in which providers say when to come back. Nothing here decides that they do.

use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use serde::{Deserialize, Serialize};

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");

/// How a refusal says when to come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryForm {
    /// `retry-after` in whole seconds, rounded up.
    #[default]
    Seconds,
    /// `retry-after-ms`, as OpenAI and Azure send it.
    Millis,
    /// `retry-after` as a date.
    Date,
    /// `x-ratelimit-reset-requests` as OpenAI writes durations: `1s`, `6m0s`, `120ms`.
    Reset,
}

impl RetryForm {
    /// Says in `headers` to come back after `wait`.
    pub(crate) fn tell(self, wait: Duration, headers: &mut HeaderMap) {
        let (name, value) = match self {
            Self::Seconds => (RETRY_AFTER, whole_seconds(wait).to_string()),
            Self::Millis => (RETRY_AFTER_MS, wait.as_millis().to_string()),
            Self::Date => (RETRY_AFTER, date(wait)),
            Self::Reset => {
                headers.insert(REMAINING, HeaderValue::from_static("0"));
                (RESET, go_duration(wait))
            }
        };
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// The date `wait` from now, rounded up to a second.
fn date(wait: Duration) -> String {
    let wait = SignedDuration::from_secs(i64::try_from(whole_seconds(wait)).unwrap_or(i64::MAX));
    let at = Timestamp::now().saturating_add(wait).unwrap_or(Timestamp::MAX);
    rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap_or_default()
}

fn go_duration(wait: Duration) -> String {
    let (seconds, millis) = (wait.as_secs(), wait.subsec_millis());
    let fraction = if millis == 0 { String::new() } else { format!(".{millis:03}") };
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) => format!("{millis}ms"),
        (0, 0, s) => format!("{s}{fraction}s"),
        (0, m, s) => format!("{m}m{s}{fraction}s"),
        (h, m, s) => format!("{h}h{m}m{s}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (millis, written) in
            [(120, "120ms"), (1_000, "1s"), (1_500, "1.500s"), (360_000, "6m0s"), (3_661_000, "1h1m1s")]
        {
            assert_eq!(go_duration(Duration::from_millis(millis)), written);
        }
    }

    #[test]
    fn a_date_has_the_form_of_http() {
        let mut headers = HeaderMap::new();
        RetryForm::Date.tell(Duration::from_secs(90), &mut headers);
        let date = headers["retry-after"].to_str().unwrap();
        assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    }

    #[test]
    fn seconds_are_rounded_up() {
        let mut headers = HeaderMap::new();
        RetryForm::Seconds.tell(Duration::from_millis(1_001), &mut headers);
        assert_eq!(headers["retry-after"], "2");
    }
}
