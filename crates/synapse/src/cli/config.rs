//! `synapse config …`: the configuration described, and LiteLLM's converted.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use synapse_core::config::{self, Surroundings};

use super::print_problems;

/// Describe the configuration, or convert LiteLLM's.
#[derive(Subcommand, Debug)]
pub(crate) enum Config {
    /// Print the JSON Schema of the configuration.
    Schema,
    /// Print a LiteLLM `config.yaml` as a Synapse configuration; on stderr, what has no place in it.
    ImportLitellm {
        /// The LiteLLM file.
        file: PathBuf,
    },
    /// Print docs/config.md.
    #[command(hide = true)]
    Reference,
}

impl Config {
    /// Exit code 1 if there is a file that cannot be read or converted.
    ///
    /// # Errors
    /// When `out` or `err` cannot be written to.
    pub(crate) fn run(
        &self,
        world: &dyn Surroundings,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> io::Result<ExitCode> {
        match self {
            Self::Schema => writeln!(out, "{:#}", config::schema())?,
            Self::Reference => write!(out, "{}", config::reference_markdown())?,
            Self::ImportLitellm { file } => return import(file, world, out, err),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn import(
    file: &Path,
    world: &dyn Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<ExitCode> {
    let text = match world.read_file(file) {
        Ok(text) => text,
        Err(error) => {
            writeln!(err, "{}: cannot be read: {error}", file.display())?;
            return Ok(ExitCode::FAILURE);
        }
    };
    match config::import(&text) {
        Ok(import) => {
            write!(out, "{}", import.yaml)?;
            for note in &import.not_carried {
                writeln!(err, "{note}")?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            print_problems(err, file, &problems)?;
            Ok(ExitCode::FAILURE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::Process;

    fn run(command: &Config) -> (ExitCode, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = command.run(&Process, &mut out, &mut err).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn imported(text: &str) -> (ExitCode, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, text).unwrap();
        run(&Config::ImportLitellm { file })
    }

    #[test]
    fn the_schema_is_one_json_document() {
        let (code, out, _) = run(&Config::Schema);
        let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(schema["title"], "Synapse configuration");
        assert_eq!(code, ExitCode::SUCCESS);
    }

    #[test]
    fn a_conversion_goes_to_stdout_and_what_is_left_to_stderr() {
        let (code, out, err) = imported(
            "model_list: [{model_name: a, litellm_params: {model: ollama/a, rpm: 6}}]\n\
             general_settings: {master_key: os.environ/KEY}\n",
        );
        assert!(out.contains("secret: ${KEY}\n") && out.contains("- name: ollama\n"), "{out}");
        assert!(err.starts_with("line 1: model_list[0].litellm_params.rpm: not carried over"), "{err}");
        assert_eq!(code, ExitCode::SUCCESS);
    }

    #[test]
    fn a_file_without_models_is_refused() {
        let (code, out, err) = imported("backends: []\n");
        assert!(out.is_empty() && err.contains("there is no `model_list`"), "{err}");
        assert_eq!(code, ExitCode::FAILURE);
    }
}
