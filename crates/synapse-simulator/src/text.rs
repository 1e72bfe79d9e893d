//! Deterministic text: words from a seed, tokens of a text, and the hash and random numbers behind
//! them. Nothing here knows of requests.

const WORDS: [&str; 64] = [
    "the", "a", "river", "model", "light", "answers", "slowly", "because", "each", "token", "follows",
    "another", "with", "care", "and", "quiet", "patience", "while", "morning", "opens", "over", "hills",
    "where", "old", "paths", "meet", "new", "ones", "under", "clear", "sky", "some", "engines", "speak",
    "of", "numbers", "others", "remember", "rain", "but", "none", "forget", "how", "stones", "carry",
    "small", "words", "across", "open", "water", "until", "evening", "returns", "bright", "leaves", "turn",
    "green", "wind", "writes", "long", "letters", "to", "distant", "friends",
];

/// The longest token, in characters.
const TOKEN_CHARS: usize = 12;

/// A hash of `bytes` that is the same on every machine (FNV-1a, 64 bits).
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A stream of random numbers that a seed determines (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, not including, 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        // 32 bits convert exactly, and are plenty.
        f64::from((self.next() >> 32) as u32) / (f64::from(u32::MAX) + 1.0)
    }
}

/// `count` tokens of text that `seed` determines.
pub(crate) fn words(seed: u64, count: u32) -> Vec<String> {
    let mut random = Random::new(seed);
    (0..count)
        .map(|index| {
            let word = WORDS[(random.next() >> 58) as usize];
            if index == 0 { capitalised(word) } else { format!(" {word}") }
        })
        .collect()
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

/// The tokens of `text`: words with the space before them, long ones in pieces. Put together they are
/// the text again.
pub(crate) fn tokenise(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut current = String::new();
    let mut chars = 0;
    let mut in_word = false;
    for c in text.chars() {
        let starts_word = c.is_whitespace() && in_word;
        if starts_word || chars == TOKEN_CHARS {
            tokens.push(std::mem::take(&mut current));
            chars = 0;
        }
        in_word = !c.is_whitespace();
        current.push(c);
        chars += 1;
    }
    if !current.is_empty() {
        tokens.push(current);
    }
    tokens
}

/// The number of tokens of `text`.
pub(crate) fn count_tokens(text: &str) -> u32 {
    count(tokenise(text).len())
}

/// A length as the wire counts it.
pub(crate) fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_put_together_are_the_text() {
        for text in [
            "",
            "  two  spaces\n",
            "one",
            "Donaudampfschifffahrtsgesellschaft 漢字かな交じり文のとても長い文章です",
            "a\tb",
        ] {
            assert_eq!(tokenise(text).concat(), text);
        }
    }

    #[test]
    fn a_short_sentence_has_a_token_a_word() {
        assert_eq!(count_tokens("the quick brown fox"), 4);
    }

    #[test]
    fn the_same_seed_tells_the_same_story_and_another_one_another() {
        assert_eq!(words(7, 20), words(7, 20));
        assert_ne!(words(7, 20), words(8, 20));
        assert_eq!(words(7, 20).len(), 20);
    }

    #[test]
    fn fractions_stay_below_one_and_spread() {
        let mut random = Random::new(1);
        let draws: Vec<f64> = (0..1000).map(|_| random.fraction()).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        let mean = draws.iter().sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
