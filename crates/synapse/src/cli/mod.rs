//! The command line: what its words are, and which handler answers them.

pub(crate) mod check;
pub(crate) mod config;

use std::{
    io::{self, Write},
    path::Path,
};

use synapse_core::config::Problem;

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
