//! The words for a request that is over a limit: which one, whose, the arithmetic, and when there is room.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use synapse_core::{
    error::{Fault, FaultKind},
    ledger::{Amounts, Measure, Meter, Reading, Scope, Span},
    limits::Money,
};

/// The fault for a meter without room.
pub(crate) fn over(
    meter: &Meter,
    reading: &Reading,
    amounts: &Amounts,
    wait_ms: Option<u64>,
    currency: &str,
    now: Timestamp,
) -> Fault {
    let requested = amounts.of(meter.measure);
    let amount = |count: u64| match meter.measure {
        Measure::CostPerDay | Measure::CostPerMonth => format!("{} {currency}", Money::from_nanos(count)),
        _ => count.to_string(),
    };
    let whose = match &meter.scope {
        Scope::Key(_) => "This API key".to_owned(),
        Scope::Team(team) => format!("The team `{team}`"),
    };
    let sum = reading.used.saturating_add(requested);
    let mut message = format!(
        "{whose} may have {} {}: {} used + {} requested = {}.",
        amount(meter.limit),
        what(meter),
        amount(reading.used),
        amount(requested),
        amount(sum),
    );
    let seconds = wait_ms.map(|ms| ms.div_ceil(1000).max(1));
    let resets_at = seconds.and_then(|seconds| {
        let wait = Duration::from_secs(seconds);
        now.checked_add(wait).ok()?.round(jiff::Unit::Second).ok()
    });
    match (seconds, resets_at) {
        (Some(seconds), Some(_)) if meter.measure == Measure::Concurrent => {
            message.push_str(&format!(" Wait for one of them to end; try again in {seconds} s."));
        }
        (Some(seconds), Some(at)) => {
            message.push_str(&format!(" There is room for this request at {at}, in {seconds} s."));
        }
        _ => message.push_str(" This request alone is more than that, now and later."),
    }
    let mut fault = Fault::new(meter.measure.fault(), message).detail(
        "details",
        json!({
            "scope": meter.scope.level(),
            "limit_name": meter.measure.name(),
            "limit": number(meter.measure, meter.limit),
            "used": number(meter.measure, reading.used),
            "requested": number(meter.measure, requested),
            "resets_at": resets_at.map(|at| at.to_string()),
            "resets_in_s": seconds,
        }),
    );
    fault.retry_after = seconds.map(Duration::from_secs);
    fault
}

/// Money as a decimal text, as it has more digits than some readers' numbers.
fn number(measure: Measure, count: u64) -> Value {
    if measure.is_money() { Money::from_nanos(count).to_string().into() } else { count.into() }
}

fn what(meter: &Meter) -> String {
    match (meter.measure, meter.span) {
        (Measure::Requests, Span::Sliding(ms)) => format!("requests in {} s", ms / 1000),
        (Measure::Requests, _) => "requests".to_owned(),
        (Measure::TokensPerMinute, _) => "tokens in a minute".to_owned(),
        (Measure::TokensPerDay, _) => "tokens a day".to_owned(),
        (Measure::Concurrent, _) => "requests at once".to_owned(),
        (Measure::CostPerDay, _) => "a day to spend".to_owned(),
        (Measure::CostPerMonth, _) => "a month to spend".to_owned(),
    }
}

/// The fault for a request whose counters cannot be reached.
pub(crate) fn unavailable() -> Fault {
    let message =
        "The counters of this key's limits cannot be reached, and no request goes uncounted. Try again.";
    Fault::new(FaultKind::LimitsUnavailable, message).retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(measure: Measure, span: Span, limit: u64, used: u64, wait_ms: Option<u64>) -> Fault {
        let meter = Meter { scope: Scope::Team("lab".into()), measure, span, limit };
        let amounts = Amounts { requests: 1, tokens: 300, cost: Money::from_nanos(2_500_000), running: 1 };
        let now = "2026-11-21T12:00:00.4Z".parse().expect("a time");
        over(&meter, &Reading { used, bucket: 0, resets_in_ms: 0 }, &amounts, wait_ms, "EUR", now)
    }

    #[test]
    fn a_refusal_says_whose_limit_it_is_does_the_sum_and_names_the_time() {
        let fault = refusal(Measure::Requests, Span::Sliding(60_000), 100, 100, Some(11_400));
        assert_eq!(
            fault.message,
            "The team `lab` may have 100 requests in 60 s: 100 used + 1 requested = 101. \
             There is room for this request at 2026-11-21T12:00:12Z, in 12 s."
        );
        assert_eq!((fault.kind, fault.retry_after), (FaultKind::RequestLimit, Some(Duration::from_secs(12))));
        let (name, details) = &fault.details[0];
        assert_eq!(*name, "details");
        assert_eq!(
            (&details["scope"], &details["limit_name"], &details["used"]),
            (&json!("team"), &json!("requests"), &json!(100))
        );
        assert_eq!(
            (&details["resets_at"], &details["resets_in_s"]),
            (&json!("2026-11-21T12:00:12Z"), &json!(12))
        );
    }

    #[test]
    fn money_is_told_in_its_currency() {
        let fault = refusal(Measure::CostPerDay, Span::Day, 1_000_000_000, 999_000_000, Some(1000));
        assert!(fault.message.starts_with("The team `lab` may have 1 EUR a day to spend: 0.999 EUR used + 0.0025 EUR requested = 1.0015 EUR."), "{}", fault.message);
        assert_eq!(fault.details[0].1["requested"], "0.0025");
    }

    #[test]
    fn nobody_is_told_to_wait_for_what_never_comes() {
        let fault = refusal(Measure::TokensPerMinute, Span::Sliding(60_000), 200, 0, None);
        assert!(
            fault.message.ends_with("This request alone is more than that, now and later."),
            "{}",
            fault.message
        );
        assert_eq!(fault.retry_after, None);
        assert_eq!(fault.details[0].1["resets_at"], Value::Null);
    }
}
