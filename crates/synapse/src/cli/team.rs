//! `synapse team`: makes teams, lists them, switches them off and on.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use synapse_core::{
    id::TeamName,
    store::teams::{Team, TeamStore},
};
use synapse_store::sqlite::SqliteStore;

use super::{
    location::SharedArgs,
    output::{Output, fields, table},
    time::relative,
};

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
    },
    /// List all teams
    List,
    /// Show one team
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
    let done = act(&store, args.verb, output).await;
    store.close().await;
    done
}

async fn act(store: &SqliteStore, verb: TeamVerb, output: Output) -> anyhow::Result<()> {
    let team = match verb {
        TeamVerb::List => return list(&store.list_teams().await?, output),
        TeamVerb::Create { name } => store.create_team(&name).await?,
        TeamVerb::Show { name } => store.get_team(&name).await?,
        TeamVerb::Disable { name } => store.set_team_disabled(&name, true).await?,
        TeamVerb::Enable { name } => store.set_team_disabled(&name, false).await?,
    };
    Ok(output.result(&team, describe)?)
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

fn describe(team: &Team) -> String {
    fields(&[
        ("name", team.name.to_string()),
        ("status", status(team).into()),
        ("created", format!("{:.0}", team.created_at)),
    ])
}

fn status(team: &Team) -> &'static str {
    if team.disabled { "disabled" } else { "active" }
}
