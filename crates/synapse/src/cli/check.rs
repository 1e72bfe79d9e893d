//! `synapse check`: everything that is wrong with a configuration, or what it amounts to.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use synapse_core::{
    config::{
        self, Surroundings,
        snapshot::{Locality, Snapshot},
    },
    id::GroupName,
};

use synapse_gateway::inspect::policies::Policies;

use super::print_problems;

/// Validate a configuration: every mistake at once, with its line and a hint.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// A Synapse configuration, or LiteLLM's `config.yaml`.
    #[arg(default_value = "synapse.yaml")]
    file: PathBuf,
}

impl Check {
    /// Exit code 0 if `synapse serve` would take the file, 1 otherwise.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub(crate) fn run(&self, world: &dyn Surroundings, out: &mut dyn Write) -> io::Result<ExitCode> {
        let text = match world.read_file(&self.file) {
            Ok(text) => text,
            Err(error) => {
                writeln!(out, "{}: cannot be read: {error}", self.file.display())?;
                return Ok(ExitCode::FAILURE);
            }
        };
        match config::load(&text, world) {
            Ok(snapshot) => {
                // What a pattern matches shows when it is tried.
                if let Err(fault) = Policies::compile(&snapshot.dlp) {
                    writeln!(out, "{}:{}: {fault}\n1 problem", self.file.display(), fault.line())?;
                    return Ok(ExitCode::FAILURE);
                }
                summary(&snapshot, out)?;
                Ok(ExitCode::SUCCESS)
            }
            Err(problems) => {
                print_problems(out, &self.file, &problems)?;
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

fn summary(snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "OK")?;
    for backend in &snapshot.backends {
        let locality = match backend.locality {
            Locality::OnPrem => "on_prem",
            Locality::Cloud => "cloud",
        };
        write!(out, "backend {}: {} at {}, {locality}", backend.id, backend.kind.name(), backend.url)?;
        if backend.groups != [GroupName::default()] {
            let groups: Vec<&str> = backend.groups.iter().map(GroupName::as_str).collect();
            write!(out, ", for {}", groups.join(", "))?;
        }
        writeln!(out)?;
    }
    for model in &snapshot.models {
        let names: Vec<&str> =
            std::iter::once(&model.name).chain(&model.aliases).map(|name| name.as_str()).collect();
        let mut places: Vec<_> = model.deployments.iter().collect();
        places.sort_by_key(|deployment| deployment.order);
        let places: Vec<String> = places.iter().map(|d| format!("{} at {}", d.model, d.backend)).collect();
        write!(out, "model {}: {}", names.join(", "), places.join(", "))?;
        if !model.fallbacks.is_empty() {
            write!(out, "; falls back to {}", model.fallbacks.join(", "))?;
        }
        writeln!(out)?;
    }
    for warning in &snapshot.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::Process;

    fn checked(text: &str) -> (ExitCode, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("synapse.yaml");
        std::fs::write(&file, text).unwrap();
        let mut out = Vec::new();
        let code = Check { file }.run(&Process, &mut out).unwrap();
        let shown = String::from_utf8(out).unwrap();
        (code, shown.replace(&format!("{}/", folder.path().display()), ""))
    }

    #[test]
    fn a_valid_file_is_summed_up() {
        let (code, shown) = checked(
            "backends: [{name: a, type: ollama, url: 'http://localhost:11434'}]\n\
             models: [{name: m, aliases: [n], deployments: [{backend: a, model: x}]}]\n\
             auth: {mode: open}\n",
        );
        assert_eq!(
            shown,
            "OK\n\
             backend a: ollama at http://localhost:11434/v1, on_prem\n\
             model m, n: x at a\n\
             warning: line 3: auth.mode: anyone who reaches the gateway may use it\n"
        );
        assert_eq!(code, ExitCode::SUCCESS);
    }

    #[test]
    fn the_groups_of_a_backend_are_told_where_there_are_others_than_the_default_one() {
        let (_, shown) = checked(
            "backends: [{name: a, url: 'http://localhost:1', groups: [lab, default]}]\n\
             groups: [{name: lab, api_keys: [x]}]\n",
        );
        assert_eq!(shown, "OK\nbackend a: openai at http://localhost:1/v1, on_prem, for lab, default\n");
    }

    #[test]
    fn mistakes_are_listed_with_file_line_column_and_hint() {
        let (code, shown) = checked("server:\n  prot: 1\n  tls: {cert: /none, key: /none}\n");
        assert_eq!(
            shown,
            "synapse.yaml:2:3: server.prot: unknown key\n  hint: did you mean `port`?\n\
             synapse.yaml:3:15: server.tls.cert: the file cannot be read: No such file or directory (os error 2)\n\
             synapse.yaml:3:27: server.tls.key: the file cannot be read: No such file or directory (os error 2)\n\
             3 problems\n"
        );
        assert_eq!(code, ExitCode::FAILURE);
    }

    #[test]
    fn a_rule_that_does_not_do_what_its_examples_say_is_a_mistake() {
        let rule = "{name: r, pattern: 'a+', examples: [b], counter_examples: [c]}";
        let (code, shown) = checked(&format!("dlp:\n  policies:\n    - {{name: p, rules: [{rule}]}}\n"));
        assert!(shown.starts_with("synapse.yaml:3: policy `p`: rule `r`: "), "{shown}");
        assert_eq!(code, ExitCode::FAILURE);
    }

    #[test]
    fn a_file_that_is_not_there_is_a_failure_with_a_reason() {
        let mut out = Vec::new();
        let code = Check { file: "/none/synapse.yaml".into() }.run(&Process, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().starts_with("/none/synapse.yaml: cannot be read: "));
        assert_eq!(code, ExitCode::FAILURE);
    }
}
