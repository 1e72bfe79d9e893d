//! Identifiers of persons, companies, accounts and machines: where they stand in a normalised text.

mod bic;
mod cards;
mod categories;
mod checks;
mod context;
mod crypto;
mod dates;
mod documents;
mod email;
mod europe;
mod forms;
mod iban;
mod keccak;
mod mixed;
mod network;
mod numbers;
mod phone;
mod rules;
mod run;
mod tables;
#[cfg(test)]
mod tests;
mod words;
mod world;

use crate::hit::{CategoryInfo, Hit};
use context::Context;
use run::Run;

/// Every category that [`find`] may report.
pub static CATEGORIES: &[CategoryInfo] = &categories::ALL;

/// Reports what stands in `text`, which is normalised: compatibility forms folded, every decimal digit an
/// ASCII one, invisible characters gone. Takes time linear in its length.
pub fn find(text: &str, sink: &mut dyn FnMut(Hit)) {
    find_behind(text, 0, sink);
}

/// The same, without most of what ends before byte `left`: that is context.
pub(crate) fn find_behind(text: &str, left: usize, sink: &mut dyn FnMut(Hit)) {
    let bytes = text.as_bytes();
    let mut context = Context::of(text);
    let mut run = Run::new(text, left);
    let mut at = run::stretch_before(bytes, left);
    while let Some(digit) = next(bytes, at, |byte| byte.wrapping_sub(b'0') < 10) {
        at = run::runs(&mut run, digit, |run| numbers::look(run, &mut context, sink));
    }
    let token = bytes[..left].iter().rev().take_while(|byte| !byte.is_ascii_whitespace()).count();
    at = left - token;
    while let Some(mark) = next(bytes, at, |byte| matches!(byte, b'@' | b':' | b'-')) {
        at = match bytes[mark] {
            b'@' => email::at_sign(text, mark, sink),
            _ => network::at_mark(text, mark, sink),
        };
    }
    bic::find(text, left, sink);
}

/// Where the next byte of that kind stands. Looks at many at once.
fn next(bytes: &[u8], from: usize, is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
    const STEP: usize = 32;
    let mut at = from;
    while let Some(chunk) = bytes.get(at..at + STEP) {
        if chunk.iter().fold(false, |any, byte| any | is_wanted(*byte)) {
            break;
        }
        at += STEP;
    }
    bytes.get(at..)?.iter().position(|byte| is_wanted(*byte)).map(|place| at + place)
}
