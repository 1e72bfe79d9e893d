//! Token accounting: what one call used, and the engine's totals. Rendering them is for the wire
//! formats and the metrics.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::prefix::PrefixCache;
use crate::text;

/// The tokens of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) prompt: u32,
    /// Those of the prompt found in the prefix cache.
    pub(crate) cached: u32,
    pub(crate) completion: u32,
}

impl Usage {
    pub(crate) fn total(self) -> u32 {
        self.prompt + self.completion
    }

    /// The tokens of the prompt that had to be processed.
    pub(crate) fn processed(self) -> u32 {
        self.prompt - self.cached
    }
}

/// What an engine's metrics add up over its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Calls for generated text.
    pub requests: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Those of them that the prefix cache had.
    pub cached_tokens: u64,
    /// Tokens of their replies.
    pub generated_tokens: u64,
    /// Blocks that the prefix cache holds now.
    pub cached_blocks: u64,
}

/// The totals and the prefix cache of one simulator.
#[derive(Default)]
pub(crate) struct Accounts {
    state: Mutex<(Totals, PrefixCache)>,
}

impl Accounts {
    pub(crate) fn totals(&self) -> Totals {
        let state = self.state();
        Totals { cached_blocks: state.1.len() as u64, ..state.0 }
    }

    /// Looks `prompt` up in the prefix cache of `model`, which holds at most `capacity` blocks,
    /// remembers it, and counts the call. What it generates is counted when that is done.
    pub(crate) fn add(&self, model: &str, prompt: &str, completion: u32, capacity: usize) -> Usage {
        let tokens = text::tokenise(prompt);
        let mut state = self.state();
        let (totals, cache) = &mut *state;
        let cached = cache.take(model, &tokens, capacity);
        let usage = Usage { prompt: text::count(tokens.len()), cached: text::count(cached), completion };
        totals.requests += 1;
        totals.prompt_tokens += u64::from(usage.prompt);
        totals.cached_tokens += u64::from(usage.cached);
        usage
    }

    /// Counts tokens that were generated.
    pub(crate) fn generated(&self, tokens: u32) {
        self.state().0.generated_tokens += u64::from(tokens);
    }

    /// Forgets every prefix, as an engine does that gives its memory back.
    pub(crate) fn forget_prefixes(&self) {
        self.state().1.clear();
    }

    fn state(&self) -> MutexGuard<'_, (Totals, PrefixCache)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_add_up_what_calls_used() {
        let accounts = Accounts::default();
        let prompt = text::words(1, 40).concat();
        accounts.add("m", &prompt, 5, 100);
        let usage = accounts.add("m", &prompt, 5, 100);
        assert_eq!(usage, Usage { prompt: 40, cached: 32, completion: 5 });
        let totals = Totals {
            requests: 2,
            prompt_tokens: 80,
            cached_tokens: 32,
            generated_tokens: 5,
            cached_blocks: 2,
        };
        accounts.generated(usage.completion);
        assert_eq!(accounts.totals(), totals);
        accounts.forget_prefixes();
        assert_eq!(accounts.add("m", &prompt, 5, 100).cached, 0);
    }
}
