//! `synapse admin-token`: makes, lists and revokes the tokens of the admin API.

use anyhow::Context;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use synapse_core::{
    id::KeyId,
    key::{AdminToken, Administering},
    store::admin_tokens::AdminTokenInfo,
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
pub(super) struct AdminTokenArgs {
    #[command(flatten)]
    pub(super) shared: SharedArgs,
    #[command(subcommand)]
    verb: AdminTokenVerb,
}

#[derive(Debug, Subcommand)]
enum AdminTokenVerb {
    /// Make a token and show it, this once
    Create {
        /// Whose it is, or what it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// List tokens, newest first
    List,
    /// End a token for good
    Revoke {
        /// The token's id, or the whole token, as it turns up where it should not be
        #[arg(value_parser = issued::parse_id::<Administering>)]
        id: KeyId,
    },
}

pub(super) async fn run(args: AdminTokenArgs, output: Output) -> anyhow::Result<()> {
    let location = &args.shared.location;
    let store = match args.verb {
        AdminTokenVerb::Create { .. } => location.open_or_create().await?,
        _ => location.open().await?,
    };
    let done = act(&*store, args.verb, output).await;
    location.finish(store, done).await
}

async fn act(store: &dyn Stores, verb: AdminTokenVerb, output: Output) -> anyhow::Result<Option<Change>> {
    match verb {
        AdminTokenVerb::Create { description } => {
            let token = AdminToken::generate().context("the system has no randomness to give")?;
            let info = store.create_admin_token(&token, description.as_deref()).await?;
            let remedy = format!("`synapse admin-token revoke {}` ends it; then make another", info.id);
            issued::reveal(&token, &info, describe, &remedy, output)?;
            Ok(Some(Change::of("admin_token.created", &info.id)))
        }
        AdminTokenVerb::List => list(&store.list_admin_tokens().await?, output).map(|()| None),
        AdminTokenVerb::Revoke { id } => {
            let info = store.revoke_admin_token(&id).await?;
            output.result(&info, |info| fields(&describe(info)))?;
            Ok(Some(Change::of("admin_token.revoked", &info.id)))
        }
    }
}

fn list(tokens: &[AdminTokenInfo], output: Output) -> anyhow::Result<()> {
    if tokens.is_empty() {
        output.note("There is no administrator's token; make one with `synapse admin-token create`.")?;
    }
    let now = Timestamp::now();
    let row = |token: &AdminTokenInfo| {
        let description = token.description.clone().unwrap_or_default();
        [token.id.to_string(), description, status(token).into(), relative(token.created_at, now)]
    };
    Ok(output.result(tokens, |tokens| match tokens {
        [] => String::new(),
        _ => table(["ID", "DESCRIPTION", "STATUS", "CREATED"], &tokens.iter().map(row).collect::<Vec<_>>()),
    })?)
}

fn describe(token: &AdminTokenInfo) -> Vec<(&'static str, String)> {
    let now = Timestamp::now();
    let mut lines = vec![("id", token.id.to_string())];
    lines.extend(token.description.clone().map(|text| ("description", text)));
    lines.extend([("status", status(token).into()), ("created", moment(token.created_at, now))]);
    lines.extend(token.revoked_at.map(|at| ("revoked", moment(at, now))));
    lines
}

fn status(token: &AdminTokenInfo) -> &'static str {
    if token.revoked_at.is_some() { "revoked" } else { "active" }
}
