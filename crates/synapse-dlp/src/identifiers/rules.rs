//! What a rule is: a shape, a check, and how much passing it proves.

use super::{
    categories::Cat,
    run::{Run, gap},
};

/// What a check proves of a value that passes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Two check digits, or a checksum: enough by itself.
    Strong,
    /// One check digit and more structure, such as a date.
    Good,
    /// One check digit.
    Weak,
    /// No check, but the usual way to write it is telling.
    Written,
    /// No check: it takes the usual way to write it and a word nearby.
    Bare,
    /// No check, nor a telling way to write it: it takes a word nearby.
    Told,
}

/// A kind of value of digits alone.
pub(super) struct Digits {
    pub(super) cat: Cat,
    pub(super) len: usize,
    pub(super) check: fn(&[u8]) -> Option<Proof>,
    /// How it is usually written, with a digit for how many digits stand together, and what separates them. A lone
    /// number means: nothing does.
    pub(super) forms: &'static [&'static str],
}

/// A kind of value of letters and digits.
pub(super) struct Mixed {
    pub(super) cat: Cat,
    /// `A` for a letter, `9` for a digit, `?` for either.
    pub(super) shape: &'static str,
    pub(super) check: fn(&[u8]) -> Option<Proof>,
    /// As above; how many letters or digits stand together.
    pub(super) forms: &'static [&'static str],
}

/// Some characters of a run, to which rules are put.
#[derive(Clone, Copy)]
pub(super) struct Window<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) start: usize,
    pub(super) end: usize,
    /// Everything that separates its characters.
    pub(super) inside: u8,
}

impl<'a> Window<'a> {
    /// The characters of `run` from `start` to before `end`.
    pub(super) fn new(run: &'a Run<'a>, start: usize, end: usize) -> Self {
        Self { run, start, end, inside: run.inside(start, end) }
    }

    /// The characters, in upper case.
    pub(super) fn chars(&self) -> &[u8] {
        &self.run.chars[self.start..self.end]
    }

    /// What stands before each character but the first.
    pub(super) fn inner(&self) -> &[u8] {
        &self.run.gaps[self.start + 1..self.end]
    }

    /// Whether it has a letter.
    pub(super) fn is_lettered(&self) -> bool {
        let digits = (!(self.run.digits >> self.start)).trailing_zeros() as usize;
        digits < self.end - self.start
    }

    /// Whether it has small letters.
    pub(super) fn has_small(&self) -> bool {
        self.run.range(self.start, self.end).any(|at| self.run.text.as_bytes()[at].is_ascii_lowercase())
    }

    /// Whether all its letters are small ones that hexadecimal numbers have.
    pub(super) fn is_hexadecimal(&self) -> bool {
        let text = &self.run.text.as_bytes()[self.run.range(self.start, self.end)];
        text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }

    /// What stands before it and behind it; an edge where the neighbour is a word without digits.
    pub(super) fn outside(&self) -> (u8, u8) {
        let run = self.run;
        let numeric = |place: usize| run.numeric >> place & 1 == 1;
        let left = run.gaps[self.start];
        let right = run.gaps[self.end];
        let left = if self.start > 0 && !numeric(self.start - 1) { gap::EDGE } else { left };
        let right = if self.end < run.len && !numeric(self.end) { gap::EDGE } else { right };
        (left, right)
    }

    /// Whether it stands apart from its neighbours more than its characters from each other.
    pub(super) fn stands_apart(&self) -> bool {
        let (left, right) = self.outside();
        let inside = self.inside;
        let apart = |outer: u8| {
            outer & gap::EDGE != 0
                || (outer & gap::NEWLINE != 0 && inside & gap::NEWLINE == 0)
                || (outer & gap::SPACE != 0 && inside & (gap::SPACE | gap::NEWLINE) == 0)
        };
        apart(left) && apart(right)
    }
}
