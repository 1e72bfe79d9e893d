//! `synapse audit verify`: every chain of the log, entry by entry, in constant memory.

use std::{
    collections::HashMap,
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;

use serde_json::{Value, json};
use synapse_audit::{
    anchor::Anchor,
    note::PublicKey,
    sink::FileSink,
    verify::{Report, Verifier},
};
use synapse_core::{config::snapshot::CheckpointSink, store::audit::Head};
use synapse_store::place::Stores;
use uuid::Uuid;

use super::{Files, Output, TrustArgs, copies::Copy, print};
use crate::audit::walk::walk;

/// The exit code for a log that was tampered with.
const TAMPERED: u8 = 1;
/// And for one that cannot be checked.
const IMPOSSIBLE: u8 = 2;

/// Tells why nothing could be checked.
pub(super) fn impossible(error: anyhow::Error) -> ExitCode {
    crate::report(&error.context("the audit log cannot be checked"));
    ExitCode::from(IMPOSSIBLE)
}

pub(super) async fn run(
    store: &dyn Stores,
    files: &Files,
    trust: (&TrustArgs, &[CheckpointSink]),
    output: Output,
) -> anyhow::Result<ExitCode> {
    let reports = match check(store, files, trust).await {
        Ok(reports) => reports,
        Err(error) => return Ok(impossible(error)),
    };
    let is_sound = reports.iter().all(Report::is_sound);
    if output.json {
        let chains: Vec<Value> = reports.iter().map(document).collect();
        print(&format!("{}\n", json!({"sound": is_sound, "chains": chains})))?;
    } else if reports.is_empty() {
        print("The log is empty.\n")?;
    } else {
        print(&reports.iter().map(told).collect::<String>())?;
    }
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(TAMPERED) })
}

async fn check(
    store: &dyn Stores,
    files: &Files,
    (trust, known): (&TrustArgs, &[CheckpointSink]),
) -> anyhow::Result<Vec<Report>> {
    let keys = trust.keys(files)?;
    let mut copies = Vec::new();
    for named in &trust.checkpoints {
        copies.push(Copy::open(named, known).await?);
    }
    let own = Some(files.farthest()).filter(|path| copies.is_empty() && path.exists());
    copies.extend(own.map(Copy::file));
    let sinks: Vec<PathBuf> = copies.iter().map(|copy| copy.path.clone()).collect();
    let sources: Vec<&str> =
        std::iter::once("the database").chain(copies.iter().map(|copy| copy.name.as_str())).collect();
    let mut reports = Vec::new();
    let mut heads = store.audit_heads().await?;
    // A chain of which nothing is left stands in the checkpoints alone.
    for chain in chains_of(&sinks, &keys)? {
        if heads.iter().all(|(known, _)| *known != chain) {
            heads.push((chain, Head { seq: 0, hash: [0; 32] }));
        }
    }
    let anchors = anchors(store, &keys).await?;
    for (chain, head) in heads {
        let anchor = anchors.get(&chain).cloned().unwrap_or_else(|| Anchor::beginning(chain));
        let mut verifier = Verifier::after(&anchor, keys.clone(), &sources);
        verifier.expect_last(head.seq);
        let notes = sinks.iter().map(|sink| FileSink::read(sink)).collect::<Result<Vec<_>, _>>()?;
        walk(store, chain, (anchor.next, u64::MAX), &mut verifier, notes).await?;
        reports.push(verifier.finish());
    }
    Ok(reports)
}

/// What stands in place of old entries, chain by chain.
async fn anchors(store: &dyn Stores, keys: &[PublicKey]) -> anyhow::Result<HashMap<Uuid, Anchor>> {
    let stored = store.anchors().await?;
    let opened = stored.iter().map(|stored| {
        let anchor = Anchor::open(&stored.note, keys);
        let anchor =
            anchor.with_context(|| format!("the anchor of chain {} cannot be trusted", stored.chain))?;
        Ok((anchor.chain, anchor))
    });
    opened.collect()
}

/// The chains that files of checkpoints tell of.
fn chains_of(sinks: &[std::path::PathBuf], keys: &[PublicKey]) -> anyhow::Result<Vec<Uuid>> {
    let mut chains = Vec::new();
    for sink in sinks {
        for note in FileSink::read(Path::new(sink))? {
            if let Ok(checkpoint) = synapse_audit::checkpoint::Checkpoint::open(&note?, keys)
                && !chains.contains(&checkpoint.chain)
            {
                chains.push(checkpoint.chain);
            }
        }
    }
    Ok(chains)
}

fn told(report: &Report) -> String {
    let mut text = format!("chain {}: {} entries\n", report.chain, report.entries);
    for vouched in &report.vouched {
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "  {} checkpoints of {} vouch for the entries before {}",
            vouched.checkpoints, vouched.source, vouched.before
        );
    }
    if report.is_sound() {
        text.push_str("  sound\n");
        return text;
    }
    for damage in &report.damages {
        let _ = writeln!(text, "  {damage}");
    }
    let more = report.count - report.damages.len() as u64;
    if more > 0 {
        let _ = writeln!(text, "  … and {more} more");
    }
    text
}

fn document(report: &Report) -> Value {
    let damage = |damage: &synapse_audit::verify::Damage| {
        json!({
            "seq": damage.seq, "through": damage.through, "kind": damage.kind.name(), "source": damage.source,
        })
    };
    let vouched = |vouched: &synapse_audit::verify::Vouched| {
        json!({
            "source": vouched.source, "checkpoints": vouched.checkpoints, "before": vouched.before,
        })
    };
    json!({
        "chain": report.chain.to_string(),
        "entries": report.entries,
        "sound": report.is_sound(),
        "first": report.first().map(damage),
        "damages": report.damages.iter().map(damage).collect::<Vec<_>>(),
        "count": report.count,
        "vouched": report.vouched.iter().map(vouched).collect::<Vec<_>>(),
    })
}
