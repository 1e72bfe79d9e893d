//! Runs: stretches of text in which values may stand, with what separates their characters.
//!
//! People write `219-09-9999`, and those who mean to get something past a filter write `2 1 9 - 09.9999`. A run
//! keeps the letters and digits apart from what separates them, so that a rule can look at the value alone, and at
//! the separators where they tell something.

/// What a gap between two characters is made of.
pub(super) mod gap {
    pub(in super::super) const SPACE: u8 = 1;
    pub(in super::super) const NEWLINE: u8 = 2;
    pub(in super::super) const DASH: u8 = 4;
    pub(in super::super) const DOT: u8 = 8;
    pub(in super::super) const SLASH: u8 = 16;
    pub(in super::super) const OTHER: u8 = 32;
    pub(in super::super) const PAREN: u8 = 64;
    /// No neighbour there: the text ends, or something stands there that separates no characters of a value.
    pub(in super::super) const EDGE: u8 = 128;
}
/// How many kinds of separators there are.
pub(super) const KINDS: usize = 7;
use gap::{DASH, DOT, EDGE, NEWLINE, OTHER, PAREN, SLASH, SPACE};

/// How many letters and digits a run holds.
pub(super) const ROOM: usize = 64;
/// How many of them are looked at again after a run that had no room for the next.
const OVERLAP: usize = 34;
/// How many separators may stand between two characters.
const WIDEST_GAP: usize = 3;
/// How many letters before the first digit may belong to a value.
const LEAD: usize = 8;

/// Letters and digits of a stretch of text, and where they stand.
pub(super) struct Run<'a> {
    pub(super) text: &'a str,
    /// In upper case.
    pub(super) chars: [u8; ROOM],
    at: [usize; ROOM],
    /// What stands before each of them, nothing within a word; one more for what follows the last.
    pub(super) gaps: [u8; ROOM + 1],
    pub(super) len: usize,
    /// Which are digits.
    pub(super) digits: u64,
    /// Which belong to a word that has a digit, or to a letter by itself.
    pub(super) numeric: u64,
    /// Where values may begin, and behind what they may end, bit `n` standing before character `n`.
    pub(super) bounds: u128,
    /// Where each kind of separator stands, bit `n` before character `n`.
    pub(super) marks: [u64; KINDS],
    /// Where several kinds stand together.
    pub(super) blends: u64,
    /// Where words begin, whatever `bounds` says.
    pub(super) words: u64,
    /// Before which characters nothing may begin, as its neighbour goes on there: part of a version, a UUID, a
    /// longer number.
    pub(super) stuck_left: u128,
    /// And behind what nothing may end, for the same reason.
    pub(super) stuck_right: u128,
    from: usize,
    /// Windows that end no further than this have been looked at in the run before, or need not be.
    pub(super) seen: usize,
}

/// A maximal stretch of ASCII letters and digits.
#[derive(Clone, Copy)]
struct Word {
    start: usize,
    end: usize,
}

/// The separator that stands at `at`: its length in bytes, and what it is.
fn separator(bytes: &[u8], at: usize) -> Option<(usize, u8)> {
    let found = match *bytes.get(at)? {
        b' ' | b'\t' => (1, SPACE),
        b'\n' | b'\r' => (1, NEWLINE),
        b'-' => (1, DASH),
        b'.' => (1, DOT),
        b'/' => (1, SLASH),
        b'_' | b'*' | b'|' => (1, OTHER),
        b'(' | b')' => (1, PAREN),
        0xC2 if bytes.get(at + 1) == Some(&0xA0) => (2, SPACE),
        0xE2 if bytes.get(at + 1) == Some(&0x80) => match bytes.get(at + 2)? {
            0x90..=0x95 => (3, DASH),
            0x80..=0x8A | 0xAF => (3, SPACE),
            _ => return None,
        },
        0xE2 if bytes.get(at + 1..at + 3) == Some(&[0x88, 0x92]) => (3, DASH),
        _ => return None,
    };
    Some(found)
}

/// Where the separators that begin at `at` end, and what they are; none if they are too many.
fn gap_after(bytes: &[u8], mut at: usize) -> Option<(usize, u8)> {
    let mut mask = 0;
    for _ in 0..WIDEST_GAP {
        let Some((length, kind)) = separator(bytes, at) else { break };
        at += length;
        mask |= kind;
    }
    (mask != 0 && bytes.get(at).is_some_and(u8::is_ascii_alphanumeric)).then_some((at, mask))
}

fn word_at(bytes: &[u8], start: usize) -> Word {
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    Word { start, end: start + length }
}

/// The word that ends before the separators that end at `end`.
fn word_before(bytes: &[u8], end: usize) -> Option<Word> {
    let mut at = end;
    for _ in 0..WIDEST_GAP {
        let back = (1..=3_usize).find(|back| {
            at >= *back && separator(bytes, at - back).is_some_and(|(length, _)| length == *back)
        });
        let Some(back) = back else { break };
        at -= back;
    }
    if at == end {
        return None;
    }
    let length = bytes[..at].iter().rev().take(LEAD).take_while(|byte| byte.is_ascii_alphabetic()).count();
    let start = at - length;
    let whole = start == 0 || !bytes[start - 1].is_ascii_alphanumeric();
    (length > 0 && whole).then_some(Word { start, end: at })
}

/// Whether it is a word of prose, which is part of no value with other words in it.
fn is_prose(bytes: &[u8], word: Word) -> bool {
    let text = &bytes[word.start..word.end];
    text.len() > 1
        && text.iter().all(u8::is_ascii_alphabetic)
        && (text.len() > LEAD || text.iter().any(u8::is_ascii_lowercase))
}

/// How much of a word is one of prose that a number was written against, such as `is415`. Numbers may begin with
/// letters themselves: with those of hexadecimal numbers, or with two before a check number.
fn stuck_prose(bytes: &[u8], word: Word) -> usize {
    let text = &bytes[word.start..word.end];
    let letters = text.iter().take_while(|byte| byte.is_ascii_lowercase()).count();
    let digits = text.len() - letters;
    let is_prose = text[..letters].iter().any(|byte| !byte.is_ascii_hexdigit())
        && text[letters..].iter().all(u8::is_ascii_digit)
        && match letters {
            0 | 1 => false,
            2 => (3..=4).contains(&digits),
            _ => digits >= 3,
        };
    if is_prose { letters } else { 0 }
}

/// Where the stretch begins that a run is part of which reaches `at`.
pub(super) fn stretch_before(bytes: &[u8], at: usize) -> usize {
    // As many separators as may stand together are no longer.
    const WIDEST: usize = 3 * WIDEST_GAP;
    let mut start = at;
    loop {
        let inside = bytes[..start].iter().rev().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        if start < at && is_prose(bytes, Word { start: start - inside, end: start }) {
            return start;
        }
        start -= inside;
        let separates = |byte: &&u8| !byte.is_ascii() || separator(&[**byte], 0).is_some();
        let gap = bytes[..start].iter().rev().take(WIDEST + 1).take_while(separates).count();
        if gap == 0 || gap > WIDEST {
            return start;
        }
        start -= gap;
    }
}

/// Where the run begins that the digit at `digit` belongs to.
fn start_of_run(bytes: &[u8], digit: usize) -> usize {
    let inside = bytes[..digit].iter().rev().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let mut start = digit - inside;
    let stuck = stuck_prose(bytes, word_at(bytes, start));
    if stuck > 0 {
        return start + stuck;
    }
    let mut lead = 0;
    while let Some(word) = word_before(bytes, start) {
        lead += word.end - word.start;
        if lead > LEAD || is_prose(bytes, word) {
            break;
        }
        start = word.start;
    }
    start
}

impl<'a> Run<'a> {
    /// An empty one, to be filled again and again. What ends before `from` is of no interest.
    pub(super) fn new(text: &'a str, from: usize) -> Self {
        Run {
            text,
            from,
            chars: [0; ROOM],
            at: [0; ROOM],
            gaps: [0; ROOM + 1],
            len: 0,
            digits: 0,
            numeric: 0,
            bounds: 0,
            marks: [0; KINDS],
            blends: 0,
            words: 0,
            stuck_left: 0,
            stuck_right: 0,
            seen: 0,
        }
    }

    /// Empties it.
    fn clear(&mut self, before: u8) {
        (self.len, self.digits, self.numeric, self.bounds) = (0, 0, 0, 0);
        self.gaps[0] = before;
    }

    /// Counts four letters between two words with digits among those: people write long numbers in fours.
    fn bridge(&mut self, first: usize) {
        let place = first.wrapping_sub(4);
        let letters = first >= 5 && self.digits >> place & 0b1111 == 0;
        if letters && self.bounds >> place & 0b1111 == 1 && self.numeric >> (place - 1) & 1 == 1 {
            self.numeric |= 0b1111 << place;
        }
    }

    fn push(&mut self, word: Word) {
        let first = self.len;
        let mut numeric = false;
        for (place, byte) in self.text.as_bytes()[word.start..word.end].iter().enumerate() {
            if place > 0 {
                self.gaps[self.len] = 0;
            }
            self.chars[self.len] = byte.to_ascii_uppercase();
            self.at[self.len] = word.start + place;
            self.digits |= u64::from(byte.is_ascii_digit()) << self.len;
            numeric |= byte.is_ascii_digit();
            self.len += 1;
        }
        self.bounds |= 1 << first;
        // A letter by itself is rather a part of a value that somebody spread out than a word.
        if numeric || self.len == first + 1 {
            let upto = if self.len == ROOM { u64::MAX } else { (1 << self.len) - 1 };
            self.numeric |= upto & !((1_u64 << first) - 1);
            self.bridge(first);
        }
    }

    /// Says of each kind of separator where it stands.
    fn mark(&mut self) {
        (self.marks, self.blends) = ([0; KINDS], 0);
        self.words = self.bounds as u64;
        let mut glue = u128::from(is_glue(self.gaps[self.len])) << self.len;
        let mut rest = self.words;
        while rest != 0 {
            let place = rest.trailing_zeros();
            rest &= rest - 1;
            let gap = self.gaps[place as usize];
            glue |= u128::from(is_glue(gap)) << place;
            self.blends |= u64::from(!gap.is_power_of_two()) << place;
            let mut kinds = gap & !EDGE;
            while kinds != 0 {
                self.marks[kinds.trailing_zeros() as usize] |= 1 << place;
                kinds &= kinds - 1;
            }
        }
        // A word without digits is no neighbour that goes on.
        let numeric = u128::from(self.numeric);
        self.stuck_left = glue & (numeric << 1 | 1);
        self.stuck_right = glue & (numeric | 1 << self.len);
    }

    /// Everything that separates the characters from `start` to before `end`.
    pub(super) fn inside(&self, start: usize, end: usize) -> u8 {
        let inner = (u64::MAX >> (ROOM - end)) & (u64::MAX << start) & !(1 << start);
        let kinds = self.marks.iter().enumerate();
        kinds.fold(0, |inside, (kind, marks)| inside | u8::from(marks & inner != 0) << kind)
    }

    /// Where the word ends that has character `place`.
    pub(super) fn word_end(&self, place: usize) -> usize {
        let behind = self.words & (u64::MAX << place) & !(1 << place);
        if behind == 0 { self.len } else { behind.trailing_zeros() as usize }
    }

    /// Clears the bounds within sequences of very short words, which are one value that somebody spread out.
    fn soften(&mut self) {
        self.bounds |= 1 << self.len;
        let mut rest = self.bounds & (self.bounds - 1);
        let mut before = self.bounds.trailing_zeros() as usize;
        while rest & (rest - 1) != 0 {
            let here = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let after = rest.trailing_zeros() as usize;
            let (left, right) = (here - before, after - here);
            let alike = (self.digits >> (here - 1) & 1) == (self.digits >> here & 1);
            let digits = self.digits >> here & 1 == 1;
            let alike = alike || (left + right == 2 && !self.is_english(before) && !self.is_english(here));
            let even = self.gaps[here] == self.gaps[before] || self.gaps[here] == self.gaps[after];
            if alike && even && (left + right == 2 || (digits && left <= 2 && right <= 2)) {
                self.bounds &= !(1 << here);
            }
            before = here;
        }
    }

    /// Whether the letter there is a word of English.
    fn is_english(&self, place: usize) -> bool {
        matches!(self.text.as_bytes()[self.at[place]], b'a' | b'I')
    }

    /// Where the characters from `start` to before `end` stand.
    pub(super) fn range(&self, start: usize, end: usize) -> std::ops::Range<usize> {
        self.at[start]..self.at[end - 1] + 1
    }

    /// Where character `place` stands.
    pub(super) fn place(&self, place: usize) -> usize {
        self.at[place]
    }
}

/// Whether another digit follows `at` behind something that joins numbers, such as a colon.
fn joined_after(bytes: &[u8], at: usize) -> bool {
    matches!(bytes.get(at), Some(b':' | b',')) && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
}

fn joined_before(bytes: &[u8], at: usize) -> bool {
    at > 1 && matches!(bytes[at - 1], b':' | b',') && bytes[at - 2].is_ascii_digit()
}

/// Whether a letter of an alphabet that writes words apart stands before `at`.
fn letter_before(text: &str, at: usize) -> bool {
    at > 0 && !text.as_bytes()[at - 1].is_ascii() && text[..at].chars().next_back().is_some_and(continues)
}

fn letter_after(text: &str, at: usize) -> bool {
    text.as_bytes().get(at).is_some_and(|byte| !byte.is_ascii())
        && text[at..].chars().next().is_some_and(continues)
}

/// Whether a letter before or after a value means that the value goes on. Many scripts of Asia write no spaces.
fn continues(letter: char) -> bool {
    letter < '\u{0590}' && letter.is_alphabetic()
}

/// What a gap does to a value beside it that must not go on there.
pub(super) fn is_glue(mask: u8) -> bool {
    mask != 0 && mask & (SPACE | NEWLINE | PAREN | EDGE) == 0
}

/// Where filling a run ended.
struct Filled {
    end: usize,
    /// What follows its last character.
    after: u8,
    /// Whether the word at `end` found no room.
    full: bool,
}

/// Fills `run` with what stands around the digit at `digit`, hands it to `look`, and so those that follow it without a break. Says where the
/// next digit may be that belongs to none of them.
pub(super) fn runs<'t>(run: &mut Run<'t>, digit: usize, mut look: impl FnMut(&Run<'t>)) -> usize {
    let text = run.text;
    let bytes = text.as_bytes();
    run.seen = run.from;
    let mut next = start_of_run(bytes, digit);
    let mut before = if joined_before(bytes, next) || letter_before(text, next) { OTHER } else { EDGE };
    loop {
        run.clear(before);
        let filled = fill(run, next);
        run.gaps[run.len] = filled.after;
        if run.len > 0 {
            run.mark();
            run.soften();
            look(run);
        }
        if !filled.full || run.len == 0 {
            return filled.end.max(digit + 1);
        }
        run.seen = run.at[run.len - 1] + 1;
        // Begin again at a word not long before the end, or at the one that found no room.
        let again =
            (run.len.saturating_sub(OVERLAP)..run.len).find(|place| *place > 0 && run.gaps[*place] != 0);
        (next, before) = match again.filter(|_| run.len > OVERLAP) {
            Some(again) => (run.at[again], run.gaps[again]),
            None => (filled.end, filled.after),
        };
    }
}

/// Fills a run with words from `next` on.
fn fill(run: &mut Run, mut next: usize) -> Filled {
    let text = run.text;
    let bytes = text.as_bytes();
    let mut after = EDGE;
    let mut letters = 0;
    loop {
        let word = word_at(bytes, next);
        let length = word.end - word.start;
        if length > ROOM {
            return Filled { end: word.end, after, full: false };
        }
        if run.len > 0 && is_prose(bytes, word) {
            return Filled { end: word.end, after: EDGE, full: false };
        }
        // What is written against a word begins anew behind it.
        let stuck = if run.len > 0 { stuck_prose(bytes, word) } else { 0 };
        if stuck > 0 {
            return Filled { end: word.start + stuck, after: EDGE, full: false };
        }
        if run.len + length > ROOM {
            return Filled { end: word.start, after, full: true };
        }
        run.push(word);
        let digit = bytes[word.start..word.end].iter().any(u8::is_ascii_digit);
        letters = if digit { 0 } else { letters + length };
        if joined_after(bytes, word.end) || letter_after(text, word.end) {
            return Filled { end: word.end, after: OTHER, full: false };
        }
        let found = gap_after(bytes, word.end).filter(|_| letters <= 2 * LEAD);
        let Some((start, mask)) = found else { return Filled { end: word.end, after: EDGE, full: false } };
        run.gaps[run.len] = mask;
        after = mask;
        next = start;
    }
}
