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
    // What is looked for begins with one of these bytes.
    if memchr::memchr3(0xE2, 0xEF, 0xF3, text.as_bytes()).is_none() {
        return;
    }
    let (mut characters, mut zero_width) = (0, 0);
    let mut telling: Vec<Range<usize>> = Vec::new();
    let mut all: Vec<Range<usize>> = Vec::new();
    for (at, c) in text.char_indices() {
        characters += 1;
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
