//! What a simulator is started with: its engine, address, key and seed, and the most common part of
//! the behaviour it begins with. All that can change while it runs is in `behaviour`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::behaviour::Behaviour;
use crate::interruption::{Interruption, InterruptionKind};

/// The engine whose routes, error shapes and metrics are imitated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// The hosted API itself.
    #[default]
    #[serde(rename = "openai")]
    OpenAi,
    /// vLLM's OpenAI-compatible server.
    Vllm,
    /// SGLang's runtime server.
    Sglang,
    /// llama.cpp's `llama-server`, in router mode.
    LlamaCpp,
    /// Ollama, with its native API and its OpenAI-compatible one.
    Ollama,
    /// Hugging Face Text Generation Inference.
    Tgi,
    /// TensorRT-LLM's `trtllm-serve`.
    #[serde(rename = "tensorrt-llm")]
    TensorRtLlm,
}

impl Engine {
    /// Every engine, in the order a help text lists them.
    pub const ALL: [Self; 7] =
        [Self::OpenAi, Self::Vllm, Self::Sglang, Self::LlamaCpp, Self::Ollama, Self::Tgi, Self::TensorRtLlm];

    /// The name used on the command line and in configuration files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::LlamaCpp => "llama-cpp",
            Self::Ollama => "ollama",
            Self::Tgi => "tgi",
            Self::TensorRtLlm => "tensorrt-llm",
        }
    }
}

impl Engine {
    /// Whether it loads a model when somebody asks for it.
    pub(crate) const fn loads_on_demand(self) -> bool {
        matches!(self, Self::LlamaCpp | Self::Ollama)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is none of [`Engine::ALL`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownEngine(String);

impl fmt::Display for UnknownEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Engine::ALL.map(Engine::as_str).join(", ");
        write!(f, "unknown engine `{}`; one of {names}", self.0)
    }
}

impl std::error::Error for UnknownEngine {}

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        Self::ALL
            .into_iter()
            .find(|engine| engine.as_str() == name)
            .ok_or_else(|| UnknownEngine(name.to_owned()))
    }
}

/// How a simulator is started. [`Options::default`] is instant, never fails and takes any free port.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address or host name to listen on.
    pub host: String,
    /// The port to listen on; 0 takes a free one.
    pub port: u16,
    /// The engine to imitate.
    pub engine: Engine,
    /// The models it serves, in the order they are listed.
    pub models: Vec<String>,
    /// The time from a whole request to the first token.
    pub ttft: Duration,
    /// The time between two tokens.
    pub itl: Duration,
    /// At most this much is added to each wait, by the seed.
    pub jitter: Duration,
    /// The length of a reply in tokens, unless the request asks for less.
    pub tokens: u32,
    /// The share of calls, from 0 to 1, answered with the engine's 500.
    pub error_rate: f64,
    /// Reset the connection after this many events of a streamed reply.
    pub cut_after: Option<u32>,
    /// The same seed, requests and order give the same replies, waits and errors.
    pub seed: u64,
    /// The bearer token callers must send; without one the simulator is open.
    pub api_key: Option<String>,
    /// The length of an embedding, unless the request asks for less.
    pub embedding_dim: usize,
    /// The longest prompt, in tokens, a model takes.
    pub context_length: u32,
    /// How many calls are worked on at once; the others wait their turn. Without a number, all are.
    pub slots: Option<u32>,
    /// How many requests are kept for inspection; the oldest are forgotten first.
    pub record: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 0,
            engine: Engine::default(),
            models: vec!["sim-model".to_owned()],
            ttft: Duration::ZERO,
            itl: Duration::ZERO,
            jitter: Duration::ZERO,
            tokens: 32,
            error_rate: 0.0,
            cut_after: None,
            seed: 0,
            api_key: None,
            embedding_dim: 384,
            context_length: 32_768,
            slots: None,
            record: 10_000,
        }
    }
}

impl Options {
    /// The behaviour these options begin with.
    #[must_use]
    pub fn behaviour(&self) -> Behaviour {
        Behaviour {
            models: self.models.clone(),
            ttft: self.ttft,
            itl: self.itl,
            jitter: self.jitter,
            tokens: self.tokens,
            error_rate: self.error_rate,
            interruption: self.cut_after.map(|after| Interruption::new(after, InterruptionKind::Reset)),
            slots: self.slots,
            ..Behaviour::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_is_found_by_its_own_name_and_serialises_to_it() {
        for engine in Engine::ALL {
            assert_eq!(engine.as_str().parse(), Ok(engine));
            assert_eq!(serde_json::to_value(engine).unwrap(), engine.as_str());
        }
    }

    #[test]
    fn an_unknown_engine_is_refused_with_the_valid_names() {
        let refused = "gpt4all".parse::<Engine>().unwrap_err().to_string();
        assert!(refused.contains("gpt4all") && refused.contains("llama-cpp"), "{refused}");
    }
}
