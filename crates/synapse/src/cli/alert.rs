//! `synapse alert`: lists and shows what was unusual, and says that somebody has seen to it.

use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand, builder::PossibleValuesParser};
use jiff::Timestamp;
use serde::Serialize;
use synapse_core::{
    alert::{Alert, Rule, Severity, State},
    store::alerts::{AlertFilter, Delivery, Progress},
};
use synapse_store::place::Stores;

use super::{
    filter::SliceArgs,
    location::SharedArgs,
    output::{Output, fields, table},
    time::{moment, parse_duration, relative},
};
use crate::audit::change::Change;

#[derive(Args, Debug)]
pub(super) struct AlertArgs {
    #[command(flatten)]
    pub(super) shared: SharedArgs,
    #[command(subcommand)]
    verb: AlertVerb,
}

#[derive(Debug, Subcommand)]
enum AlertVerb {
    /// List alerts, newest first
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// How many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Show one alert: its numbers, and what became of it
    Show {
        /// Its id
        id: String,
    },
    /// Say that somebody has seen to an alert
    Ack {
        /// Its id
        id: String,
    },
    /// Tell nobody of an alert and its like (the same rule of the same key, team or network) for a while
    Mute {
        /// Its id
        id: String,
        /// For how long
        #[arg(long = "for", value_name = "SPAN", default_value = "24h", value_parser = parse_duration)]
        span: Duration,
    },
}

#[derive(Args, Debug)]
struct FilterArgs {
    #[command(flatten)]
    slice: SliceArgs,
    /// Only of this rule
    #[arg(long, value_parser = PossibleValuesParser::new(Rule::ALL.iter().map(|rule| rule.name())))]
    rule: Option<String>,
    /// Only of this severity
    #[arg(long, value_parser = PossibleValuesParser::new(Severity::ALL.iter().map(|one| one.name())))]
    severity: Option<String>,
    /// Only in this state
    #[arg(long, value_parser = State::NAMES)]
    state: Option<String>,
}

impl FilterArgs {
    fn into_filter(self) -> AlertFilter {
        let Self { slice: SliceArgs { since, until, team, key }, rule, severity, state } = self;
        let rule = rule.as_deref().and_then(Rule::of);
        let severity = severity.as_deref().and_then(Severity::of);
        AlertFilter { since, until, team, key, rule, severity, state, before: None }
    }
}

/// An alert, and what became of it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    alert: Alert,
    deliveries: Vec<Delivery>,
}

pub(super) async fn run(args: AlertArgs, output: Output) -> anyhow::Result<()> {
    let location = &args.shared.location;
    let store = location.open().await?;
    let done = act(&*store, args.verb, output).await;
    location.finish(store, done).await
}

async fn act(store: &dyn Stores, verb: AlertVerb, output: Output) -> anyhow::Result<Option<Change>> {
    let (action, alert) = match verb {
        AlertVerb::List { filter, limit } => {
            list(&store.list_alerts(&filter.into_filter(), limit).await?, output)?;
            return Ok(None);
        }
        AlertVerb::Show { id } => {
            let alert = store.get_alert(&id).await?;
            show(store, alert, output).await?;
            return Ok(None);
        }
        AlertVerb::Ack { id } => {
            ("alert.acknowledged", store.acknowledge_alert(&id, Timestamp::now()).await?)
        }
        AlertVerb::Mute { id, span } => {
            let until = Timestamp::now().checked_add(span).context("--for lies too far in the future")?;
            ("alert.muted", store.mute_alert(&id, until).await?)
        }
    };
    let change = Change::of_alert(action, &alert);
    show(store, alert, output).await?;
    Ok(Some(change))
}

async fn show(store: &dyn Stores, alert: Alert, output: Output) -> anyhow::Result<()> {
    let deliveries = store.list_deliveries(&alert.id).await?;
    Ok(output.result(&Shown { alert, deliveries }, |shown| fields(&describe(shown)))?)
}

fn list(alerts: &[Alert], output: Output) -> anyhow::Result<()> {
    if alerts.is_empty() {
        output.note("There is no such alert.")?;
    }
    let now = Timestamp::now();
    let row = |alert: &Alert| {
        [
            alert.id.clone(),
            relative(alert.at, now),
            alert.severity.name().to_owned(),
            alert.state.name().to_owned(),
            alert.title.clone(),
        ]
    };
    Ok(output.result(alerts, |alerts| match alerts {
        [] => String::new(),
        _ => {
            let rows: Vec<_> = alerts.iter().map(row).collect();
            table(["ID", "WHEN", "SEVERITY", "STATE", "WHAT"], &rows)
        }
    })?)
}

fn describe(shown: &Shown) -> Vec<(&'static str, String)> {
    let (alert, now) = (&shown.alert, Timestamp::now());
    let mut lines = vec![
        ("id", alert.id.clone()),
        ("when", moment(alert.at, now)),
        ("rule", alert.rule.name().to_owned()),
        ("severity", alert.severity.name().to_owned()),
    ];
    let optional = [
        ("key", alert.key.as_ref().map(ToString::to_string)),
        ("team", alert.team.as_ref().map(ToString::to_string)),
        ("network", alert.source.clone()),
    ];
    lines.extend(optional.into_iter().filter_map(|(label, value)| Some((label, value?))));
    lines.push(("what", alert.title.clone()));
    lines.push(("numbers", alert.explanation.clone()));
    lines.push((
        "state",
        match alert.state {
            State::Open => "open".to_owned(),
            State::Acknowledged { at } => format!("acknowledged {}", moment(at, now)),
            State::Muted { until } => format!("muted until {}", moment(until, now)),
        },
    ));
    for delivery in &shown.deliveries {
        let error = delivery.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        let next = match delivery.progress {
            Progress::Pending => format!(", next {}", relative(delivery.next_at, now)),
            Progress::Delivered | Progress::Dead => String::new(),
        };
        let (progress, attempts) = (delivery.progress.name(), delivery.attempts);
        lines
            .push(("webhook", format!("{} {progress}, attempts: {attempts}{next}{error}", delivery.webhook)));
    }
    lines
}
