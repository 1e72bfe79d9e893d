//! Token counts of one request.

use serde::{Deserialize, Serialize};

/// Tokens as the engine reported them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input_tokens: u64,
    /// Tokens of the reply.
    pub output_tokens: u64,
    /// The part of `input_tokens` that came from the engine's prefix cache.
    pub cached_tokens: u64,
}

impl Usage {
    /// Tokens of prompt and reply. Engines may claim anything.
    pub const fn total(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}
