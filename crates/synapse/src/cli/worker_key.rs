//! `synapse worker-key`: makes, lists and revokes the keys with which workers connect.

use anyhow::Context;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use synapse_core::{
    id::{GroupName, KeyId},
    key::{Connecting, WorkerSecret},
    store::worker_keys::{NewWorkerKey, WorkerKeyInfo},
};
use synapse_store::place::Stores;

use super::{
    issued,
    location::SharedArgs,
    output::{Output, fields, table},
    time::{moment, relative},
};
use crate::audit::change::Change;

#[derive(Args, Debug)]
pub(super) struct WorkerKeyArgs {
    #[command(flatten)]
    pub(super) shared: SharedArgs,
    #[command(subcommand)]
    verb: WorkerKeyVerb,
}

#[derive(Debug, Subcommand)]
enum WorkerKeyVerb {
    /// Make a worker key and show it, this once
    Create(CreateArgs),
    /// List worker keys, newest first
    List {
        /// Only those of this group
        #[arg(long)]
        group: Option<GroupName>,
    },
    /// Show one worker key, without its secret
    Show(WorkerKeyRef),
    /// End a worker key for good; workers that came with it are cut off at once
    Revoke(WorkerKeyRef),
}

#[derive(Args, Debug)]
struct WorkerKeyRef {
    /// The key's id, or the whole key, as it turns up where it should not be
    #[arg(value_parser = issued::parse_id::<Connecting>)]
    id: KeyId,
}

#[derive(Args, Debug)]
struct CreateArgs {
    /// The group that workers join with it; the keys of this group reach them, and no others
    #[arg(long, default_value = GroupName::DEFAULT)]
    group: GroupName,
    /// Let their engines be outside the house: at public addresses
    #[arg(long)]
    allow_cloud: bool,
    /// What the key is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

pub(super) async fn run(args: WorkerKeyArgs, output: Output) -> anyhow::Result<()> {
    let location = &args.shared.location;
    let store = match args.verb {
        WorkerKeyVerb::Create { .. } => location.open_or_create().await?,
        _ => location.open().await?,
    };
    let done = act(&*store, args.verb, output).await;
    location.finish(store, done).await
}

async fn act(store: &dyn Stores, verb: WorkerKeyVerb, output: Output) -> anyhow::Result<Option<Change>> {
    let (change, info) = match verb {
        WorkerKeyVerb::Create(CreateArgs { group, allow_cloud, description }) => {
            let key = WorkerSecret::generate().context("the system has no randomness to give")?;
            let new = NewWorkerKey { group, description, allows_cloud: allow_cloud };
            let info = store.create_worker_key(&key, &new).await?;
            let remedy = format!("`synapse worker-key revoke {}` ends it; then make another", info.id);
            issued::reveal(&key, &info, describe, &remedy, output)?;
            return Ok(Some(Change::of("worker_key.created", &info.id)));
        }
        WorkerKeyVerb::List { group } => {
            return list(&store.list_worker_keys(group.as_ref()).await?, output).map(|()| None);
        }
        WorkerKeyVerb::Show(WorkerKeyRef { id }) => (None, store.get_worker_key(&id).await?),
        WorkerKeyVerb::Revoke(WorkerKeyRef { id }) => {
            let info = store.revoke_worker_key(&id).await?;
            (Some(Change::of("worker_key.revoked", &info.id)), info)
        }
    };
    output.result(&info, |info| fields(&describe(info)))?;
    Ok(change)
}

fn list(keys: &[WorkerKeyInfo], output: Output) -> anyhow::Result<()> {
    if keys.is_empty() {
        output.note("There is no worker key; make one with `synapse worker-key create --group GROUP`.")?;
    }
    let now = Timestamp::now();
    let row = |key: &WorkerKeyInfo| {
        [
            key.id.to_string(),
            key.group.to_string(),
            key.description.clone().unwrap_or_default(),
            engines(key).into(),
            status(key).into(),
            relative(key.created_at, now),
        ]
    };
    Ok(output.result(keys, |keys| match keys {
        [] => String::new(),
        _ => {
            let rows: Vec<_> = keys.iter().map(row).collect();
            table(["ID", "GROUP", "DESCRIPTION", "ENGINES", "STATUS", "CREATED"], &rows)
        }
    })?)
}

fn describe(key: &WorkerKeyInfo) -> Vec<(&'static str, String)> {
    let now = Timestamp::now();
    let mut lines = vec![("id", key.id.to_string()), ("group", key.group.to_string())];
    lines.extend(key.description.clone().map(|text| ("description", text)));
    lines.extend([
        ("engines", engines(key).into()),
        ("status", status(key).into()),
        ("created", moment(key.created_at, now)),
    ]);
    lines.extend(key.revoked_at.map(|at| ("revoked", moment(at, now))));
    lines
}

fn engines(key: &WorkerKeyInfo) -> &'static str {
    if key.allows_cloud { "anywhere" } else { "in the house" }
}

fn status(key: &WorkerKeyInfo) -> &'static str {
    if key.revoked_at.is_some() { "revoked" } else { "active" }
}
