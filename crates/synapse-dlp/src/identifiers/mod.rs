//! Identifiers of persons, companies, accounts and machines: where they stand in a normalised text.

mod cards;
mod categories;
mod checks;
mod context;
mod documents;
mod europe;
mod iban;
mod mixed;
mod numbers;
mod phone;
mod rules;
mod run;
mod words;
mod world;

use crate::hit::{CategoryInfo, Hit};

/// Every category that [`find`] may report.
pub static CATEGORIES: &[CategoryInfo] = &categories::ALL;

/// Reports what stands in `text`, which is normalised: compatibility forms folded, every decimal digit an
/// ASCII one, invisible characters gone. Takes time linear in its length.
pub fn find(text: &str, sink: &mut dyn FnMut(Hit)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(digit) = next_digit(bytes, at) {
        at = run::runs(text, digit, |run| numbers::look(run, sink));
    }
}

/// Where the next digit stands. Looks at many bytes at once.
fn next_digit(bytes: &[u8], from: usize) -> Option<usize> {
    const STEP: usize = 32;
    let is_digit = |byte: &u8| byte.wrapping_sub(b'0') < 10;
    let mut at = from;
    while let Some(chunk) = bytes.get(at..at + STEP) {
        if chunk.iter().fold(false, |any, byte| any | is_digit(byte)) {
            break;
        }
        at += STEP;
    }
    bytes.get(at..)?.iter().position(is_digit).map(|place| at + place)
}
