//! `synapse team`: makes teams, lists them, says what they may spend, switches them off and on.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use synapse_core::{
    id::TeamName,
    ledger::Scope,
    limits::Limits,
    store::teams::{Team, TeamChange},
};
use synapse_store::place::Stores;

use super::{
    bound::{self, Cleared, LIMITS, LimitArgs, TeamField},
    environment::CHANGE_FLAGS,
    location::{SharedArgs, StoreLocation},
    output::{Output, fields, table},
    time::relative,
    used::Usage,
};
use crate::audit::change::Change;

#[derive(Args, Debug)]
pub(super) struct TeamArgs {
    #[command(flatten)]
    pub(super) shared: SharedArgs,
    #[command(subcommand)]
    verb: TeamVerb,
}

#[derive(Debug, Subcommand)]
enum TeamVerb {
    /// Make a team
    Create {
        /// Its name, in any script; 1 to 128 characters
        name: TeamName,
        #[command(flatten)]
        limits: LimitArgs,
    },
    /// Change what all keys of a team may spend together
    #[command(group = bound::changes(&[&LIMITS, &["clear"]]))]
    Update {
        /// The team's name
        name: TeamName,
        #[command(flatten)]
        limits: LimitArgs,
        /// A limit to take away; repeat it for more
        #[arg(long, value_name = "FIELD", value_delimiter = ',', help_heading = CHANGE_FLAGS)]
        clear: Vec<TeamField>,
    },
    /// List all teams
    List,
    /// Show one team, and what its keys have used of its limits
    Show {
        /// The team's name
        name: TeamName,
    },
    /// Switch a team off: none of its keys works until it is enabled again
    Disable {
        /// The team's name
        name: TeamName,
    },
    /// Switch a team on again
    Enable {
        /// The team's name
        name: TeamName,
    },
}

pub(super) async fn run(args: TeamArgs, output: Output) -> anyhow::Result<()> {
    let location = &args.shared.location;
    let store = match args.verb {
        TeamVerb::Create { .. } => location.open_or_create().await?,
        _ => location.open().await?,
    };
    let done = act(&*store, location, args.verb, output).await;
    location.finish(store, done).await
}

async fn act(
    store: &dyn Stores,
    location: &StoreLocation,
    verb: TeamVerb,
    output: Output,
) -> anyhow::Result<Option<Change>> {
    let (action, team) = match verb {
        TeamVerb::List => {
            list(&store.list_teams().await?, output)?;
            return Ok(None);
        }
        TeamVerb::Create { name, limits } => {
            let limits = limits.change(&Cleared(Vec::new()))?.apply(Limits::default());
            ("team.created", store.create_team(&name, &limits).await?)
        }
        TeamVerb::Update { name, limits, clear } => {
            let limits = limits.change(&Cleared(clear.into_iter().map(Into::into).collect()))?;
            ("team.updated", store.update_team(&name, &TeamChange { disabled: None, limits }).await?)
        }
        TeamVerb::Show { name } => {
            let team = store.get_team(&name).await?;
            let usage = Usage::of(&Scope::Team(name), location).await?;
            usage.show(&team, describe, output)?;
            return Ok(None);
        }
        TeamVerb::Disable { name } => ("team.disabled", switch(store, &name, true).await?),
        TeamVerb::Enable { name } => ("team.enabled", switch(store, &name, false).await?),
    };
    output.result(&team, |team| fields(&describe(team)))?;
    Ok(Some(Change::of_team(action, &team.name)))
}

async fn switch(store: &dyn Stores, name: &TeamName, disabled: bool) -> anyhow::Result<Team> {
    let change = TeamChange { disabled: Some(disabled), ..TeamChange::default() };
    Ok(store.update_team(name, &change).await?)
}

fn list(teams: &[Team], output: Output) -> anyhow::Result<()> {
    if teams.is_empty() {
        output.note("There is no team yet; make one with `synapse team create NAME`.")?;
    }
    let now = Timestamp::now();
    let row = |team: &Team| [team.name.to_string(), status(team).into(), relative(team.created_at, now)];
    Ok(output.result(teams, |teams| match teams {
        [] => String::new(),
        _ => table(["NAME", "STATUS", "CREATED"], &teams.iter().map(row).collect::<Vec<_>>()),
    })?)
}

fn describe(team: &Team) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("name", team.name.to_string()),
        ("status", status(team).into()),
        ("created", format!("{:.0}", team.created_at)),
    ];
    lines.extend(bound::describe_limits(&team.limits));
    lines
}

fn status(team: &Team) -> &'static str {
    if team.disabled { "disabled" } else { "active" }
}
