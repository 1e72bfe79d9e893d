//! `synapse audit verify`: every chain of the log, entry by entry, in constant memory.

use std::{fmt::Write, io, path::Path, process::ExitCode};

use serde_json::{Value, json};
use synapse_audit::{
    sink::FileSink,
    verify::{Report, Verifier},
};
use synapse_core::store::audit::{AuditStore, Head};
use uuid::Uuid;

use super::{Files, Output, PAGE, TrustArgs, print};

/// The exit code for a log that was tampered with.
const TAMPERED: u8 = 1;
/// And for one that cannot be checked.
const IMPOSSIBLE: u8 = 2;
/// How many entries are read at once: a few megabytes.
const STRETCH: u32 = 5000;
/// The place among the sources of checkpoints that the database has.
const DATABASE: usize = 0;

/// Tells why nothing could be checked.
pub(super) fn impossible(error: anyhow::Error) -> ExitCode {
    crate::report(&error.context("the audit log cannot be checked"));
    ExitCode::from(IMPOSSIBLE)
}

pub(super) async fn run(
    store: &dyn AuditStore,
    files: &Files,
    trust: &TrustArgs,
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

async fn check(store: &dyn AuditStore, files: &Files, trust: &TrustArgs) -> anyhow::Result<Vec<Report>> {
    let keys = trust.keys(files)?;
    let own = [files.sink()];
    let is_there = own[0].exists();
    let sinks = if trust.checkpoints.is_empty() { &own[..usize::from(is_there)] } else { &trust.checkpoints };
    let names: Vec<String> = sinks.iter().map(|sink| sink.display().to_string()).collect();
    let sources: Vec<&str> =
        std::iter::once("the database").chain(names.iter().map(String::as_str)).collect();
    let mut reports = Vec::new();
    let mut heads = store.audit_heads().await?;
    // A chain of which nothing is left stands in the checkpoints alone.
    for chain in chains_of(sinks, &keys)? {
        if heads.iter().all(|(known, _)| *known != chain) {
            heads.push((chain, Head { seq: 0, hash: [0; 32] }));
        }
    }
    for (chain, head) in heads {
        let mut verifier = Verifier::new(chain, keys.clone(), &sources);
        verifier.expect_last(head.seq);
        let notes = sinks.iter().map(|sink| FileSink::read(sink)).collect::<Result<Vec<_>, _>>()?;
        reports.push(walk(store, chain, verifier, notes).await?);
    }
    Ok(reports)
}

/// The chains that files of checkpoints tell of.
fn chains_of(
    sinks: &[std::path::PathBuf],
    keys: &[synapse_audit::note::PublicKey],
) -> anyhow::Result<Vec<Uuid>> {
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

/// Gives the verifier all entries of a chain, and before each the checkpoints that cover it.
async fn walk(
    store: &dyn AuditStore,
    chain: Uuid,
    mut verifier: Verifier,
    mut sinks: Vec<impl Iterator<Item = io::Result<String>>>,
) -> anyhow::Result<Report> {
    let (mut next, mut checkpoint_from) = (0, 0);
    loop {
        let entries = store.read_chain(chain, next, STRETCH).await?;
        let last = entries.last().unwrap_or(u64::MAX);
        let mut has_more = false;
        while verifier.covered(DATABASE) <= last {
            let page = store.list_checkpoints(chain, checkpoint_from, PAGE).await?;
            for stored in &page {
                verifier.checkpoint(DATABASE, &stored.note);
                checkpoint_from = stored.seq + 1;
            }
            if page.is_empty() {
                break;
            }
            has_more = true;
        }
        for (at, notes) in sinks.iter_mut().enumerate() {
            while verifier.covered(at + 1) <= last
                && let Some(note) = notes.next()
            {
                verifier.checkpoint(at + 1, &note?);
            }
        }
        if entries.is_empty() && !has_more {
            return Ok(verifier.finish());
        }
        // Checkpoints that came just now may cover entries that came with them.
        for (seq, standing) in entries.iter() {
            verifier.entry(seq, standing);
            next = seq + 1;
        }
    }
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
