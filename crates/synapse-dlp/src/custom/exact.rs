//! Values of which only keyed hashes are known.

use std::{collections::HashSet, ops::Range};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::view;

/// The keyed hash of a value for [`CustomKind::ExactMatch`](crate::CustomKind::ExactMatch): of its words in
/// lower case, with single spaces between them. Punctuation around words does not count.
pub fn exact_hash(salt: &[u8], value: &str) -> [u8; 32] {
    let value = view::folded(value);
    let words: Vec<String> = words(&value).map(|word| value[word].to_lowercase()).collect();
    let mut mac = keyed(salt);
    mac.update(words.join(" ").as_bytes());
    mac.finalize().into_bytes().into()
}

fn keyed(salt: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of any length; a key that it did not take would find nothing.
    Hmac::new_from_slice(salt).unwrap_or_else(|_| Hmac::new(&Default::default()))
}

/// Where the words of a text stand.
fn words(text: &str) -> impl Iterator<Item = Range<usize>> {
    let is_inner = |c: char| c.is_alphanumeric() || "-_.@+'#/&".contains(c);
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + text[at..].find(is_inner)?;
            let length = text[start..].find(|c: char| !is_inner(c)).unwrap_or(text.len() - start);
            at = start + length;
            let word = &text[start..at];
            let begin = word.find(char::is_alphanumeric);
            let end = word.char_indices().rev().find(|(_, c)| c.is_alphanumeric());
            if let (Some(begin), Some((end, c))) = (begin, end) {
                return Some(start + begin..start + end + c.len_utf8());
            }
        }
    })
}

/// Whether a character within a word may stand for the space between two.
fn is_seam(c: char) -> bool {
    "-_./'".contains(c)
}

/// The parts of a word between such characters.
fn parts(text: &str, word: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let ends = text[word.clone()].match_indices(is_seam).map(move |(at, seam)| (word.start + at, seam.len()));
    let mut start = word.start;
    ends.chain([(word.end, 0)]).filter_map(move |(end, seam)| {
        let part = start..end;
        start = end + seam;
        (!part.is_empty()).then_some(part)
    })
}

/// A set of hashes, ready for the search.
pub(super) struct Exact {
    mac: Box<Hmac<Sha256>>,
    hmacs: HashSet<[u8; 32]>,
    max_words: usize,
}

impl Exact {
    pub(super) fn new(salt: &[u8], hmacs: &HashSet<[u8; 32]>, max_words: usize) -> Self {
        Self { mac: Box::new(keyed(salt)), hmacs: hmacs.clone(), max_words: max_words.max(1) }
    }

    /// Reports every value; they may overlap.
    pub(super) fn find(&self, text: &str, sink: &mut dyn FnMut(Range<usize>)) {
        let words: Vec<Range<usize>> = words(text).collect();
        for at in 0..words.len() {
            self.find_at(text, &words[at..], 0, sink);
        }
        if self.max_words < 2 || !words.iter().any(|word| text[word.clone()].contains(is_seam)) {
            return;
        }
        // Values whose words are joined by other characters than spaces.
        let parts: Vec<Range<usize>> = words.into_iter().flat_map(|word| parts(text, word)).collect();
        for at in 0..parts.len() {
            let near = &parts[at..parts.len().min(at + self.max_words)];
            let seam = near.windows(2).position(|pair| text[pair[0].end..pair[1].start].chars().all(is_seam));
            if let Some(seam) = seam {
                self.find_at(text, near, seam + 1, sink);
            }
        }
    }

    /// Reports the longest value that begins with the first word and does not end before word `least`.
    fn find_at(&self, text: &str, words: &[Range<usize>], least: usize, sink: &mut dyn FnMut(Range<usize>)) {
        let mut mac = (*self.mac).clone();
        let mut longest = None;
        for (number, word) in words.iter().take(self.max_words).enumerate() {
            if number > 0 {
                mac.update(b" ");
            }
            mac.update(text[word.clone()].to_lowercase().as_bytes());
            if number >= least && self.hmacs.contains::<[u8; 32]>(&mac.clone().finalize().into_bytes().into())
            {
                longest = Some(words[0].start..word.end);
            }
        }
        if let Some(range) = longest {
            sink(range);
        }
    }
}
