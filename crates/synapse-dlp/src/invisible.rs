//! Text that readers do not see and models do: tags, overrides of the reading direction, and more zero-width
//! characters than writing needs.

use std::ops::Range;

use crate::hit::{Certainty, Hit};

/// How many zero-width characters 100 characters may have.
const PER_HUNDRED: usize = 3;

/// Ones closer together than this are told of as one.
const GAP: usize = 8;

#[derive(Clone, Copy, PartialEq)]
enum Sort {
    /// Says more than zero width: there is no good reason for it.
    Telling,
    ZeroWidth,
}

fn sort(c: char) -> Option<Sort> {
    match c as u32 {
        0xE0000..=0xE007F | 0x202D | 0x202E => Some(Sort::Telling),
        0x200B | 0x2060..=0x2064 | 0xFEFF => Some(Sort::ZeroWidth),
        _ => None,
    }
}

/// Reports what readers do not see.
pub(crate) fn find(text: &str, sink: &mut dyn FnMut(Hit)) {
    let mut zero_width = 0;
    let mut telling: Vec<Range<usize>> = Vec::new();
    let mut all: Vec<Range<usize>> = Vec::new();
    // What is looked for begins with one of these bytes.
    for at in memchr::memchr3_iter(0xE2, 0xEF, 0xF3, text.as_bytes()) {
        let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) else { continue };
        if let Some(sort) = sort(c) {
            let range = at..at + c.len_utf8();
            if sort == Sort::Telling {
                extend(&mut telling, &range);
            } else {
                zero_width += 1;
            }
            extend(&mut all, &range);
        }
    }
    if all.is_empty() {
        return;
    }
    let characters = text.chars().count();
    let found = if zero_width * 100 > PER_HUNDRED * characters { all } else { telling };
    for range in found {
        sink(Hit { category: "invisible_text", range, certainty: Certainty::Sure });
    }
}

fn extend(ranges: &mut Vec<Range<usize>>, range: &Range<usize>) {
    match ranges.last_mut() {
        Some(last) if range.start - last.end <= GAP => last.end = range.end,
        _ => ranges.push(range.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        find(text, &mut |hit| found.push(hit.range));
        found
    }

    #[test]
    fn tags_and_overrides_are_found() {
        assert_eq!(found("hi \u{E0068}\u{E0069} there"), vec![3..11; 1]);
        assert_eq!(found("a \u{202E}b").len(), 1);
    }

    #[test]
    fn a_few_zero_width_characters_are_part_of_writing() {
        assert_eq!(found(&format!("{}\u{200B}", "some words ".repeat(20))).len(), 0);
        assert_eq!(found("a\u{200B}b\u{200B}c").len(), 1);
        assert_eq!(found("family: 👨\u{200D}👩\u{200D}👧 ❤\u{FE0F}").len(), 0);
    }
}
