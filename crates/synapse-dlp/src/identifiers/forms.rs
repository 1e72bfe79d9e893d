//! How values are written: how many characters stand together, and what separates them.

use super::{
    rules::Window,
    run::{KINDS, gap},
};

/// One way to write a value: a mark in a place says what separates the character there from the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    len: usize,
    marks: [u64; KINDS],
}

impl Form {
    /// Reads a form such as `3-2-4`; a lone number means that nothing separates anything.
    pub(super) const fn new(text: &str) -> Self {
        let text = text.as_bytes();
        let mut form = Self { len: 0, marks: [0; KINDS] };
        let (mut group, mut at) = (0, 0);
        while at < text.len() {
            let kind = match text[at] {
                byte @ b'0'..=b'9' => {
                    group = group * 10 + (byte - b'0') as usize;
                    at += 1;
                    continue;
                }
                b' ' => gap::SPACE,
                b'-' => gap::DASH,
                b'.' => gap::DOT,
                _ => gap::SLASH,
            };
            form.len += group;
            form.marks[kind.trailing_zeros() as usize] |= 1 << form.len;
            group = 0;
            at += 1;
        }
        form.len += group;
        form
    }
}

/// Spaces and dots stand between all kinds of things.
const EXACT: [usize; 2] = [gap::SPACE.trailing_zeros() as usize, gap::DOT.trailing_zeros() as usize];

impl Window<'_> {
    /// Whether it is written so: with at least these separators, or, if the form has none, without any. With
    /// spaces or dots it must have these and no others.
    pub(super) fn has_form(&self, form: &Form) -> bool {
        let len = self.end - self.start;
        if form.len != len {
            return false;
        }
        if form.marks == [0; KINDS] {
            return self.inside == 0;
        }
        let inner = ((1 << len) - 1) & !1;
        let marks = |kind: usize| self.run.marks[kind] >> self.start & inner;
        let has_all = form.marks.iter().enumerate().all(|(kind, wanted)| marks(kind) & wanted == *wanted);
        has_all
            && EXACT.into_iter().all(|kind| {
                let wanted = form.marks[kind];
                wanted == 0 || (marks(kind) == wanted && self.run.blends >> self.start & wanted == 0)
            })
    }

    /// Whether it is written in one of these ways.
    pub(super) fn has_one_of(&self, forms: &[Form]) -> bool {
        forms.iter().any(|form| self.has_form(form))
    }
}
