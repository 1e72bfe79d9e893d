//! Words and phrases, however they are set apart.
//!
//! A text is read without what may separate words, so that a phrase is one string wherever its words stand. What
//! was between the characters of a match is looked at only where there is one.

use std::ops::Range;

use aho_corasick::{
    Anchored,
    automaton::{Automaton, StateID},
    nfa::contiguous::NFA,
};

use super::{RuleError, compiled::LONGEST};
use crate::{view, window::is_delimiter};

/// How many separators may stand between two characters of a phrase,
const GAP: usize = 3;
/// and how many bytes each of them may have.
const SEPARATOR: usize = 3;

/// A phrase with fewer characters is a common word when it is written together: `I.T`, `E.ON`.
const JOINED: usize = 5;
/// A phrase with fewer characters stands by chance in texts that have single letters: `a * b`.
const SPELLED: usize = 3;

/// Up to how many bytes the search goes in tables, where most words of a text turn out to be in no phrase.
const DENSE: usize = 5;

/// Marks in [`Dictionary::bytes`] for what is not a character of its own. No text in UTF-8 has these bytes.
const SEPARATES: u8 = 0xFF;
const LEADS: u8 = 0xFE;

/// Words and phrases, ready for the search.
pub(super) struct Dictionary {
    automaton: NFA,
    /// What each string of the automaton consists of.
    phrases: Vec<Phrase>,
    /// What becomes of each byte of a text.
    bytes: [u8; 256],
    whole_words: bool,
    case_sensitive: bool,
    /// How long a match may be, in bytes.
    longest: usize,
}

/// What a match must be like besides its significant characters.
#[derive(Default)]
struct Phrase {
    /// How many significant characters each word has.
    words: Box<[usize]>,
    /// How many there are in all.
    length: usize,
    /// Separators that it begins with: `.NET` is not `net`.
    before: Box<str>,
    /// Separators that it ends with.
    behind: Box<str>,
}

impl Dictionary {
    pub(super) fn new(
        entries: &[String],
        whole_words: bool,
        case_sensitive: bool,
    ) -> Result<Self, RuleError> {
        let (mut keys, mut phrases, mut longest) = (Vec::new(), Vec::new(), 0);
        for (at, entry) in entries.iter().enumerate() {
            let entry = view::folded(entry.trim());
            let entry = entry.trim();
            if entry.is_empty() {
                continue;
            }
            let upper = entry.to_uppercase();
            // Some letters become several in upper case.
            let is_other = !case_sensitive && upper.chars().count() != entry.chars().count();
            for form in [Some(entry), is_other.then_some(upper.as_str())].into_iter().flatten() {
                let (key, phrase) = Phrase::of(form, case_sensitive).ok_or(RuleError::OnlySeparators(at))?;
                longest = longest.max(form.len().max(phrase.spread(&key).min(LONGEST)));
                keys.push(key);
                phrases.push(phrase);
            }
        }
        if keys.is_empty() {
            return Err(RuleError::Empty("words"));
        }
        let automaton = NFA::builder().prefilter(false).dense_depth(DENSE).build(&keys);
        let automaton = automaton.map_err(|error| RuleError::Pattern(error.to_string()))?;
        let bytes = std::array::from_fn(|byte| match char::from(byte as u8) {
            c if !c.is_ascii() => LEADS,
            c if separates(c) => SEPARATES,
            c => fold(c, case_sensitive) as u8,
        });
        Ok(Self { automaton, phrases, bytes, whole_words, case_sensitive, longest })
    }

    /// How long a match may be, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Reports all matches; they may overlap.
    pub(super) fn find(&self, text: &str, sink: &mut dyn FnMut(Range<usize>)) {
        let Ok(start) = self.automaton.start_state(Anchored::No) else { return };
        let (mut state, mut at, mut gap) = (start, 0, 0);
        while let Some(byte) = text.as_bytes().get(at) {
            let plain = self.bytes[usize::from(*byte)];
            let wide = if plain == LEADS { text[at..].chars().next() } else { None };
            at += wide.map_or(1, char::len_utf8);
            if plain == SEPARATES || wide.is_some_and(separates) {
                gap += 1;
                if gap > GAP {
                    state = start;
                }
                continue;
            }
            gap = 0;
            let step = |state, byte| self.automaton.next_state(Anchored::No, state, byte);
            state = match wide {
                None => step(state, plain),
                Some(c) => fold(c, self.case_sensitive).encode_utf8(&mut [0; 4]).bytes().fold(state, step),
            };
            if self.automaton.is_special(state) && self.automaton.is_match(state) {
                self.report(text, at, state, sink);
            }
        }
    }

    /// Reports which of the phrases that end at `end` stand there as they may.
    fn report(&self, text: &str, end: usize, state: StateID, sink: &mut dyn FnMut(Range<usize>)) {
        if self.whole_words && text[end..].chars().next().is_some_and(joins) {
            return;
        }
        for index in 0..self.automaton.match_len(state) {
            let phrase = &self.phrases[self.automaton.match_pattern(state, index).as_usize()];
            if let Some(range) = phrase.range(text, end)
                && range.len() <= self.longest
                && !(self.whole_words && is_joined(text, range.clone()))
            {
                sink(range);
            }
        }
    }
}

impl Phrase {
    /// The significant characters of `entry`, and what else there is to say of it; nothing if it has none.
    fn of(entry: &str, case_sensitive: bool) -> Option<(String, Self)> {
        let first = entry.find(|c| !separates(c))?;
        let inner = entry.trim_matches(separates);
        let words: Box<[usize]> =
            inner.split(separates).map(|word| word.chars().count()).filter(|length| *length > 0).collect();
        let key = inner.chars().filter(|c| !separates(*c)).map(|c| fold(c, case_sensitive)).collect();
        let phrase = Self {
            length: words.iter().sum(),
            words,
            before: entry[..first].into(),
            behind: entry[first + inner.len()..].into(),
        };
        Some((key, phrase))
    }

    /// How many bytes it has when everything in it is set apart as far as may be.
    fn spread(&self, key: &str) -> usize {
        key.len() + (self.length - 1) * GAP * SEPARATOR + self.before.len() + self.behind.len()
    }

    /// Where it stands in a text whose significant characters up to `end` are its own; nothing if its words are
    /// not set apart as words are.
    fn range(&self, text: &str, end: usize) -> Option<Range<usize>> {
        let mut characters = text[..end].char_indices().rev();
        let mut start = end;
        // Goes back to the next significant character; says how many separators were between.
        let mut step = || {
            let (gap, (at, _)) = characters.by_ref().enumerate().find(|(_, (_, c))| !separates(*c))?;
            start = at;
            Some(gap)
        };
        let mut spelled_behind = false;
        for (number, length) in self.words.iter().rev().enumerate() {
            let gap = step()?;
            let mut apart = 0;
            for _ in 1..*length {
                apart += usize::from(step()? > 0);
            }
            let spelled = apart > 0;
            // Either none of its letters are set apart or all of them.
            if spelled && (apart < length - 1 || self.length < SPELLED) {
                return None;
            }
            let joined = number > 0 && gap == 0;
            if joined && (spelled || spelled_behind || self.length < JOINED) {
                return None;
            }
            spelled_behind = spelled;
        }
        let is_all = text[..start].ends_with(&*self.before) && text[end..].starts_with(&*self.behind);
        is_all.then(|| start - self.before.len()..end + self.behind.len())
    }
}

/// What may stand between the words of a phrase, in texts in which other spaces and dashes are folded.
fn separates(c: char) -> bool {
    matches!(
        c,
        ' ' | '\t' | '\n' | '\r' | '.' | '-' | '_' | '*' | '|' | '/' | '\'' | '\u{A0}' | '\u{2013}'
            ..='\u{2014}' | '\u{2019}'
    )
}

/// The one character that stands for all cases of `c`. Where case has several characters, `c` does.
fn fold(c: char, case_sensitive: bool) -> char {
    fn only(mut all: impl Iterator<Item = char>, c: char) -> char {
        all.next().filter(|_| all.next().is_none()).unwrap_or(c)
    }
    match c {
        _ if case_sensitive => c,
        _ if c.is_ascii() => c.to_ascii_lowercase(),
        // Scripts without case.
        '\u{2E80}'..='\u{A4CF}' | '\u{AC00}'..='\u{D7A3}' => c,
        // A letter may have several small forms, of which only one comes from the capital one.
        _ => {
            let upper = only(c.to_uppercase(), c);
            only(upper.to_lowercase(), upper)
        }
    }
}

/// Whether a character next to a word is part of it. In scripts that have no spaces between words it need not
/// be.
fn joins(c: char) -> bool {
    c.is_alphanumeric() && !is_delimiter(c)
}

fn is_joined(text: &str, range: Range<usize>) -> bool {
    let before = text[..range.start].chars().next_back();
    let behind = text[range.end..].chars().next();
    before.is_some_and(joins) || behind.is_some_and(joins)
}
