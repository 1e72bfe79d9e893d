//! `synapse audit`: the log of all requests and changes, checked, proven, searched and exported.

mod copies;
mod evidence;
mod export;
mod proof;
mod retention;
mod verify;

use std::{
    io::{self},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use synapse_audit::note::PublicKey;
use synapse_core::{audit::entry::EntryKind, id::TeamName, store::audit::AuditFilter};

use super::{
    filter::SliceArgs,
    location::SharedArgs,
    output::{Output, print},
    time::parse_duration,
};
use crate::audit::files::{Files, signing_key};

/// How many entries are read at once.
const PAGE: u32 = 1000;

#[derive(Args, Debug)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    verb: AuditVerb,
    #[command(flatten)]
    pub(super) shared: SharedArgs,
}

#[derive(Debug, Subcommand)]
enum AuditVerb {
    /// Check the log against its hashes and its signed checkpoints. Exit codes: 0 sound, 1 tampered with, 2 it cannot
    /// be checked
    Verify {
        #[command(flatten)]
        trust: TrustArgs,
    },
    /// List entries, newest first
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// How many at most
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Write all entries that fit, newest first
    Export {
        #[command(flatten)]
        filter: FilterArgs,
        /// One JSON document a line, or a table for spreadsheets
        #[arg(long, value_enum, default_value_t = export::Format::Jsonl)]
        format: export::Format,
    },
    /// Print the proof that a request stands in the log, which can be checked with the public key alone
    Proof {
        /// The request's id, as the header `x-request-id` and the access log name it; or any entry by its place,
        /// CHAIN.SEQ, or by a caller's receipt
        request: String,
        #[command(flatten)]
        trust: TrustArgs,
    },
    /// Check such a proof, and print the entry that it proves
    CheckProof {
        /// The file of the proof; `-` reads stdin
        file: PathBuf,
        #[command(flatten)]
        trust: TrustArgs,
    },
    /// Find the entries of a known text: the body of a request or of a reply, or a file that was uploaded, byte for byte
    Find {
        /// The file of the text; `-` reads stdin
        #[arg(long)]
        content: PathBuf,
    },
    /// Destroy the key of a team's digests of a month, so that they say nothing any more. It cannot be undone
    Erase {
        /// The team
        team: TeamName,
        /// The month, such as 2026-01
        #[arg(long)]
        month: String,
    },
    /// Put away months that are too old to be kept, each behind a signed statement in its place
    Retire {
        /// How old
        #[arg(long, value_name = "SPAN", default_value = "400d", value_parser = parse_duration)]
        older_than: Duration,
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        trust: TrustArgs,
    },
    /// Orders to keep entries however old they are
    Hold {
        #[command(subcommand)]
        verb: retention::HoldVerb,
    },
    /// Print the public key that checkpoints and proofs are checked with
    PublicKey,
}

/// Whose checkpoints are believed.
#[derive(Args, Debug)]
struct TrustArgs {
    /// A public key that checkpoints were signed with; give one for each gateway of the log [default: the one of the
    /// data folder]
    #[arg(long, value_name = "KEY")]
    public_key: Vec<String>,
    /// Checkpoints outside the database: a file of them, of syslog messages or of webhooks' bodies, or `s3://BUCKET/PREFIX`
    /// of the configuration [default: the file of the configuration]
    #[arg(long, value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
}

impl TrustArgs {
    fn keys(&self, files: &Files) -> anyhow::Result<Vec<PublicKey>> {
        if self.public_key.is_empty() {
            return Ok(vec![signing_key(files)?.public().clone()]);
        }
        let read = |text: &String| text.trim().parse().context("--public-key is no such key");
        self.public_key.iter().map(read).collect()
    }
}

#[derive(Args, Debug)]
struct FilterArgs {
    #[command(flatten)]
    slice: SliceArgs,
    /// Only of this kind
    #[arg(long, value_parser = EntryKind::ALL.map(EntryKind::name))]
    kind: Vec<String>,
    /// Also the entries that only say that a request was accepted
    #[arg(long)]
    accepted: bool,
    /// Only of this request
    #[arg(long)]
    request: Option<String>,
    /// Only by this person or token
    #[arg(long)]
    actor: Option<String>,
    /// Only with this outcome
    #[arg(long, value_parser = ["completed", "rejected", "blocked", "cancelled", "failed", "orphaned"])]
    outcome: Option<String>,
    /// Only of requests for this model
    #[arg(long)]
    model: Option<String>,
    /// Only with this incident
    #[arg(long)]
    incident: Option<String>,
}

impl FilterArgs {
    fn into_filter(self) -> AuditFilter {
        let Self { slice, kind, accepted, request, actor, outcome, model, incident } = self;
        let SliceArgs { since, until, team, key } = slice;
        let kinds = kind.iter().filter_map(|name| EntryKind::of(name)).collect();
        AuditFilter {
            since,
            until,
            kinds,
            accepted: accepted || request.is_some(),
            request,
            team,
            key,
            actor,
            outcome,
            model,
            incident,
            digest: None,
            before: None,
        }
    }
}

pub(super) async fn run(args: AuditArgs, output: Output) -> anyhow::Result<ExitCode> {
    let location = &args.shared.location;
    let (copy, sinks) = match &location.config {
        Some(_) => {
            let settings = location.snapshot()?.audit;
            (settings.checkpoint_file, settings.sinks)
        }
        None => (None, Vec::new()),
    };
    let files = Files::within(&location.data_dir()?, copy);
    match args.verb {
        AuditVerb::PublicKey => {
            print(&format!("{}\n", signing_key(&files)?.public()))?;
            return Ok(ExitCode::SUCCESS);
        }
        AuditVerb::CheckProof { file, trust } => {
            proof::check(&file, &trust.keys(&files)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let store = match location.open().await {
        Ok(store) => store,
        Err(error) if matches!(args.verb, AuditVerb::Verify { .. }) => return Ok(verify::impossible(error)),
        Err(error) => return Err(error),
    };
    let done = match args.verb {
        AuditVerb::Verify { trust } => verify::run(&*store, &files, (&trust, &sinks), output).await,
        AuditVerb::List { filter, limit } => {
            export::list(&*store, &filter.into_filter(), limit, output).await.map(|()| ExitCode::SUCCESS)
        }
        AuditVerb::Export { filter, format } => {
            export::all(&*store, AuditFilter { accepted: true, ..filter.into_filter() }, format)
                .await
                .map(|()| ExitCode::SUCCESS)
        }
        AuditVerb::Proof { request, trust } => {
            proof::prove(&*store, &request, &trust.keys(&files)?).await.map(|()| ExitCode::SUCCESS)
        }
        AuditVerb::Find { content } => {
            evidence::find(&*store, &files, &content, output).await.map(|()| ExitCode::SUCCESS)
        }
        AuditVerb::Retire { older_than, dry_run, trust } => {
            retention::retire(&*store, &files, &trust, (older_than, dry_run), output)
                .await
                .map(|()| ExitCode::SUCCESS)
        }
        AuditVerb::Hold { verb } => {
            retention::hold(&*store, &files, verb, output).await.map(|()| ExitCode::SUCCESS)
        }
        AuditVerb::Erase { team, month } => {
            evidence::erase(&*store, &files, &team, &month, output).await.map(|()| ExitCode::SUCCESS)
        }
        AuditVerb::PublicKey | AuditVerb::CheckProof { .. } => Ok(ExitCode::SUCCESS),
    };
    store.close().await;
    done
}

/// What a file has; `-` stands for stdin.
fn read(path: &PathBuf) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        io::Read::read_to_end(&mut io::stdin().lock(), &mut bytes).context("stdin cannot be read")?;
    } else {
        bytes = std::fs::read(path).with_context(|| format!("{}: it cannot be read", path.display()))?;
    }
    Ok(bytes)
}
