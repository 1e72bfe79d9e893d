//! Patterns of tokens: literals and runs of characters of an alphabet, tried at one place, in one pass.
//!
//! `ghp_<a:36>$`: literal text, and `<alphabet:length>` or `<alphabet:least-greatest>`. An alphabet is one
//! letter (`d` digits, `h` and `H` hexadecimal digits in lower and in either case, `g` those and `g` and `h`,
//! `l` lower case and digits, `u` upper case and digits, `2` upper case and 2 to 7, `z` letters, `a` letters
//! and digits, `=` only itself) and further characters as they are. `#` in front: there must be a digit.
//! `~`: case does not matter. `^` begins where a word may, `$` ends where one may. Runs take all they can get and give nothing back.

/// One alphabet: a bit for each ASCII character.
type Alphabet = u128;

#[derive(Debug)]
enum Part {
    Literal(&'static [u8]),
    Run { alphabet: Alphabet, least: usize, greatest: usize },
}

/// A pattern, ready to be tried.
#[derive(Debug)]
pub(super) struct Pattern {
    parts: Vec<Part>,
    needs_digit: bool,
    any_case: bool,
    begins_word: bool,
    ends_word: bool,
}

impl Pattern {
    /// Reads what a table says.
    pub(super) fn parse(text: &'static str) -> Self {
        let (needs_digit, text) = strip(text, '#');
        let (any_case, text) = strip(text, '~');
        let (begins_word, text) = strip(text, '^');
        let (ends_word, mut rest) = match text.strip_suffix('$') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut parts = Vec::new();
        while let Some(at) = rest.find('<') {
            if at > 0 {
                parts.push(Part::Literal(&rest.as_bytes()[..at]));
            }
            let (run, behind) = rest[at + 1..].split_once('>').unwrap_or((&rest[at + 1..], ""));
            let (alphabet, length) = run.rsplit_once(':').unwrap_or((run, "0"));
            let (least, greatest) = length.split_once('-').unwrap_or((length, length));
            parts.push(Part::Run {
                alphabet: alphabet_of(alphabet),
                least: least.parse().unwrap_or(0),
                greatest: greatest.parse().unwrap_or(0),
            });
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.as_bytes()));
        }
        Self { parts, needs_digit, any_case, begins_word, ends_word }
    }

    /// Its longest literal, and how many bytes stand before it: where to look for it. None when it has no
    /// literal behind parts of fixed length.
    pub(super) fn anchor(&self) -> Option<(&'static str, usize)> {
        let mut best: Option<(&'static str, usize)> = None;
        let mut before = 0;
        for part in &self.parts {
            match part {
                Part::Literal(literal) => {
                    let literal = std::str::from_utf8(literal).unwrap_or("");
                    if best.is_none_or(|(known, _)| literal.len() > known.len()) {
                        best = Some((literal, before));
                    }
                    before += literal.len();
                }
                Part::Run { least, greatest, .. } if least == greatest => before += least,
                Part::Run { .. } => break,
            }
        }
        best
    }

    /// A text that matches.
    #[cfg(any(test, feature = "samples"))]
    pub(super) fn sample(&self, random: &mut super::samples::Random) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(std::str::from_utf8(literal).unwrap_or_default()),
                Part::Run { alphabet, least, greatest } => {
                    let all: Vec<char> =
                        (33..127u8).filter(|byte| has(*alphabet, *byte)).map(char::from).collect();
                    let length = least + random.below((greatest - least).min(40) + 1);
                    text.extend((0..length).map(|_| all[random.below(all.len())]));
                }
            }
        }
        text
    }

    /// Where a match that begins at `at` ends.
    pub(super) fn end_at(&self, text: &[u8], at: usize) -> Option<usize> {
        if self.begins_word && at > 0 && is_word(text[at - 1]) {
            return None;
        }
        let mut here = at;
        for part in &self.parts {
            match part {
                Part::Literal(literal) => {
                    let found = text.get(here..here + literal.len())?;
                    let fits =
                        if self.any_case { found.eq_ignore_ascii_case(literal) } else { found == *literal };
                    if !fits {
                        return None;
                    }
                    here += literal.len();
                }
                Part::Run { alphabet, least, greatest } => {
                    let rest = text.get(here..)?;
                    let most = &rest[..rest.len().min(*greatest)];
                    let length = most.iter().take_while(|byte| has(*alphabet, **byte)).count();
                    if length < *least {
                        return None;
                    }
                    here += length;
                }
            }
        }
        let has_digit = || text[at..here].iter().any(u8::is_ascii_digit);
        let fits = (!self.ends_word || ends_token(text, here)) && (!self.needs_digit || has_digit());
        fits.then_some(here)
    }
}

fn strip(text: &'static str, mark: char) -> (bool, &'static str) {
    text.strip_prefix(mark).map_or((false, text), |rest| (true, rest))
}

fn has(alphabet: Alphabet, byte: u8) -> bool {
    byte < 128 && alphabet >> byte & 1 == 1
}

/// Whether a byte may be part of a word.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether a token that reaches until `at` ends there.
pub(super) fn ends_token(text: &[u8], at: usize) -> bool {
    match text.get(at) {
        None => true,
        Some(b'.' | b':' | b'!' | b'?' | b'-') => text.get(at + 1).is_none_or(u8::is_ascii_whitespace),
        Some(byte) => !is_word(*byte) && !matches!(byte, b'+' | b'/' | b'=' | b'~' | b'@' | b'%'),
    }
}

fn alphabet_of(text: &str) -> Alphabet {
    let mut chars = text.chars();
    let named: &[&str] = match chars.next() {
        Some('d') => &["0-9"],
        Some('h') => &["0-9", "a-f"],
        Some('H') => &["0-9", "a-f", "A-F"],
        Some('g') => &["0-9", "a-h"],
        Some('l') => &["0-9", "a-z"],
        Some('u') => &["0-9", "A-Z"],
        Some('2') => &["2-7", "A-Z"],
        Some('z') => &["a-z", "A-Z"],
        Some('a') => &["0-9", "a-z", "A-Z"],
        Some('=') => &["=-="],
        _ => &[],
    };
    let ranges = named.iter().flat_map(|range| {
        let bytes = range.as_bytes();
        bytes[0]..=bytes[2]
    });
    ranges.chain(chars.map(|c| c as u8)).fold(0, |alphabet, byte| alphabet | 1 << (byte & 127))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(pattern: &'static str, text: &str) -> Option<usize> {
        Pattern::parse(pattern).end_at(text.as_bytes(), 0)
    }

    #[test]
    fn runs_have_their_lengths() {
        assert_eq!(matched("x_<d:3>", "x_123"), Some(5));
        assert_eq!(matched("x_<d:3>", "x_12"), None);
        assert_eq!(matched("x_<d:1-3>", "x_1234"), Some(5));
        assert_eq!(matched("x_<d:1-3>$", "x_1234"), None);
    }

    #[test]
    fn a_word_ends_at_the_full_stop_of_a_sentence_and_not_at_that_of_a_file_name() {
        assert_eq!(matched("x_<d:3>$", "x_123. Then"), Some(5));
        assert_eq!(matched("x_<d:3>$", "x_123.png"), None);
    }

    #[test]
    fn the_anchor_is_the_longest_literal() {
        assert_eq!(Pattern::parse("^<a:4>.atlas.<a:1-9>").anchor(), Some((".atlas.", 4)));
        assert_eq!(Pattern::parse("<a:1-4>.atlas").anchor(), None);
    }
}
