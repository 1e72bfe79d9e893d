//! The `synapse` binary.

mod cli;
mod surroundings;

use std::{
    io::{self, stderr, stdout},
    process::ExitCode,
};

use clap::Parser;
use surroundings::Process;

/// An inference gateway: one API in front of every model you run or rent.
#[derive(Parser)]
#[command(version)]
enum Synapse {
    Check(cli::check::Check),
    #[command(subcommand)]
    Config(cli::config::Config),
}

fn main() -> io::Result<ExitCode> {
    match Synapse::parse() {
        Synapse::Check(check) => check.run(&Process, &mut stdout().lock()),
        Synapse::Config(config) => config.run(&Process, &mut stdout().lock(), &mut stderr().lock()),
    }
}
