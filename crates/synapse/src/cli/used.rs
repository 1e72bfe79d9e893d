//! What a key or a team has used of what it may spend in a day or a month, as far as the data folder knows it.

use anyhow::Context;
use jiff::Timestamp;
use serde::Serialize;
use synapse_core::{
    ledger::{Measure, Scope},
    limits::Money,
    store::counters::{Counter, CounterStore},
};
use synapse_store::sqlite::{COUNTERS_FILE, SqliteCounters};

use super::{
    location::StoreLocation,
    output::{Output, fields},
};

/// Of what is counted at all; what no limit bounds is not.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Used {
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_day: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_per_day: Option<Money>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_per_month: Option<Money>,
}

/// Where the counts are.
pub(super) enum Usage {
    Here(Used),
    InRedis,
}

/// A record together with what was used.
#[derive(Serialize)]
struct WithUsed<'i, I> {
    #[serde(flatten)]
    info: &'i I,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<&'i Used>,
}

impl Usage {
    /// Reads it. A gateway saves its counts once a second.
    pub(super) async fn of(scope: &Scope, location: &StoreLocation) -> anyhow::Result<Self> {
        if location.config.is_some() && location.snapshot()?.redis_url.is_some() {
            return Ok(Self::InRedis);
        }
        let file = location.data_dir()?.join(COUNTERS_FILE);
        let Some(counters) = SqliteCounters::open_existing(file).await? else {
            return Ok(Self::Here(Used::default()));
        };
        let now = u64::try_from(Timestamp::now().as_millisecond()).context("the clock is before 1970")?;
        Ok(Self::Here(Used::among(&counters.load_counters().await?, scope, now)))
    }

    /// Shows a record with this.
    pub(super) fn show<I: Serialize>(
        &self,
        info: &I,
        describe: impl Fn(&I) -> Vec<(&'static str, String)>,
        output: Output,
    ) -> anyhow::Result<()> {
        let used = match self {
            Self::Here(used) if *used != Used::default() => Some(used),
            Self::Here(_) | Self::InRedis => None,
        };
        Ok(output.result(&WithUsed { info, used }, |shown| {
            let mut lines = describe(shown.info);
            lines.extend(self.describe());
            fields(&lines)
        })?)
    }

    /// As people read it, one labelled value a line; nothing where nothing is known.
    fn describe(&self) -> Vec<(&'static str, String)> {
        let used = match self {
            Self::InRedis => {
                return vec![("used", "counted in Redis, together with other gateways".to_owned())];
            }
            Self::Here(used) => used,
        };
        let tokens = used.tokens_per_day.map(|tokens| format!("{tokens} tokens"));
        let cost = |amount: Option<Money>| amount.map(|amount| format!("cost {amount}"));
        let today: Vec<_> = tokens.into_iter().chain(cost(used.cost_per_day)).collect();
        let lines = [
            ("used today", today.join(", ")),
            ("used this month", cost(used.cost_per_month).unwrap_or_default()),
        ];
        lines.into_iter().filter(|(_, text)| !text.is_empty()).collect()
    }
}

impl Used {
    fn among(counters: &[Counter], scope: &Scope, now_ms: u64) -> Self {
        let is_current = |counter: &&Counter| {
            counter.measure.calendar_span().is_some_and(|s| s.bucket(now_ms) == counter.bucket)
        };
        let mut used = Self::default();
        for counter in counters.iter().filter(|counter| counter.scope == *scope).filter(is_current) {
            match counter.measure {
                Measure::TokensPerDay => used.tokens_per_day = Some(counter.used),
                Measure::CostPerDay => used.cost_per_day = Some(Money::from_nanos(counter.used)),
                Measure::CostPerMonth => used.cost_per_month = Some(Money::from_nanos(counter.used)),
                Measure::Requests | Measure::TokensPerMinute | Measure::Concurrent => {}
            }
        }
        used
    }
}

#[cfg(test)]
mod tests {
    use synapse_core::ledger::Span;

    use super::*;

    #[test]
    fn only_what_was_counted_of_today_and_this_month_for_this_one_is_told() {
        let now = 1_800_000_000_000;
        let scope = Scope::Team("lab".into());
        let (day, month) = (Span::Day.bucket(now), Span::Month.bucket(now));
        let counter =
            |scope: &Scope, measure, bucket, used| Counter { scope: scope.clone(), measure, bucket, used };
        let counters = [
            counter(&scope, Measure::TokensPerDay, day, 7),
            counter(&scope, Measure::CostPerDay, day - 1, 1),
            counter(&scope, Measure::CostPerMonth, month, 2_500_000_000),
            counter(&Scope::Key("lab".into()), Measure::CostPerDay, day, 3),
        ];
        let usage = Usage::Here(Used::among(&counters, &scope, now));
        let told = [("used today", "7 tokens".to_owned()), ("used this month", "cost 2.5".to_owned())];
        assert_eq!(usage.describe(), told);
        assert_eq!(Usage::Here(Used::default()).describe(), []);
    }
}
