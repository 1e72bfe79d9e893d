//! `synapse key`: makes, lists, changes, rotates and revokes API keys.

use std::{collections::HashSet, convert::Infallible, time::Duration};

use anyhow::Context;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use synapse_core::{
    glob::Glob,
    id::{GroupName, KeyId, TeamName},
    key::{ApiKey, Calling},
    store::{
        keys::{KeyChange, KeyInfo, KeyStore, NewKey},
        teams::TeamStore,
    },
};
use synapse_store::sqlite::SqliteStore;

use super::{
    environment::CHANGE_FLAGS,
    issued,
    location::SharedArgs,
    output::{Output, fields, table},
    time::{self, Expiry, parse_duration, relative},
};

#[derive(Args, Debug)]
pub(super) struct KeyArgs {
    #[command(flatten)]
    pub(super) shared: SharedArgs,
    #[command(subcommand)]
    verb: KeyVerb,
}

#[derive(Debug, Subcommand)]
enum KeyVerb {
    /// Make a key and show it, this once
    Create(CreateArgs),
    /// List keys, newest first
    List {
        /// Only those of this team
        #[arg(long)]
        team: Option<TeamName>,
    },
    /// Show one key, without its secret
    Show(KeyRef),
    /// Change what a key may do
    Update(UpdateArgs),
    /// Give a key a new secret and show it, this once
    Rotate {
        #[command(flatten)]
        key: KeyRef,
        /// How long the old secret goes on working; 0 ends it at once
        #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = parse_duration)]
        overlap: Duration,
    },
    /// End a key for good
    Revoke(KeyRef),
}

#[derive(Args, Debug)]
struct KeyRef {
    /// The key's id, or the whole key, as it turns up where it should not be
    #[arg(value_parser = issued::parse_id::<Calling>)]
    id: KeyId,
}

#[derive(Args, Debug)]
struct CreateArgs {
    /// The team that the key belongs to
    #[arg(long)]
    team: TeamName,
    /// The group whose backends and workers the key reaches
    #[arg(long, default_value = GroupName::DEFAULT)]
    group: GroupName,
    /// A model that the key may use: a name, or a pattern with `*`; repeat it for more, '*' allows all
    #[arg(long = "model", value_name = "GLOB", required = true, value_delimiter = ',', value_parser = parse_glob)]
    models: Vec<Glob>,
    /// What the key is for
    #[arg(long)]
    name: Option<String>,
    /// When it stops working: a span such as 90d, or a moment such as 2030-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN")]
    expires: Option<Expiry>,
}

#[derive(Args, Debug)]
struct UpdateArgs {
    #[command(flatten)]
    key: KeyRef,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = CHANGE_FLAGS)]
#[group(required = true, multiple = true)]
struct ChangeArgs {
    /// The models that the key may use from now on; repeat it for more
    #[arg(long = "model", value_name = "GLOB", value_delimiter = ',', value_parser = parse_glob)]
    models: Vec<Glob>,
    /// When it stops working: a span such as 90d, or a moment such as 2030-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN")]
    expires: Option<Expiry>,
    /// Let it work without end
    #[arg(long, conflicts_with = "expires")]
    clear_expires: bool,
    /// What the key is for
    #[arg(long)]
    name: Option<String>,
    /// Take its name away
    #[arg(long, conflicts_with = "name")]
    clear_name: bool,
    /// Switch it off
    #[arg(long)]
    disable: bool,
    /// Switch it on again
    #[arg(long, conflicts_with = "disable")]
    enable: bool,
}

impl ChangeArgs {
    fn resolve(self, now: Timestamp) -> anyhow::Result<KeyChange> {
        let expires_at = self.expires.map(|expiry| expiry.resolve(now)).transpose()?;
        Ok(KeyChange {
            name: self.name.map(Some).or(self.clear_name.then_some(None)),
            models: (!self.models.is_empty()).then_some(self.models),
            expires_at: expires_at.map(Some).or(self.clear_expires.then_some(None)),
            disabled: self.disable.then_some(true).or(self.enable.then_some(false)),
        })
    }
}

fn parse_glob(text: &str) -> Result<Glob, Infallible> {
    Ok(Glob::new(text))
}

pub(super) async fn run(args: KeyArgs, output: Output) -> anyhow::Result<()> {
    let store = args.shared.location.open().await?;
    let done = act(&store, args.verb, output).await;
    store.close().await;
    done
}

async fn act(store: &SqliteStore, verb: KeyVerb, output: Output) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let info = match verb {
        KeyVerb::Create(args) => {
            let key = ApiKey::generate().context("the system has no randomness to give")?;
            let expires_at = args.expires.map(|expiry| expiry.resolve(now)).transpose()?;
            let new = NewKey {
                team: args.team,
                group: args.group,
                name: args.name,
                models: args.models,
                expires_at,
            };
            let info = store.create_key(&key, &new).await?;
            return reveal(&key, &info, output);
        }
        KeyVerb::Rotate { key: KeyRef { id }, overlap } => {
            let key = ApiKey::generate_for(&id).context("the system has no randomness to give")?;
            let info = store.rotate_key(&key, overlap).await?;
            return reveal(&key, &info, output);
        }
        KeyVerb::List { team } => return list(store, team.as_ref(), output).await,
        KeyVerb::Show(KeyRef { id }) => store.get_key(&id).await?,
        KeyVerb::Update(args) => store.update_key(&args.key.id, &args.change.resolve(now)?).await?,
        KeyVerb::Revoke(KeyRef { id }) => store.revoke_key(&id).await?,
    };
    Ok(output.result(&info, |info| fields(&describe(info)))?)
}

fn reveal(key: &ApiKey, info: &KeyInfo, output: Output) -> anyhow::Result<()> {
    let remedy = format!("`synapse key rotate {}` makes a new one", key.id());
    issued::reveal(key, info, describe, &remedy, output)
}

async fn list(store: &SqliteStore, team: Option<&TeamName>, output: Output) -> anyhow::Result<()> {
    if let Some(team) = team {
        store.get_team(team).await?;
    }
    let keys = store.list_keys(team).await?;
    let teams = store.list_teams().await?;
    let disabled: HashSet<TeamName> =
        teams.into_iter().filter(|team| team.disabled).map(|team| team.name).collect();
    if keys.is_empty() {
        output.note("There is no key yet; make one with `synapse key create --team TEAM --model GLOB`.")?;
    }
    let now = Timestamp::now();
    let row = |key: &KeyInfo| {
        [
            key.id.to_string(),
            key.team.to_string(),
            key.group.to_string(),
            key.name.clone().unwrap_or_default(),
            joined(&key.models),
            if disabled.contains(&key.team) { "team disabled" } else { status(key, now) }.into(),
            key.expires_at.map_or_else(|| "never".into(), |end| relative(end, now)),
        ]
    };
    Ok(output.result(&keys[..], |keys| match keys {
        [] => String::new(),
        _ => {
            let rows: Vec<_> = keys.iter().map(row).collect();
            table(["ID", "TEAM", "GROUP", "NAME", "MODELS", "STATUS", "EXPIRES"], &rows)
        }
    })?)
}

fn describe(key: &KeyInfo) -> Vec<(&'static str, String)> {
    let now = Timestamp::now();
    let moment = |at| time::moment(at, now);
    let overlap_end = key.previous_secret_until.filter(|&end| end > now);
    let mut lines =
        vec![("id", key.id.to_string()), ("team", key.team.to_string()), ("group", key.group.to_string())];
    lines.extend(key.name.clone().map(|name| ("name", name)));
    lines.extend([
        ("models", joined(&key.models)),
        ("status", status(key, now).into()),
        ("created", moment(key.created_at)),
        ("expires", key.expires_at.map_or_else(|| "never".into(), moment)),
    ]);
    lines.extend(key.revoked_at.map(|at| ("revoked", moment(at))));
    lines.extend(overlap_end.map(|end| ("old secret until", moment(end))));
    lines
}

fn joined(models: &[Glob]) -> String {
    models.iter().map(Glob::as_str).collect::<Vec<_>>().join(", ")
}

fn status(key: &KeyInfo, now: Timestamp) -> &'static str {
    match key {
        KeyInfo { revoked_at: Some(_), .. } => "revoked",
        KeyInfo { disabled: true, .. } => "disabled",
        KeyInfo { expires_at: Some(end), .. } if *end <= now => "expired",
        _ => "active",
    }
}
