//! `synapse dlp`: tries policies for sensitive data on texts, and makes sets of values that nobody can read.

use std::{
    io::{self, BufRead, Read, Write},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use synapse_core::hex;
use synapse_dlp::{
    Action, Category, CategoryInfo, Direction, Finding, Group, Placeholders, Policy, Severity,
};
use synapse_gateway::inspect::policies::{CLOUD, Policies};

use super::output::table;
use crate::settings::Settings;

#[derive(Args, Debug)]
pub(super) struct DlpArgs {
    #[command(subcommand)]
    verb: DlpVerb,
}

#[derive(Debug, Subcommand)]
enum DlpVerb {
    /// Show what a policy finds in a text from stdin, and the text without it
    Test(TestArgs),
    /// List all categories, a policy's own rules included, and what becomes of them under it
    Categories(PolicyArgs),
    /// Write keyed hashes of values from stdin, one a line, for a rule's `hashes_file`
    Hash(HashArgs),
}

#[derive(Args, Debug)]
struct PolicyArgs {
    /// The policy: `cloud`, `on_prem`, or one of the configuration
    #[arg(long, default_value = CLOUD)]
    policy: String,
    /// Configuration file with policies of your own
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct TestArgs {
    #[command(flatten)]
    under: PolicyArgs,
    /// Which way the text goes
    #[arg(long, value_enum, default_value_t = Way::Prompt)]
    direction: Way,
    /// Read `{"id","text"}` documents, one a line; write one for each, with offsets in bytes of UTF-8
    #[arg(long)]
    jsonl: bool,
}

/// Which way a text goes.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    /// From a caller to a model
    Prompt,
    /// From a model to a caller
    Reply,
}

#[derive(Args, Debug)]
struct HashArgs {
    /// A file with the key of the hashes: the rule's `hash_key`
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
}

pub(super) fn run(args: DlpArgs) -> anyhow::Result<()> {
    match args.verb {
        DlpVerb::Test(args) => test(&args),
        DlpVerb::Categories(under) => list(&under),
        DlpVerb::Hash(args) => hash(&args),
    }
}

fn test(args: &TestArgs) -> anyhow::Result<()> {
    let policy = policy(&args.under)?;
    let direction = match args.direction {
        Way::Prompt => Direction::Prompt,
        Way::Reply => Direction::Reply,
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.jsonl {
        for (number, line) in (1..).zip(io::stdin().lock().lines()) {
            let line = line.context("stdin cannot be read as UTF-8")?;
            if line.trim().is_empty() {
                continue;
            }
            let asked: Asked =
                serde_json::from_str(&line).with_context(|| format!("line {number} is not {ASKED}"))?;
            serde_json::to_writer(&mut out, &answer(&policy, direction, asked))?;
            out.write_all(b"\n")?;
        }
    } else {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text).context("stdin cannot be read as UTF-8")?;
        out.write_all(for_people(&policy, direction, &text).as_bytes())?;
    }
    Ok(out.flush()?)
}

/// The policy asked for.
fn policy(args: &PolicyArgs) -> anyhow::Result<Arc<Policy>> {
    let settings = Settings { file: args.config.clone(), ..Settings::default() };
    let mut config = settings.snapshot(&settings.text()?)?.dlp;
    // What is switched off can be tried all the same.
    config.enabled = true;
    let policies = Policies::compile(&config)?;
    if !policies.knows(&args.policy) {
        bail!("there is no policy `{}`; known: {}", args.policy, policies.names().join(", "));
    }
    policies.find(&args.policy).cloned().context("the policy cannot be used")
}

const ASKED: &str = r#"a document such as {"id":"1","text":"…"}"#;

#[derive(Deserialize)]
struct Asked {
    id: serde_json::Value,
    text: String,
}

#[derive(Serialize)]
struct Answer {
    id: serde_json::Value,
    findings: Vec<Found>,
    redacted: String,
}

#[derive(Serialize)]
struct Found {
    category: String,
    severity: &'static str,
    action: &'static str,
    start: usize,
    end: usize,
}

impl From<&Finding> for Found {
    fn from(finding: &Finding) -> Self {
        Self {
            category: finding.category.as_str().to_owned(),
            severity: finding.severity.as_str(),
            action: finding.action.as_str(),
            start: finding.range.start,
            end: finding.range.end,
        }
    }
}

fn answer(policy: &Policy, direction: Direction, asked: Asked) -> Answer {
    let findings = policy.scan_all(direction, &asked.text);
    Answer {
        id: asked.id,
        redacted: Placeholders::new(policy).redact(&asked.text, &findings).into_owned(),
        findings: findings.iter().map(Found::from).collect(),
    }
}

/// A table of findings, and the text that would go on, if any would.
fn for_people(policy: &Policy, direction: Direction, text: &str) -> String {
    let findings = policy.scan_all(direction, text);
    let row = |finding: &Finding| {
        let found = Found::from(finding);
        [
            found.category,
            found.severity.into(),
            found.action.into(),
            format!("{}..{}", found.start, found.end),
        ]
    };
    let rows: Vec<_> = findings.iter().map(row).collect();
    let mut out = format!("policy {} ({})\n\n", policy.name(), policy.version());
    if rows.is_empty() {
        out.push_str("Nothing was found.\n");
    } else {
        out.push_str(&table(["CATEGORY", "SEVERITY", "ACTION", "BYTES"], &rows));
    }
    out.push('\n');
    // By what the gateway would search for: the table has more, such as what the policy allows.
    if policy.scan(direction, text).iter().any(|finding| finding.action == Action::Block) {
        out.push_str("blocked: nothing goes on\n");
        return out;
    }
    out.push_str(&Placeholders::new(policy).redact(text, &findings));
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

fn list(under: &PolicyArgs) -> anyhow::Result<()> {
    let policy = policy(under)?;
    let row = |category: &Category, group: Group, severity: Severity| {
        let action = |direction| policy.action(category, direction).as_str();
        let texts = [
            category.as_str(),
            group.as_str(),
            severity.as_str(),
            action(Direction::Prompt),
            action(Direction::Reply),
        ];
        texts.map(str::to_owned)
    };
    let built_in = |info: &CategoryInfo| row(&Category::from(info), info.group, info.severity);
    let own = policy.own_categories().map(|(category, severity)| row(category, Group::Custom, severity));
    let rows: Vec<_> = synapse_dlp::categories().iter().map(built_in).chain(own).collect();
    let shown = table(["CATEGORY", "GROUP", "SEVERITY", "PROMPT", "REPLY"], &rows);
    Ok(io::stdout().lock().write_all(shown.as_bytes())?)
}

fn hash(args: &HashArgs) -> anyhow::Result<()> {
    let key = std::fs::read_to_string(&args.key_file)
        .with_context(|| format!("{} cannot be read", args.key_file.display()))?;
    let key = key.trim_end_matches(['\n', '\r']);
    if key.is_empty() {
        bail!("{} is empty: without a key, anybody could guess the values", args.key_file.display());
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let line = line.context("stdin cannot be read as UTF-8")?;
        let value = line.trim();
        if !value.is_empty() {
            let hash = synapse_dlp::exact_hash(key.as_bytes(), value);
            writeln!(out, "{}", hex(&hash))?;
        }
    }
    Ok(out.flush()?)
}
