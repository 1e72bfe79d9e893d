//! BICs: letters for the bank, the country, and the place; they may have no digit, so that they are looked for
//! where capitals are many.

use super::{categories::Cat, context::Context, mixed::is_country};
use crate::hit::{Certainty, Hit};

/// How many bytes are looked at together.
const STEP: usize = 16;
/// How many capitals of them are many.
const MANY: u8 = 4;
/// No BIC takes more bytes.
const LONGEST: usize = 64;
/// How many separators may stand between two characters.
const WIDEST_GAP: usize = 3;

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\t' | b'.' | b'-' | b'_' | b'*' | b'|' | b'/')
        || byte == 0xC2
        || byte == 0xA0
}

/// Reports the BICs in `text` that end behind byte `left`.
pub(super) fn find(text: &str, left: usize, sink: &mut dyn FnMut(Hit)) {
    let bytes = text.as_bytes();
    let mut context = Context::of(text);
    let mut done = 0;
    let first = left.saturating_sub(LONGEST) / STEP;
    for (place, chunk) in bytes.chunks(STEP).enumerate().skip(first) {
        let capitals: u8 = chunk.iter().map(|byte| u8::from(byte.wrapping_sub(b'A') < 26)).sum();
        if capitals < MANY {
            continue;
        }
        let start = (place * STEP).saturating_sub(STEP).max(done);
        done = (place * STEP + STEP).min(bytes.len());
        let mut at = start;
        while at < done {
            at = try_at(text, at, &mut context, sink);
        }
    }
}

/// Looks for a BIC at the start of a word at `at`. Says where to look next.
fn try_at(text: &str, at: usize, context: &mut Context, sink: &mut dyn FnMut(Hit)) -> usize {
    let bytes = text.as_bytes();
    let starts = bytes[at].is_ascii_uppercase() && (at == 0 || !bytes[at - 1].is_ascii_alphanumeric());
    if !starts {
        return at + 1;
    }
    let (code, places, len) = gather(bytes, at);
    let ends_at = |count: usize| {
        count <= len && bytes.get(places[count - 1] + 1).is_none_or(|byte| !byte.is_ascii_alphanumeric())
    };
    for count in [11, 8] {
        if !ends_at(count) || !is_code(&code[..count]) {
            continue;
        }
        let range = at..places[count - 1] + 1;
        // Every third word in capitals has a country's code in that place.
        let telling = count == 11 && code[8..11].iter().all(|byte| *byte == b'X');
        let mut spoken = || {
            context.listen(range.clone());
            context.speaks_of(Cat::Bic, &range)
        };
        if telling || spoken() {
            let end = range.end;
            sink(Hit { category: Cat::Bic.name(), range, certainty: Certainty::Likely });
            return end;
        }
    }
    at + 1
}

/// The next letters and digits from `at` on, and where they stand.
fn gather(bytes: &[u8], at: usize) -> ([u8; 11], [usize; 11], usize) {
    let (mut code, mut places, mut len) = ([0; 11], [0; 11], 0);
    let mut gap = 0;
    for (place, byte) in bytes.iter().enumerate().skip(at) {
        if byte.is_ascii_uppercase() || byte.is_ascii_digit() {
            (code[len], places[len]) = (*byte, place);
            len += 1;
            gap = 0;
        } else if is_separator(*byte) {
            gap += usize::from(*byte != 0xC2);
        } else {
            break;
        }
        if len == code.len() || gap > WIDEST_GAP {
            break;
        }
    }
    (code, places, len)
}

fn is_code(code: &[u8]) -> bool {
    code[..6].iter().all(u8::is_ascii_uppercase) && is_country(&code[4..6])
}
