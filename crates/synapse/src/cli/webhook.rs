//! `synapse webhook`: lists the webhooks of the configuration and how much they are owed, and tries one.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use synapse_core::{
    alert::{Alert, Rule, Severity, State},
    config::snapshot::Webhook,
    store::alerts::Progress,
};

use super::{
    location::SharedArgs,
    output::{Output, table},
};
use crate::{
    audit::change::Change,
    webhook::{Failure, Http, Message, Post},
};

#[derive(Args, Debug)]
pub(super) struct WebhookArgs {
    #[command(flatten)]
    pub(super) shared: SharedArgs,
    #[command(subcommand)]
    verb: WebhookVerb,
}

#[derive(Debug, Subcommand)]
enum WebhookVerb {
    /// List the webhooks of the configuration, and what they are owed
    List,
    /// Send a test alert to a webhook, and say what it answered
    Test {
        /// The webhook's name
        name: String,
    },
}

/// A webhook as it is listed: its path and its secret are nobody's business.
#[derive(Serialize)]
struct Listed {
    name: String,
    url: String,
    format: &'static str,
    rules: Vec<Rule>,
    min_severity: Severity,
    pending: u64,
    delivered: u64,
    dead: u64,
}

/// What became of a test.
#[derive(Serialize)]
struct Answer<'w> {
    webhook: &'w str,
    status: u16,
}

pub(super) async fn run(args: WebhookArgs, output: Output) -> anyhow::Result<()> {
    let snapshot = args.shared.location.snapshot()?;
    match args.verb {
        WebhookVerb::List => list(&args.shared, &snapshot.webhooks, output).await,
        WebhookVerb::Test { name } => test(&args.shared, &snapshot.webhooks, &name, output).await,
    }
}

async fn list(shared: &SharedArgs, webhooks: &[Webhook], output: Output) -> anyhow::Result<()> {
    let store = shared.location.open().await?;
    let counted = store.count_deliveries().await;
    store.close().await;
    let counted = counted?;
    let count = |name: &str, progress| {
        let found = counted.iter().find(|(webhook, how, _)| webhook == name && *how == progress);
        found.map_or(0, |(.., count)| *count)
    };
    let listed: Vec<_> = webhooks
        .iter()
        .map(|webhook| Listed {
            name: webhook.name.clone(),
            url: webhook.url.to_string(),
            format: webhook.format.name(),
            rules: webhook.rules.clone(),
            min_severity: webhook.min_severity,
            pending: count(&webhook.name, Progress::Pending),
            delivered: count(&webhook.name, Progress::Delivered),
            dead: count(&webhook.name, Progress::Dead),
        })
        .collect();
    if listed.is_empty() {
        output.note("The configuration names no webhook (alerts.webhooks).")?;
    }
    let row = |listed: &Listed| {
        let counts = [listed.pending, listed.delivered, listed.dead].map(|count| count.to_string());
        let [pending, delivered, dead] = counts;
        [listed.name.clone(), listed.url.clone(), listed.format.to_owned(), pending, delivered, dead]
    };
    Ok(output.result(&listed, |listed| match &listed[..] {
        [] => String::new(),
        listed => {
            let rows: Vec<_> = listed.iter().map(row).collect();
            table(["NAME", "URL", "FORMAT", "PENDING", "DELIVERED", "DEAD"], &rows)
        }
    })?)
}

/// What leaves this machine stands in the audit log, whether or not it arrived.
async fn test(shared: &SharedArgs, webhooks: &[Webhook], name: &str, output: Output) -> anyhow::Result<()> {
    let Some(webhook) = webhooks.iter().find(|webhook| webhook.name == name) else {
        let known: Vec<_> = webhooks.iter().map(|webhook| webhook.name.as_str()).collect();
        bail!("the configuration has no webhook {name:?}; it has: {}", known.join(", "));
    };
    let store = shared.location.open_or_create().await?;
    let answered = post(webhook).await;
    shared.location.finish(store, Ok(Some(Change::of("webhook.tested", name)))).await?;
    let status = answered.with_context(|| format!("webhook {name} ({})", webhook.url))?;
    let answer = Answer { webhook: name, status };
    Ok(output.result(&answer, |answer| format!("{} answered {}", answer.webhook, answer.status))?)
}

async fn post(webhook: &Webhook) -> Result<u16, Failure> {
    let now = Timestamp::now();
    let alert = Alert {
        id: Alert::new_id(),
        at: now,
        rule: webhook.rules.first().copied().unwrap_or(Rule::UsageSpike),
        severity: webhook.min_severity,
        key: None,
        team: None,
        source: None,
        title: "This is a test".to_owned(),
        explanation: "Somebody tried whether alerts of Synapse arrive here. Nothing is wrong.".to_owned(),
        state: State::Open,
    };
    Http::default().post(webhook, &Message::new(&alert, webhook, now)).await
}
