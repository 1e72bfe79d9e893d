//! The `synapse` binary: reads the command line, runs the command, reports how it went.

mod access_log;
mod alerts;
mod audit;
mod banner;
mod binary;
mod cli;
mod compose;
mod incidents;
mod keys;
mod logs;
mod outside;
mod reload;
mod retention;
mod server;
mod settings;
mod signals;
mod surroundings;
mod telemetry;
mod webhook;
mod worker;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use cli::Cli;

fn main() -> ExitCode {
    match Cli::from_process().run() {
        Ok(code) => code,
        Err(error) if reader_left(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Whoever read our output has seen enough, as in `synapse key list | head -1`.
fn reader_left(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Says on stderr what went wrong, and because of what.
fn report(error: &anyhow::Error) {
    let mut text = format!("error: {error}\n");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("  caused by: {cause}\n"));
    }
    // With nobody on stderr, the exit code has to be enough.
    let _ = io::stderr().write_all(text.as_bytes());
}
