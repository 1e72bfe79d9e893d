//! `synapse audit retire` and `synapse audit hold`: what of the log goes, and what must not.

use std::time::Duration;

use clap::Subcommand;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use synapse_core::store::retention::Hold;
use synapse_store::place::Stores;
use uuid::Uuid;

use super::{
    super::{
        output::table,
        time::{past, relative},
    },
    Files, Output, TrustArgs,
};
use crate::audit::{
    change::{self, Change},
    files::signing_key,
    retire::{self, Prospect, Retirement, Retirer},
};

#[derive(Debug, Subcommand)]
pub(super) enum HoldVerb {
    /// Keep entries until further notice
    Create {
        /// Why
        #[arg(long)]
        reason: String,
        /// Only the months from this time on [default: all there is]
        #[arg(long, value_name = "TIME", value_parser = past)]
        since: Option<Timestamp>,
    },
    /// List holds, newest first
    List,
    /// Lift a hold: from then on, its entries go when they are old
    Release {
        /// Its id
        id: String,
    },
}

/// Puts away what is old.
pub(super) async fn retire(
    store: &dyn Stores,
    files: &Files,
    trust: &TrustArgs,
    (older_than, dry_run): (Duration, bool),
    output: Output,
) -> anyhow::Result<()> {
    let (key, keys) = (signing_key(files)?, trust.keys(files)?);
    let retirer = Retirer { store, keys: &keys, key: &key };
    let (now, kept) = (Timestamp::now(), SignedDuration::try_from(older_than)?);
    if dry_run {
        let text = match retirer.old(now.checked_sub(kept)?).await? {
            Some((month, aged)) => {
                format!("Entries of {} chains before {} would go.", aged.len(), month.strftime("%Y-%m"))
            }
            None => "Nothing would go.".to_owned(),
        };
        return Ok(output.note(&text)?);
    }
    let text = match retirer.prepare(now, kept).await? {
        Prospect::Nothing => "There is nothing to put away.".to_owned(),
        Prospect::Waiting(chains) => format!(
            "{chains} chains are signed with other keys: their gateways have to vouch for them first, or name their \
             keys with --public-key."
        ),
        Prospect::Ready(retirement) => {
            let entries = retirer.finish(retirement).await?;
            let gone = Retirement { entries, ..retirement };
            change::record(retire::entry(&gone, &change::actor()), store, files).await?;
            format!("{entries} entries before {} were put away.", retirement.month.strftime("%Y-%m"))
        }
    };
    Ok(output.note(&text)?)
}

/// Keeps, lists and lifts holds.
pub(super) async fn hold(
    store: &dyn Stores,
    files: &Files,
    verb: HoldVerb,
    output: Output,
) -> anyhow::Result<()> {
    match verb {
        HoldVerb::Create { reason, since } => {
            let id = format!("hold_{}", Uuid::now_v7().simple());
            let hold = Hold { id, since, reason, at: Timestamp::now(), released_at: None };
            store.add_hold(&hold).await?;
            Change::of("hold.created", &hold.id).record(store, files).await?;
            Ok(output.result(&document(&hold), |_| format!("{}\n", hold.id))?)
        }
        HoldVerb::List => {
            let holds = store.holds().await?;
            let documents: Vec<_> = holds.iter().map(document).collect();
            let now = Timestamp::now();
            Ok(output.result(&documents, |_| {
                let row = |hold: &Hold| {
                    let time =
                        |time: Option<Timestamp>| time.map(|time| relative(time, now)).unwrap_or_default();
                    [
                        hold.id.clone(),
                        time(Some(hold.at)),
                        time(hold.since),
                        time(hold.released_at),
                        hold.reason.clone(),
                    ]
                };
                table(
                    ["ID", "WHEN", "SINCE", "RELEASED", "REASON"],
                    &holds.iter().map(row).collect::<Vec<_>>(),
                )
            })?)
        }
        HoldVerb::Release { id } => {
            let hold = store.release_hold(&id).await?;
            Change::of("hold.released", &hold.id).record(store, files).await?;
            Ok(output.result(&document(&hold), |_| format!("{} is released.\n", hold.id))?)
        }
    }
}

fn document(hold: &Hold) -> serde_json::Value {
    let Hold { id, since, reason, at, released_at } = hold;
    json!({"id": id, "since": since, "reason": reason, "at": at, "released_at": released_at})
}
