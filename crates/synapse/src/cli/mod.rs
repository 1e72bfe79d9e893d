//! The command line: the tree of commands, and which runtime each of them gets. Every command has a
//! module of its own.

mod admin_token;
mod alert;
mod audit;
mod bound;
mod check;
mod config;
mod dlp;
mod environment;
mod filter;
mod incident;
mod issued;
mod key;
mod location;
mod output;
mod secret;
mod serve;
mod simulate;
mod team;
mod time;
mod used;
mod webhook;
mod worker;
mod worker_key;

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use synapse_core::config::Problem;
use tokio::runtime::{Builder, Runtime};

use crate::surroundings::Process;
use output::Output;

/// An inference gateway: one API in front of every model you run or rent.
///
/// Every flag has an environment variable, SYNAPSE_ and the flag's name (SYNAPSE_DATA_DIR for
/// --data-dir), except those that bind or change a key or a team. A flag beats the environment, and both
/// beat the configuration file. Results go to stdout, everything else to stderr. Exit codes: 0 done,
/// 1 failed, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "synapse", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve(serve::ServeArgs),
    /// Connect an engine to a gateway from anywhere: it dials out, and needs no public address
    #[command(visible_alias = "client")]
    Worker(worker::WorkerArgs),
    /// Run a simulated inference engine that speaks the real wire formats
    Simulate(simulate::SimulateArgs),
    /// Check a configuration: every mistake at once, with its line and a hint
    Check(check::Check),
    /// Describe and convert configurations
    #[command(subcommand)]
    Config(config::Config),
    /// Manage teams, the identities that keys belong to
    Team(team::TeamArgs),
    /// Manage API keys
    Key(key::KeyArgs),
    /// Manage worker keys, with which workers connect
    WorkerKey(worker_key::WorkerKeyArgs),
    /// Try policies for sensitive data on texts
    Dlp(dlp::DlpArgs),
    /// List and export what was found in requests and replies
    Incident(incident::IncidentArgs),
    /// Check, prove, search and export the log of all requests
    Audit(audit::AuditArgs),
    /// List what was unusual, and say that somebody has seen to it
    Alert(alert::AlertArgs),
    /// List webhooks, and try them
    Webhook(webhook::WebhookArgs),
    /// Manage administrators' tokens, for the admin API
    AdminToken(admin_token::AdminTokenArgs),
}

impl Cli {
    /// Reads the arguments and the environment of this process. Prints help, the version or the
    /// mistake, and exits, where these leave nothing to run.
    pub(crate) fn from_process() -> Self {
        let matches = environment::extend(Self::command()).get_matches_from(arguments(env::args_os()));
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// Runs the command to its end.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            // Its cores have runtimes of their own; this one watches.
            Command::Serve(args) => one_core()?.block_on(serve::run(args)),
            Command::Worker(args) => one_core()?.block_on(worker::run(args)),
            Command::Simulate(args) => all_cores()?.block_on(simulate::run(args)),
            Command::Check(check) => Ok(check.run(&Process, &mut io::stdout().lock())?),
            Command::Config(config) => {
                Ok(config.run(&Process, &mut io::stdout().lock(), &mut io::stderr().lock())?)
            }
            Command::Team(args) => {
                let output = Output { json: args.shared.json };
                one_core()?.block_on(team::run(args, output))?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Key(args) => {
                let output = Output { json: args.shared.json };
                one_core()?.block_on(key::run(args, output))?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Dlp(args) => {
                dlp::run(args)?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Incident(args) => {
                let output = Output { json: args.shared.json };
                one_core()?.block_on(incident::run(args, output))?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Audit(args) => {
                let output = Output { json: args.shared.json };
                one_core()?.block_on(audit::run(args, output))
            }
            Command::Alert(args) => {
                let output = Output { json: args.shared.json };
                one_core()?.block_on(alert::run(args, output))?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Webhook(args) => {
                let output = Output { json: args.shared.json };
                one_core()?.block_on(webhook::run(args, output))?;
                Ok(ExitCode::SUCCESS)
            }
            Command::AdminToken(args) => {
                let output = Output { json: args.shared.json };
                one_core()?.block_on(admin_token::run(args, output))?;
                Ok(ExitCode::SUCCESS)
            }
            Command::WorkerKey(args) => {
                let output = Output { json: args.shared.json };
                one_core()?.block_on(worker_key::run(args, output))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// A binary named `synapse-client…` is a worker without being told.
fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = given.collect();
    let named = |path: &OsString| Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    let is_client = arguments.first().and_then(named).is_some_and(|name| name.starts_with("synapse-client"));
    let says_so = |first: &OsString| ["worker", "client", "--version", "-V"].iter().any(|word| first == word);
    if is_client && !arguments.get(1).is_some_and(says_so) {
        arguments.insert(1, "worker".into());
    }
    arguments
}

/// Prints `problems` as compilers do, so that editors can jump to them.
fn print_problems(out: &mut dyn Write, file: &Path, problems: &[Problem]) -> io::Result<()> {
    for problem in problems {
        writeln!(out, "{}:{problem}", file.display())?;
        if let Some(hint) = &problem.hint {
            writeln!(out, "  hint: {hint}")?;
        }
    }
    let plural = if problems.len() == 1 { "" } else { "s" };
    writeln!(out, "{} problem{plural}", problems.len())
}

fn all_cores() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

fn one_core() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_named_synapse_client_is_a_worker() {
        let read = |line: &str| arguments(line.split(' ').map(OsString::from)).join(" ".as_ref());
        for (line, want) in [
            ("/usr/bin/synapse serve", "/usr/bin/synapse serve"),
            ("synapse-client --name a", "synapse-client worker --name a"),
            ("/home/me/.local/bin/synapse-client-v2", "/home/me/.local/bin/synapse-client-v2 worker"),
            ("synapse-client worker --name a", "synapse-client worker --name a"),
            ("synapse-client --version", "synapse-client --version"),
        ] {
            assert_eq!(read(line), want);
        }
    }

    #[test]
    fn the_tree_of_commands_is_sound() {
        environment::extend(Cli::command()).debug_assert();
    }
}
