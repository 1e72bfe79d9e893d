//! The operator's own rules: expressions, dictionaries, and values of which only hashes are known.

mod compiled;
mod dictionary;
mod exact;

use std::collections::HashSet;

use sha2::Sha256;

use crate::{finding::Category, hit::Severity};
pub(crate) use compiled::Compiled;
pub use exact::exact_hash;

/// A rule of the operator's.
#[derive(Clone)]
pub struct CustomRule {
    /// Its name; findings call it `custom:` and this.
    pub name: String,
    /// What it finds.
    pub kind: CustomKind,
    /// How bad a leak of it is.
    pub severity: Severity,
    /// Whether replies may be kept back whole for its sake. Without it, matches in replies are no longer than 512
    /// bytes.
    pub buffer: bool,
}

/// What a custom rule finds.
#[derive(Clone)]
pub enum CustomKind {
    /// What an expression matches, in time linear in the text. The end of a reply that streams by waits for as
    /// many bytes as a match may have, if it may have more than one word: a small bound holds little.
    Regex {
        /// The expression.
        pattern: String,
        /// Texts in which it must match.
        examples: Vec<String>,
        /// Texts in which it must not.
        counter_examples: Vec<String>,
        /// How long a match may be in bytes, where the expression itself knows no bound. Longer ones are cut.
        /// Rules for replies that neither have a bound nor `buffer` get one of 512.
        max_len: Option<usize>,
    },
    /// Words and phrases. Up to three separators (white space, `. - _ * | / '`, dashes) may stand between words,
    /// or none if the phrase has five characters or more; a word's own characters may be set apart likewise if
    /// all of them are. Matches longer than 512 bytes count only if the phrase itself is as long.
    Dictionary {
        /// The words.
        words: Vec<String>,
        /// Whether they must stand alone, as opposed to within other words.
        whole_words: bool,
        /// Whether case matters.
        case_sensitive: bool,
    },
    /// Values of which only keyed hashes are known, as [`exact_hash`] makes them.
    ExactMatch {
        /// The key of the hashes.
        salt: Vec<u8>,
        /// The hashes.
        hmacs: HashSet<[u8; 32]>,
        /// How many words a value may have.
        max_words: usize,
    },
}

/// What is wrong with a custom rule.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Its expression cannot be read.
    #[error("`pattern` cannot be used: {0}")]
    Pattern(String),
    /// It does not find what it should.
    #[error("`examples[{0}]` is not found by the pattern")]
    MissedExample(usize),
    /// It finds what it should not.
    #[error("`counter_examples[{0}]` is found by the pattern")]
    FoundCounterExample(usize),
    /// Its matches may be too long.
    #[error(
        "matches may be {0} bytes long: bound them to 512 with a shorter phrase or expression, or set `buffer` to keep replies back whole"
    )]
    TooLong(usize),
    /// It would find nothing.
    #[error("`{0}` is empty")]
    Empty(&'static str),
    /// One of its words could stand anywhere.
    #[error("`words[{0}]` consists of separators only: give it a letter or a digit")]
    OnlySeparators(usize),
}

impl CustomRule {
    /// Feeds a hash with all that it says.
    pub(crate) fn feed(&self, hash: &mut Sha256) {
        use sha2::Digest;
        hash.update(format!("{} {:?} {}", self.name, self.severity, self.buffer));
        match &self.kind {
            CustomKind::Regex { pattern, max_len, .. } => hash.update(format!("{pattern:?} {max_len:?}")),
            CustomKind::Dictionary { words, whole_words, case_sensitive } => {
                hash.update(format!("{words:?} {whole_words} {case_sensitive}"));
            }
            CustomKind::ExactMatch { salt, hmacs, max_words } => {
                let mut hmacs: Vec<_> = hmacs.iter().collect();
                hmacs.sort_unstable();
                hash.update(format!("{max_words}"));
                hash.update(salt);
                hmacs.into_iter().for_each(|hmac| hash.update(hmac));
            }
        }
    }
}

/// The custom rules of a policy, ready for use.
#[derive(Default)]
pub(crate) struct CustomRules(Vec<Compiled>);

impl CustomRules {
    /// Makes rules ready. `in_replies` says which of them replies are searched for.
    pub(crate) fn compile(
        rules: &[CustomRule],
        in_replies: impl Fn(&Category) -> bool,
    ) -> Result<Self, (String, RuleError)> {
        let compile = |rule: &CustomRule| {
            let category = Category::custom(&rule.name);
            let in_replies = in_replies(&category);
            Compiled::new(category, rule, in_replies)
        };
        let compiled = rules.iter().map(|rule| compile(rule).map_err(|error| (rule.name.clone(), error)));
        compiled.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Compiled> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests;
