//! `synapse key`: makes, lists, changes, rotates and revokes API keys.

use std::{collections::HashSet, convert::Infallible, time::Duration};

use anyhow::Context;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use synapse_core::{
    binding::Binding,
    glob::Glob,
    id::{GroupName, KeyId, TeamName},
    key::{ApiKey, Calling},
    ledger::Scope,
    store::keys::{KeyChange, KeyInfo, NewKey, PromptVersion},
};
use synapse_store::place::Stores;

use super::{
    bound::{self, BINDING, BindingArgs, Cleared, KeyField, LIMITS, LimitArgs},
    environment::CHANGE_FLAGS,
    issued,
    location::{SharedArgs, StoreLocation},
    output::{Output, fields, table},
    time::{self, Expiry, parse_duration, relative},
    used::Usage,
};
use crate::audit::change::Change;

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
    /// Show one key, without its secret, and what it has used of its limits
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
    /// Show every system prompt that a key has had, newest first
    Prompts(KeyRef),
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
    #[command(flatten)]
    binding: BindingArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Args, Debug)]
#[command(group = bound::changes(&[&CHANGES, &BINDING, &LIMITS]))]
struct UpdateArgs {
    #[command(flatten)]
    key: KeyRef,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    binding: BindingArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

/// The arguments of [`ChangeArgs`].
const CHANGES: [&str; 6] = ["models", "expires", "name", "disable", "enable", "clear"];

#[derive(Args, Debug)]
#[command(next_help_heading = CHANGE_FLAGS)]
struct ChangeArgs {
    /// The models that the key may use from now on; repeat it for more
    #[arg(long = "model", value_name = "GLOB", value_delimiter = ',', value_parser = parse_glob)]
    models: Vec<Glob>,
    /// When it stops working: a span such as 90d, or a moment such as 2030-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN")]
    expires: Option<Expiry>,
    /// What the key is for
    #[arg(long)]
    name: Option<String>,
    /// Switch it off
    #[arg(long)]
    disable: bool,
    /// Switch it on again
    #[arg(long, conflicts_with = "disable")]
    enable: bool,
    /// What to take away again, so that it does not bind any more; repeat it for more
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    clear: Vec<KeyField>,
}

impl UpdateArgs {
    fn resolve(self, now: Timestamp) -> anyhow::Result<KeyChange> {
        let change = self.change;
        let cleared = Cleared(change.clear);
        let expires_at = change.expires.map(|expiry| expiry.resolve(now)).transpose()?;
        Ok(KeyChange {
            name: cleared.or_set(KeyField::Name, change.name)?,
            models: (!change.models.is_empty()).then_some(change.models),
            expires_at: cleared.or_set(KeyField::Expires, expires_at)?,
            disabled: change.disable.then_some(true).or(change.enable.then_some(false)),
            binding: self.binding.change(self.limits, &cleared)?,
        })
    }
}

fn parse_glob(text: &str) -> Result<Glob, Infallible> {
    Ok(Glob::new(text))
}

pub(super) async fn run(args: KeyArgs, output: Output) -> anyhow::Result<()> {
    let location = &args.shared.location;
    if let KeyVerb::Create(CreateArgs { binding, .. }) | KeyVerb::Update(UpdateArgs { binding, .. }) =
        &args.verb
    {
        binding.check_names(location, output)?;
    }
    let store = location.open().await?;
    let done = act(&*store, location, args.verb, output).await;
    location.finish(store, done).await
}

async fn act(
    store: &dyn Stores,
    location: &StoreLocation,
    verb: KeyVerb,
    output: Output,
) -> anyhow::Result<Option<Change>> {
    let now = Timestamp::now();
    let (action, info) = match verb {
        KeyVerb::Create(args) => {
            let key = ApiKey::generate().context("the system has no randomness to give")?;
            let expires_at = args.expires.map(|expiry| expiry.resolve(now)).transpose()?;
            let binding = args.binding.change(args.limits, &Cleared(Vec::new()))?;
            let new = NewKey {
                team: args.team,
                group: args.group,
                name: args.name,
                models: args.models,
                expires_at,
                binding: binding.apply(Binding::default(), 0),
            };
            let info = store.create_key(&key, &new).await?;
            reveal(&key, &info, output)?;
            return Ok(Some(Change::of_key("key.created", &info)));
        }
        KeyVerb::Rotate { key: KeyRef { id }, overlap } => {
            let key = ApiKey::generate_for(&id).context("the system has no randomness to give")?;
            let info = store.rotate_key(&key, overlap).await?;
            reveal(&key, &info, output)?;
            return Ok(Some(Change::of_key("key.rotated", &info)));
        }
        KeyVerb::List { team } => return list(store, team.as_ref(), output).await.map(|()| None),
        KeyVerb::Prompts(KeyRef { id }) => return prompts(store, &id, output).await.map(|()| None),
        KeyVerb::Show(KeyRef { id }) => {
            let info = store.get_key(&id).await?;
            let usage = Usage::of(&Scope::Key(id), location).await?;
            return usage.show(&info, describe, output).map(|()| None);
        }
        KeyVerb::Update(args) => {
            let id = args.key.id.clone();
            ("key.updated", store.update_key(&id, &args.resolve(now)?).await?)
        }
        KeyVerb::Revoke(KeyRef { id }) => ("key.revoked", store.revoke_key(&id).await?),
    };
    output.result(&info, |info| fields(&describe(info)))?;
    Ok(Some(Change::of_key(action, &info)))
}

fn reveal(key: &ApiKey, info: &KeyInfo, output: Output) -> anyhow::Result<()> {
    let remedy = format!("`synapse key rotate {}` makes a new one", key.id());
    issued::reveal(key, info, describe, &remedy, output)
}

async fn prompts(store: &dyn Stores, id: &KeyId, output: Output) -> anyhow::Result<()> {
    let prompts = store.list_prompts(id).await?;
    if prompts.is_empty() {
        output.note("The key has never had a system prompt.")?;
    }
    Ok(output.result(&prompts[..], |prompts| {
        let row = |kept: &PromptVersion| {
            let PromptVersion { prompt, created_at } = kept;
            format!(
                "version {}, {created_at:.0}, sha256 {}\n{}\n",
                prompt.version,
                prompt.digest(),
                prompt.text
            )
        };
        prompts.iter().map(row).collect::<Vec<_>>().join("\n")
    })?)
}

async fn list(store: &dyn Stores, team: Option<&TeamName>, output: Output) -> anyhow::Result<()> {
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
            key.binding.data_class.as_ref().map_or_else(|| "-".into(), ToString::to_string),
            if disabled.contains(&key.team) { "team disabled" } else { status(key, now) }.into(),
            key.expires_at.map_or_else(|| "never".into(), |end| relative(end, now)),
        ]
    };
    Ok(output.result(&keys[..], |keys| match keys {
        [] => String::new(),
        _ => {
            let rows: Vec<_> = keys.iter().map(row).collect();
            table(["ID", "TEAM", "GROUP", "NAME", "MODELS", "CLASS", "STATUS", "EXPIRES"], &rows)
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
    lines.extend(bound::describe(&key.binding));
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
