//! `synapse incident`: lists, shows and exports what was found in requests and replies.

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use synapse_core::{incident::Incident, store::incidents::IncidentFilter};
use synapse_store::place::Stores;

use super::{
    filter::SliceArgs,
    location::SharedArgs,
    output::{Output, csv, fields, print, table},
    time::{moment, relative},
};

/// Incidents that an export reads at once.
const PAGE: u32 = 500;

#[derive(Args, Debug)]
pub(super) struct IncidentArgs {
    #[command(flatten)]
    pub(super) shared: SharedArgs,
    #[command(subcommand)]
    verb: IncidentVerb,
}

#[derive(Debug, Subcommand)]
enum IncidentVerb {
    /// List incidents, newest first
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// How many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Show one incident: categories, counts and places, never the text
    Show {
        /// Its id, as replies and the access log name it
        id: String,
    },
    /// Write all incidents that fit, newest first
    Export {
        #[command(flatten)]
        filter: FilterArgs,
        /// One JSON document a line, or a table for spreadsheets
        #[arg(long, value_enum, default_value_t = Format::Jsonl)]
        format: Format,
    },
}

/// How an export is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// One JSON document a line
    Jsonl,
    /// One finding a line, with a header
    Csv,
}

#[derive(Args, Debug)]
struct FilterArgs {
    #[command(flatten)]
    slice: SliceArgs,
    /// Only with this strongest action
    #[arg(long, value_parser = ["alert", "redact", "block"])]
    action: Option<String>,
    /// Only with this worst severity
    #[arg(long, value_parser = ["low", "medium", "high", "critical"])]
    severity: Option<String>,
    /// Only with a finding of this category, such as us_ssn
    #[arg(long)]
    category: Option<String>,
}

impl FilterArgs {
    fn into_filter(self) -> IncidentFilter {
        let Self { slice: SliceArgs { since, until, team, key }, action, severity, category } = self;
        IncidentFilter { since, until, team, key, action, severity, category, before: None }
    }
}

pub(super) async fn run(args: IncidentArgs, output: Output) -> anyhow::Result<()> {
    let store = args.shared.location.open().await?;
    let done = act(&*store, args.verb, output).await;
    store.close().await;
    done
}

async fn act(store: &dyn Stores, verb: IncidentVerb, output: Output) -> anyhow::Result<()> {
    match verb {
        IncidentVerb::List { filter, limit } => {
            list(&store.list_incidents(&filter.into_filter(), limit).await?, output)
        }
        IncidentVerb::Show { id } => {
            let incident = store.get_incident(&id).await?;
            Ok(output.result(&incident, |incident| fields(&describe(incident)))?)
        }
        IncidentVerb::Export { filter, format } => export(store, filter.into_filter(), format).await,
    }
}

fn list(incidents: &[Incident], output: Output) -> anyhow::Result<()> {
    if incidents.is_empty() {
        output.note("There is no such incident.")?;
    }
    let now = Timestamp::now();
    let row = |incident: &Incident| {
        [
            incident.id.clone(),
            relative(incident.at, now),
            text(incident.team.as_ref()),
            text(incident.key.as_ref()),
            incident.action.clone(),
            incident.severity.clone(),
            categories(incident),
        ]
    };
    Ok(output.result(incidents, |incidents| match incidents {
        [] => String::new(),
        _ => {
            let rows: Vec<_> = incidents.iter().map(row).collect();
            table(["ID", "WHEN", "TEAM", "KEY", "ACTION", "SEVERITY", "FOUND"], &rows)
        }
    })?)
}

fn text(name: Option<&impl ToString>) -> String {
    name.map(ToString::to_string).unwrap_or_default()
}

fn categories(incident: &Incident) -> String {
    let each = incident.findings.iter().map(|finding| format!("{} × {}", finding.category, finding.count));
    each.collect::<Vec<_>>().join(", ")
}

fn describe(incident: &Incident) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("id", incident.id.clone()),
        ("when", moment(incident.at, Timestamp::now())),
        ("request", incident.request.to_string()),
        ("team", text(incident.team.as_ref())),
        ("key", text(incident.key.as_ref())),
        ("model", text(incident.model.as_ref())),
        ("policy", format!("{} ({})", incident.policy, incident.policy_version)),
        ("action", incident.action.clone()),
        ("severity", incident.severity.clone()),
    ];
    for found in &incident.findings {
        let places = found.paths.join(", ");
        let line = format!(
            "{} × {} in the {}, {}: {places}",
            found.category, found.count, found.direction, found.action
        );
        lines.push(("found", line));
    }
    lines
}

async fn export(store: &dyn Stores, mut filter: IncidentFilter, format: Format) -> anyhow::Result<()> {
    if matches!(format, Format::Csv) {
        print(
            "id,at,request,team,key,model,policy,policy_version,direction,category,severity,action,count,paths\n",
        )?;
    }
    loop {
        let page = store.list_incidents(&filter, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        filter.before = Some(last.id.clone());
        let mut lines = String::new();
        for incident in &page {
            match format {
                Format::Jsonl => lines.push_str(&(serde_json::to_string(incident)? + "\n")),
                Format::Csv => lines.push_str(&rows(incident)),
            }
        }
        print(&lines)?;
    }
}

fn rows(incident: &Incident) -> String {
    let row = |found: &synapse_core::incident::IncidentFinding| {
        let cells = [
            incident.id.clone(),
            incident.at.to_string(),
            incident.request.to_string(),
            text(incident.team.as_ref()),
            text(incident.key.as_ref()),
            text(incident.model.as_ref()),
            incident.policy.to_string(),
            incident.policy_version.clone(),
            found.direction.clone(),
            found.category.clone(),
            found.severity.clone(),
            found.action.clone(),
            found.count.to_string(),
            found.paths.join(" "),
        ];
        cells.map(|cell| csv(&cell)).join(",") + "\n"
    };
    incident.findings.iter().map(row).collect()
}
