//! `synapse simulate`: runs an engine that only pretends.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, ValueEnum};

/// Flags of `synapse simulate`.
#[derive(Args, Debug)]
pub(super) struct SimulateArgs {
    /// Port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 8081)]
    pub(super) port: u16,
    /// Whose wire format to speak
    #[arg(long, value_enum, default_value_t = Engine::Openai)]
    pub(super) engine: Engine,
    /// A model to offer; repeat it for more
    #[arg(long = "model", value_name = "NAME", value_delimiter = ',', default_value = "sim")]
    pub(super) models: Vec<String>,
    /// Time to the first token, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(super) ttft_ms: u64,
    /// Time between tokens, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(super) itl_ms: u64,
    /// Tokens in a reply
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(super) tokens: u32,
    /// Share of requests that fail, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse_share)]
    pub(super) error_rate: f64,
    /// Break the connection after this many tokens
    #[arg(long, value_name = "N")]
    pub(super) cut_after: Option<u32>,
    /// Seed of all that is random, so that a run can be repeated
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
}

/// The wire formats of the simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Engine {
    Openai,
    Ollama,
    Vllm,
    LlamaCpp,
    Speech,
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to 1".into())
}

pub(super) async fn run(_args: SimulateArgs) -> anyhow::Result<ExitCode> {
    bail!("the simulator is not built yet")
}
