//! Token accounting: what one call used, and the engine's totals with its prefix cache. Rendering them
//! is for the wire formats and the metrics.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::text;

/// The tokens of a prompt that share one entry of the prefix cache.
const BLOCK: usize = 16;
/// Past this many entries the prefix cache starts anew.
const BLOCKS_KEPT: usize = 100_000;

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
}

/// What an engine's metrics add up over its life.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) requests: u64,
    pub(crate) prompt: u64,
    pub(crate) generated: u64,
    pub(crate) prefix_queries: u64,
    pub(crate) prefix_hits: u64,
}

/// The sums and the prefix cache of one simulator.
#[derive(Default)]
pub(crate) struct Totals {
    state: Mutex<(Sums, HashSet<u64>)>,
}

impl Totals {
    pub(crate) fn sums(&self) -> Sums {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Looks `prompt` up in the prefix cache of `model`, remembers it, and counts the call.
    pub(crate) fn add(&self, model: &str, prompt: &str, completion: u32) -> Usage {
        let tokens = text::tokenise(prompt);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (sums, cache) = &mut *state;
        if cache.len() > BLOCKS_KEPT {
            cache.clear();
        }
        let mut prefix = text::hash(model.as_bytes());
        let mut hits = 0;
        // A prefix is only as good as its beginning: each block's hash covers all blocks before it.
        for block in tokens.chunks_exact(BLOCK) {
            prefix ^= text::hash(block.concat().as_bytes()).rotate_left(1);
            prefix = text::hash(&prefix.to_le_bytes());
            if !cache.insert(prefix) {
                hits += 1;
            }
        }
        let usage =
            Usage { prompt: text::count(tokens.len()), cached: text::count(hits * BLOCK), completion };
        sums.requests += 1;
        sums.prompt += u64::from(usage.prompt);
        sums.generated += u64::from(completion);
        sums.prefix_queries += u64::from(usage.prompt);
        sums.prefix_hits += u64::from(usage.cached);
        usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(words: usize, last: &str) -> String {
        vec!["word"; words].join(" ") + " " + last
    }

    #[test]
    fn a_repeated_prefix_is_cached_in_whole_blocks() {
        let totals = Totals::default();
        assert_eq!(totals.add("m", &prompt(40, "one"), 5).cached, 0);
        assert_eq!(totals.add("m", &prompt(40, "two"), 5), Usage { prompt: 41, cached: 32, completion: 5 });
        assert_eq!(totals.sums().prefix_hits, 32);
        assert_eq!(totals.sums().generated, 10);
    }

    #[test]
    fn another_model_shares_no_prefix() {
        let totals = Totals::default();
        totals.add("m", &prompt(40, "one"), 1);
        assert_eq!(totals.add("n", &prompt(40, "one"), 1).cached, 0);
    }

    #[test]
    fn a_different_beginning_shares_nothing() {
        let totals = Totals::default();
        totals.add("m", &prompt(40, "one"), 1);
        assert_eq!(totals.add("m", &format!("other {}", prompt(40, "one")), 1).cached, 0);
    }
}
