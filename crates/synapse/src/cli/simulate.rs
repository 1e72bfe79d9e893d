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
    /// At most this much more for each of these waits, by the seed
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(super) jitter_ms: u64,
    /// Time for each token of a prompt that the prefix cache does not have, in microseconds
    #[arg(long, value_name = "US", default_value_t = 0)]
    pub(super) prefill_us: u64,
    /// Blocks of 16 tokens that the prefix cache holds
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(super) cache_blocks: usize,
    /// Requests worked on at once; the others wait their turn. Default: all
    #[arg(long, value_name = "N")]
    pub(super) slots: Option<u32>,
    /// How much each further running request lengthens every wait: 0.1 is a tenth
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse_slowdown)]
    pub(super) slowdown: f64,
    /// Time to load a model, in milliseconds; llama-cpp and ollama load on demand
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(super) load_ms: u64,
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
    /// Any behaviour, timeline included, as `POST /_sim` takes it
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    pub(super) behaviour: Option<serde_json::Value>,
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

fn parse_slowdown(text: &str) -> Result<f64, String> {
    let slowdown = text.parse::<f64>().ok().filter(|share| (0.0..=1e6).contains(share));
    slowdown.ok_or_else(|| "expected a number from 0 on".into())
}

fn parse_json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

pub(super) async fn run(args: SimulateArgs) -> anyhow::Result<ExitCode> {
    let options = Options {
        port: args.port,
        engine: args.engine.into(),
        models: args.models,
        ttft: Duration::from_millis(args.ttft_ms),
        itl: Duration::from_millis(args.itl_ms),
        jitter: Duration::from_millis(args.jitter_ms),
        slots: args.slots,
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
    control.update(|behaviour| {
        behaviour.prefill = Duration::from_micros(args.prefill_us);
        behaviour.cache_blocks = args.cache_blocks;
        behaviour.slowdown = args.slowdown;
        behaviour.load = Duration::from_millis(args.load_ms);
    });
    if let Some(changes) = args.behaviour {
        control.apply(changes).context("--behaviour cannot be used as it is")?;
    }
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
