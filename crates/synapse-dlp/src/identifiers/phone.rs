//! Telephone numbers: international ones by their country's lengths, national ones by how they are written.

use std::ops::{Range, RangeInclusive};

use super::{
    checks::{digit, number},
    forms::Form,
    rules::{
        Proof::{self, *},
        Window,
    },
    run::{
        Run,
        gap::{DASH, DOT, NEWLINE, OTHER, PAREN, SLASH, SPACE},
    },
};

/// How many other numbers are written.
const FOURS: Form = Form::new("4-4");

/// How many digits numbers have after these, the country's code counted.
fn lengths(digits: &[u8]) -> Option<RangeInclusive<usize>> {
    let two = number(&digits[..2]);
    let three = number(&digits[..3]);
    Some(match (two, three) {
        (10..=19 | 70..=79, _) => 11..=11,
        (33 | 34 | 31 | 61 | 48, _) => 11..=11,
        (44, _) => 11..=12,
        (30 | 90 | 91 | 63, _) => 12..=12,
        (55, _) => 12..=13,
        (86, _) => 12..=13,
        (81 | 82, _) => 10..=12,
        (20 | 27 | 32 | 36 | 39..=41 | 43 | 45..=47 | 51..=54 | 56..=58, _) => 9..=14,
        (49 | 60 | 62 | 64..=66 | 84 | 92..=95 | 98, _) => 9..=14,
        (_, 210..=269 | 290..=299 | 350..=359 | 370..=389 | 420..=429) => 9..=14,
        (_, 500..=509 | 590..=599 | 670..=699 | 850..=859 | 880..=889 | 960..=979 | 990..=999) => 9..=14,
        _ => return None,
    })
}

/// The range of a number with the signs that belong to it before its first digit.
pub(super) fn with_signs(text: &str, range: Range<usize>) -> Range<usize> {
    let signs =
        text.as_bytes()[..range.start].iter().rev().take_while(|byte| matches!(byte, b'+' | b'(')).count();
    range.start - signs.min(2)..range.end
}

/// Whether a plus stands before this place.
pub(super) fn has_plus(text: &str, place: usize) -> bool {
    let before = text.as_bytes()[..place].iter().rev().take(3);
    before.copied().find(|byte| !matches!(byte, b' ' | b'(')) == Some(b'+')
}

/// Where the international number ends that begins at `start` with this many digits ahead.
pub(super) fn international(run: &Run, start: usize, digits: usize) -> Option<usize> {
    if digits < 8 || run.chars[start] == b'0' || !has_plus(run.text, run.place(start)) {
        return None;
    }
    let lengths = lengths(&run.chars[start..])?;
    let longest = (*lengths.end()).min(digits);
    let mut ends = (*lengths.start()..=longest).rev().map(|length| start + length);
    ends.find(|end| run.bounds >> end & 1 == 1 && run.gaps[start + 1..*end].iter().all(|g| g & OTHER == 0))
}

/// What the way in which a window is written says of its being a telephone number.
pub(super) fn national(window: Window) -> Option<Proof> {
    let d = window.chars();
    if !(7..=15).contains(&d.len()) {
        return None;
    }
    let inside = window.inside;
    let inner = window.inner();
    let bracketed = inside & PAREN != 0;
    let at = |place: usize, wanted: u8| inner.get(place - 1).is_some_and(|gap| gap & wanted != 0);
    let american = |d: &[u8]| d[0] >= b'2' && d[3] >= b'2' && d[1..3] != *b"11" && d[4..6] != *b"11";
    let skip = usize::from(d.len() == 11 && d[0] == b'1');
    if d.len() == 10 + skip && american(&d[skip..]) && at(3 + skip, SPACE | DASH | DOT | PAREN) {
        let gaps = inner.iter().filter(|gap| **gap != 0).count();
        let dotted = at(3 + skip, DOT) && at(6 + skip, DOT) && gaps == 2 + skip;
        if dotted
            || (at(3 + skip, DASH | PAREN) && at(6 + skip, DASH) && !(bracketed && inside & DOT != 0))
            || (bracketed && at(6 + skip, SPACE))
        {
            return Some(Written);
        }
        if at(6 + skip, SPACE) {
            return Some(Bare);
        }
    }
    let trunk = (9..=12).contains(&d.len()) && d[0] == b'0' && d[1] != b'0';
    let grouped = inside & (SPACE | DASH | SLASH | PAREN) != 0 && inside & (DOT | NEWLINE | OTHER) == 0;
    let turkish =
        d.len() == 10 && d[0] == b'5' && at(3, SPACE | DASH) && at(6, SPACE | DASH) && at(8, SPACE | DASH);
    if (trunk && grouped && inner.iter().filter(|gap| **gap != 0).count() <= 5) || turkish {
        return Some(if bracketed { Written } else { Bare });
    }
    if window.has_form(&FOURS) || (bracketed && inside & DOT != 0) {
        return None;
    }
    if bracketed {
        return ((9..=11).contains(&d.len()) && digit(d[0]) > 0).then_some(Bare);
    }
    let mobile = match (d.len(), d[0], d[1]) {
        (11, b'0', b'9') => true,
        (11, b'0', b'1') => matches!(d[2], b'0' | b'5'..=b'7'),
        (11, b'0', b'7') => d[2] >= b'4',
        _ => false,
    };
    Some(if mobile && inside == 0 { Bare } else { Told })
}
