//! One search for all keywords, and what is tried where one stands.

use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::{
    Latest, assignment, credentials, formats::FORMATS, issued, measure, pattern, pattern::Pattern, published,
    vendors::VENDORS,
};
use crate::hit::Certainty;

/// Looks around a keyword, of which it is given where it begins and ends.
type Look = fn(&str, usize, usize, &mut Latest<'_>);

/// What is tried at a keyword.
#[derive(Clone, Copy)]
enum Trial {
    /// A row of `FORMATS`, and one of its patterns.
    Format(usize, usize, usize),
    /// A row of `VENDORS`; whether the name's case matters.
    Vendor(usize, bool),
    /// Something that has its own code.
    Own(Look),
}

/// Keywords with code of their own.
const OWN: &[(&str, Look)] = &[
    ("syn_", issued::at_prefix),
    ("synw_", issued::at_prefix),
    ("syna_", issued::at_prefix),
    ("authorization", credentials::at_authorization),
    ("bearer ", credentials::at_bearer),
    ("curl", credentials::at_curl),
    ("secret", credentials::at_kubernetes),
    ("<add key=", credentials::at_nuget),
    ("passw", assignment::at_word),
    ("pwd", assignment::at_word),
    ("passphrase", assignment::at_word),
    ("secret", assignment::at_word),
    ("token", assignment::at_word),
    ("api_key", assignment::at_word),
    ("apikey", assignment::at_word),
    ("api-key", assignment::at_word),
    ("access_key", assignment::at_word),
    ("accesskey", assignment::at_word),
    ("access-key", assignment::at_word),
    ("auth_key", assignment::at_word),
    ("encryption_key", assignment::at_word),
    ("private_key", assignment::at_word),
    ("signing_key", assignment::at_word),
    ("credential", assignment::at_word),
];

/// A row of a table.
pub(super) struct Row {
    pub(super) category: &'static str,
    floor: f32,
    patterns: Vec<Pattern>,
}

struct Engine {
    search: AhoCorasick,
    /// For each keyword of the search.
    trials: Vec<Vec<Trial>>,
    formats: Vec<Row>,
    vendors: Vec<Row>,
}

fn row(category: &'static str, floor: f32, patterns: &'static str) -> Row {
    Row { category, floor, patterns: patterns.split(' ').map(Pattern::parse).collect() }
}

impl Engine {
    fn build() -> Option<Self> {
        let formats: Vec<Row> = FORMATS.iter().map(|(name, floor, text)| row(name, *floor, text)).collect();
        let vendors: Vec<Row> =
            VENDORS.iter().map(|(name, floor, _, text)| row(name, *floor, text)).collect();
        let mut words: Vec<String> = Vec::new();
        let mut trials: Vec<Vec<Trial>> = Vec::new();
        let mut add = |word: &str, trial: Trial| {
            let word = word.to_ascii_lowercase();
            match words.iter().position(|known| *known == word) {
                Some(at) => trials[at].push(trial),
                None => {
                    words.push(word);
                    trials.push(vec![trial]);
                }
            }
        };
        for (at, row) in formats.iter().enumerate() {
            for (number, pattern) in row.patterns.iter().enumerate() {
                if let Some((literal, before)) = pattern.anchor() {
                    add(literal, Trial::Format(at, number, before));
                }
            }
        }
        for (at, (_, _, names, _)) in VENDORS.iter().enumerate() {
            for name in names.split('|') {
                let (cased, name) = name.strip_prefix('=').map_or((false, name), |name| (true, name));
                add(name, Trial::Vendor(at, cased));
            }
        }
        for (word, own) in OWN {
            add(word, Trial::Own(*own));
        }
        let search = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::DFA))
            .build(&words)
            .ok()?;
        Some(Self { search, trials, formats, vendors })
    }
}

/// Builds the search, so that no text waits for it.
pub(crate) fn prepare() {
    engine();
}

/// The one of the process, built when first asked for.
fn engine() -> Option<&'static Engine> {
    static ENGINE: OnceLock<Option<Engine>> = OnceLock::new();
    ENGINE.get_or_init(Engine::build).as_ref()
}

/// Tries at every keyword what belongs to it.
pub(super) fn find(text: &str, latest: &mut Latest<'_>) {
    let Some(engine) = engine() else { return };
    for found in engine.search.find_overlapping_iter(text) {
        for trial in &engine.trials[found.pattern().as_usize()] {
            match *trial {
                Trial::Format(row, pattern, before) => {
                    if let Some(start) = found.start().checked_sub(before) {
                        try_format(&engine.formats[row], pattern, text, start, latest);
                    }
                }
                Trial::Vendor(row, cased) => {
                    if !cased || is_one_case(&text[found.range()]) {
                        assignment::at_vendor(&engine.vendors[row], text, found.start(), found.end(), latest);
                    }
                }
                Trial::Own(own) => own(text, found.start(), found.end(), latest),
            }
        }
    }
}

fn try_format(row: &Row, pattern: usize, text: &str, start: usize, latest: &mut Latest<'_>) {
    let bytes = text.as_bytes();
    if latest.covers(row.category, start) {
        return;
    }
    let Some(end) = row.patterns[pattern].end_at(bytes, start) else { return };
    let token = &bytes[start..end];
    if measure::entropy(token) < row.floor || is_filler(token) || published::is_published(token) {
        return;
    }
    let certainty = if token.ends_with(b"EXAMPLE") { Certainty::Weak } else { Certainty::Sure };
    latest.report(row.category, start..end, certainty);
}

/// Whether a token only stands for one: most of it is one character, or words of the language (`my-token`).
fn is_filler(token: &[u8]) -> bool {
    const WORDS: [&[u8]; 3] = [b"token", b"-my-", b"your"];
    let words = |word: &[u8]| token.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    WORDS.into_iter().any(words)
        || token.windows(5).any(|five| {
            matches!(five[0], b'x' | b'X' | b'*' | b'.') && five.iter().all(|byte| *byte == five[0])
        })
}

/// All lower case, all upper case, or capitalised.
fn is_one_case(word: &str) -> bool {
    let rest = word.get(1..).unwrap_or("");
    let lower = |byte: u8| !byte.is_ascii_uppercase();
    let upper = |byte: u8| !byte.is_ascii_lowercase();
    rest.bytes().all(lower) || word.bytes().all(upper)
}

impl Row {
    /// Where a vendor's value that begins at `at` ends, if it is one.
    pub(super) fn value_end(&self, text: &[u8], at: usize) -> Option<usize> {
        let is_secret = |end: &usize| {
            let value = &text[at..*end];
            let varied = measure::entropy(value) >= self.floor.max(1.5) && !is_filler(value);
            varied && value.iter().any(u8::is_ascii_digit) && pattern::ends_token(text, *end)
        };
        self.patterns.iter().find_map(|pattern| pattern.end_at(text, at).filter(is_secret))
    }
}
