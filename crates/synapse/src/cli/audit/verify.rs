//! `synapse audit verify`: every chain of the log, entry by entry, in constant memory.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write,
    io,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use synapse_audit::{
    anchor::Anchor,
    checkpoint::Checkpoint,
    note::PublicKey,
    sink::FileSink,
    verify::{Report, Verifier},
};
use synapse_core::{config::snapshot::CheckpointSink, store::audit::Head};
use synapse_store::place::Stores;
use uuid::Uuid;

use super::{Files, Output, TrustArgs, copies::Copy, print};
use crate::audit::walk::{anchor, opened, walk};

/// How long entries may wait for a checkpoint.
const SOON: SignedDuration = SignedDuration::from_mins(10);
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
        let unsound = reports.iter().filter(|report| !report.is_sound()).count();
        let of = reports.len();
        print(&match unsound {
            0 => format!("SOUND: {of} of {of} chains\n"),
            _ => format!("NOT SOUND: {unsound} of {of} chains\n"),
        })?;
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
    let own = files.checkpoints();
    if copies.is_empty() && own.exists() {
        // A copy that should be there and is not, is missed.
        copies.extend([Some(own), files.copy()].into_iter().flatten().map(Copy::file));
    }
    let sinks: Vec<PathBuf> = copies.iter().map(|copy| copy.path.clone()).collect();
    let sources: Vec<&str> =
        std::iter::once("the database").chain(copies.iter().map(|copy| copy.name.as_str())).collect();
    let mut reports = Vec::new();
    let mut heads = store.audit_heads().await?;
    for (sink, name) in sinks.iter().zip(&sources[1..]) {
        let mut notes = FileSink::read(sink).with_context(|| (*name).to_owned())?;
        let is_ours =
            |note: io::Result<String>| note.is_ok_and(|note| Checkpoint::open(&note, &keys).is_ok());
        if !heads.is_empty() && !notes.any(is_ours) {
            bail!("{name}: it has no checkpoint that was signed with a known key");
        }
    }
    // A chain of which nothing is left stands in the checkpoints alone.
    for chain in chains_of(&sinks, &keys)? {
        if heads.iter().all(|(known, _)| *known != chain) {
            heads.push((chain, Head { seq: 0, hash: [0; 32] }));
        }
    }
    let mut anchors = HashMap::<_, Vec<_>>::new();
    for stored in store.anchors().await? {
        anchors.entry(stored.chain).or_default().push(stored);
    }
    let now = Timestamp::now();
    for (chain, head) in heads {
        let stored = anchors.remove(&chain).unwrap_or_default();
        let begun = anchor(store, chain, &stored, &keys).await?.unwrap_or_else(|| Anchor::beginning(chain));
        let mut verifier = Verifier::after(&begun, keys.clone(), &sources);
        verifier.expect_last(head.seq);
        verifier.expect_vouched(now - SOON..=now + SOON);
        for bad in stored.iter().filter(|stored| opened(stored, &keys).is_none()) {
            verifier.distrust(bad.next);
        }
        let notes = sinks.iter().map(|sink| FileSink::read(sink).with_context(|| sink.display().to_string()));
        let notes = notes.collect::<Result<Vec<_>, _>>()?;
        walk(store, chain, (begun.next, u64::MAX), &mut verifier, notes).await?;
        reports.push(verifier.finish());
    }
    Ok(reports)
}

/// The chains that files of checkpoints tell of.
fn chains_of(sinks: &[PathBuf], keys: &[PublicKey]) -> anyhow::Result<BTreeSet<Uuid>> {
    let mut chains = BTreeSet::new();
    for sink in sinks {
        for note in FileSink::read(sink).with_context(|| sink.display().to_string())? {
            let note = note?;
            // A signature is looked at once a chain: that takes the longest.
            if Checkpoint::chain_of(&note).is_some_and(|chain| !chains.contains(&chain))
                && let Ok(checkpoint) = Checkpoint::open(&note, keys)
            {
                chains.insert(checkpoint.chain);
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
