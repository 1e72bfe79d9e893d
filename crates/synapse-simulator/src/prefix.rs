//! An engine's prefix cache: which blocks of prompts it still holds. Bounded; the blocks used longest
//! ago make room, and of one prompt the last ones first.

use std::collections::{BTreeMap, HashMap};

use crate::text;

/// The tokens of a prompt that share one block.
pub(crate) const BLOCK: usize = 16;

/// The blocks held, each under a hash that covers all blocks before it.
#[derive(Default)]
pub(crate) struct PrefixCache {
    /// When each was last used.
    blocks: HashMap<u64, u64>,
    by_age: BTreeMap<u64, u64>,
    clock: u64,
}

impl PrefixCache {
    /// How many tokens of the prompt are held already; from now on all of its whole blocks are, as
    /// far as `capacity` goes.
    pub(crate) fn take(&mut self, model: &str, tokens: &[String], capacity: usize) -> usize {
        let chain = chain(model, tokens);
        let held = chain.iter().take_while(|block| self.blocks.contains_key(block)).count();
        // The beginning is used last, so that it stays longest: without it the rest is worth nothing.
        for block in chain.into_iter().rev() {
            self.touch(block);
        }
        while self.blocks.len() > capacity
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.blocks.remove(&oldest);
        }
        held * BLOCK
    }

    fn touch(&mut self, block: u64) {
        self.clock += 1;
        if let Some(before) = self.blocks.insert(block, self.clock) {
            self.by_age.remove(&before);
        }
        self.by_age.insert(self.clock, block);
    }

    /// How many blocks are held.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        *self = Self { clock: self.clock, ..Self::default() };
    }
}

/// The hashes of a prompt's whole blocks. A prefix is only as good as its beginning.
fn chain(model: &str, tokens: &[String]) -> Vec<u64> {
    let mut prefix = text::hash(model.as_bytes());
    let link = |block: &[String]| {
        prefix ^= text::hash(block.concat().as_bytes()).rotate_left(1);
        prefix = text::hash(&prefix.to_le_bytes());
        prefix
    };
    tokens.chunks_exact(BLOCK).map(link).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 100;

    fn prompt(words: usize, last: &str) -> Vec<String> {
        text::tokenise(&(vec!["word"; words].join(" ") + " " + last))
    }

    #[test]
    fn a_repeated_prefix_is_held_in_whole_blocks() {
        let mut cache = PrefixCache::default();
        assert_eq!(cache.take("m", &prompt(40, "one"), ROOM), 0);
        assert_eq!(cache.take("m", &prompt(40, "two"), ROOM), 32);
        assert_eq!(cache.len(), 2);
    }

    #[test]
    fn another_model_or_another_beginning_shares_nothing() {
        let mut cache = PrefixCache::default();
        cache.take("m", &prompt(40, "one"), ROOM);
        assert_eq!(cache.take("n", &prompt(40, "one"), ROOM), 0);
        let other = text::tokenise(&format!("other {}", prompt(40, "one").concat()));
        assert_eq!(cache.take("m", &other, ROOM), 0);
    }

    #[test]
    fn what_was_used_longest_ago_makes_room_and_the_end_of_a_prompt_before_its_beginning() {
        let mut cache = PrefixCache::default();
        let old = text::tokenise(&text::words(1, 64).concat());
        let new = text::tokenise(&text::words(2, 32).concat());
        cache.take("m", &old, 4);
        cache.take("m", &new, 4);
        assert_eq!(cache.len(), 4);
        assert_eq!(cache.take("m", &new, 4), 32);
        assert_eq!(cache.take("m", &old, 4), 32, "its two first blocks are left");
        assert_eq!(cache.take("m", &old, 0), 64);
        assert_eq!(cache.take("m", &old, 4), 0, "without room nothing is held");
    }

    #[test]
    fn a_prompt_that_is_larger_than_the_cache_leaves_its_beginning() {
        let mut cache = PrefixCache::default();
        let long = text::tokenise(&text::words(3, 160).concat());
        cache.take("m", &long, 3);
        assert_eq!(cache.take("m", &long, 3), 48);
    }
}
