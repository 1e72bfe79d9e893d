//! Glob patterns over names: `*` stands for any run of characters, `/` included, as model ids have
//! slashes; everything else stands for itself.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One pattern.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Glob(String);

impl Glob {
    /// A pattern from its text. Every text is a pattern.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern has no `*`, and so names exactly one thing.
    pub fn is_literal(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        self.capture(name).is_some()
    }

    /// What the first `*` stands for in `name` (`""` for a literal), or `None` without a match.
    pub fn capture<'n>(&self, name: &'n str) -> Option<&'n str> {
        let Some((head, tail)) = self.0.split_once('*') else {
            return (self.0 == name).then_some("");
        };
        let rest = name.strip_prefix(head)?;
        let Some((middle, last)) = tail.rsplit_once('*') else {
            return rest.strip_suffix(tail);
        };
        // Several stars: leftmost matches for the inner pieces are always enough.
        let mut open = rest.strip_suffix(last)?;
        let mut first = None;
        for piece in middle.split('*') {
            let at = open.find(piece)?;
            first.get_or_insert(at);
            open = &open[at + piece.len()..];
        }
        Some(&rest[..first.unwrap_or(0)])
    }

    /// Puts `captured` in place of the first `*` of this pattern.
    pub fn fill(&self, captured: &str) -> String {
        self.0.replacen('*', captured, 1)
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, name, want) in [
            ("*", "a/b", true),
            ("llama*", "llama3.1:8b", true),
            ("llama*", "qwen", false),
            ("*-8b", "llama-8b", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            ("a*a", "a", false),
            ("a*a*a", "aa", false),
            ("a**b", "ab", true),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(name), want, "{pattern} on {name}");
        }
    }

    #[test]
    fn the_first_star_is_carried_over_into_another_pattern() {
        let public = Glob::new("openai/*");
        let captured = public.capture("openai/gpt-4o").expect("a match");
        assert_eq!(Glob::new("*").fill(captured), "gpt-4o");
        assert_eq!(Glob::new("a*b*c").capture("aXbYc"), Some("X"));
    }
}
