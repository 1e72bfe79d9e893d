//! `synapse simulate`: runs an engine that only pretends.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use synapse_simulator::{Options, Simulator};
use tokio::signal::unix::{SignalKind, signal};

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
    Sglang,
    Tgi,
    #[value(name = "tensorrt-llm")]
    TensorrtLlm,
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to 1".into())
}

pub(super) async fn run(args: SimulateArgs) -> anyhow::Result<ExitCode> {
    let options = Options {
        port: args.port,
        engine: args.engine.into(),
        models: args.models,
        ttft: Duration::from_millis(args.ttft_ms),
        itl: Duration::from_millis(args.itl_ms),
        tokens: args.tokens,
        error_rate: args.error_rate,
        cut_after: args.cut_after,
        seed: args.seed,
        ..Options::default()
    };
    let engine = options.engine;
    let simulator =
        Simulator::bind(options).await.with_context(|| format!("cannot listen on port {}", args.port))?;
    let control = simulator.control();
    writeln!(io::stderr(), "simulating {engine} on http://{}", simulator.addr())?;
    let signals = async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
        control.stop();
        io::Result::Ok(())
    };
    let ((), stopped) = tokio::join!(simulator.run(), signals);
    stopped?;
    Ok(ExitCode::SUCCESS)
}

impl From<Engine> for synapse_simulator::Engine {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Openai => Self::OpenAi,
            Engine::Ollama => Self::Ollama,
            Engine::Vllm => Self::Vllm,
            Engine::LlamaCpp => Self::LlamaCpp,
            Engine::Sglang => Self::Sglang,
            Engine::Tgi => Self::Tgi,
            Engine::TensorrtLlm => Self::TensorRtLlm,
        }
    }
}
