//! Values that are told by the name to which they are assigned: a vendor's, or a word such as `password`.

use super::{Latest, keywords::Row, measure, pattern::is_word};
use crate::hit::Certainty;

/// How far a name may go on before and behind the word in it.
const NAME_BEFORE: usize = 50;
const NAME_BEHIND: usize = 20;

/// The least and greatest length of a value that only a general word tells of.
const LENGTHS: std::ops::RangeInclusive<usize> = 12..=200;

/// Endings of names that hold something about a secret, but not the secret.
const INNOCENT_ENDINGS: [&str; 24] = [
    "hash", "type", "name", "id", "len", "count", "limit", "ur", "path", "file", "field", "polic", "reset",
    "expir", "size", "min", "max", "rule", "ref", "store", "manager", "version", "iz", "digest",
];

/// How many of the bytes from `at` on are of a kind, up to `most`.
fn run(text: &[u8], at: usize, most: usize, of: impl Fn(u8) -> bool) -> usize {
    text.get(at..).map_or(0, |rest| rest.iter().take(most).take_while(|byte| of(**byte)).count())
}

/// Where the sign of assignment at `at` ends, if there is one.
fn operator_end(text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let colons = run(text, at, 3, |byte| byte == b':');
    let length = match rest {
        _ if colons > 0 && rest.get(colons) == Some(&b'=') => colons + 1,
        [b'=', b'>', ..] | [b'|', b'|', ..] | [b'?', b'=', ..] => 2,
        [b'=' | b'>' | b':' | b',', ..] => 1,
        _ => return None,
    };
    Some(at + length)
}

/// A value of a vendor's format, assigned to a name that has the vendor's. The name is part of the finding:
/// it tells what the value opens.
pub(super) fn at_vendor(row: &Row, text: &str, start: usize, end: usize, latest: &mut Latest<'_>) {
    let bytes = text.as_bytes();
    if latest.covers(row.category, start) {
        return;
    }
    let is_name = |byte: u8| is_word(byte) || matches!(byte, b'.' | b'-');
    let mut at = end + run(bytes, end, NAME_BEHIND, |byte| is_name(byte) || matches!(byte, b' ' | b'\t'));
    at += run(bytes, at, 3, |byte| byte.is_ascii_whitespace() || matches!(byte, b'\'' | b'"'));
    let Some(at) = operator_end(bytes, at) else { return };
    let between = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b'`' | b'\'' | b'"' | b'=');
    let skipped = run(bytes, at, 5, between);
    // A value may itself begin with `=`.
    let value_end = (0..=skipped).rev().find_map(|skip| row.value_end(bytes, at + skip));
    let Some(value_end) = value_end else { return };
    let before = bytes[..start].iter().rev().take(NAME_BEFORE).take_while(|byte| is_name(**byte)).count();
    latest.report(row.category, start - before..value_end, Certainty::Sure);
}

/// A value with the look of a secret, assigned to a name that speaks of one.
pub(super) fn at_word(text: &str, _start: usize, end: usize, latest: &mut Latest<'_>) {
    let bytes = text.as_bytes();
    let ending = run(bytes, end, NAME_BEHIND, |byte| is_word(byte) || byte == b'-');
    let innocent = text[end..end + ending].to_ascii_lowercase();
    if INNOCENT_ENDINGS.iter().any(|part| innocent.contains(part)) {
        return;
    }
    let mut at = end + ending;
    at += run(bytes, at, 3, |byte| matches!(byte, b' ' | b'\t' | b'\'' | b'"' | b']'));
    let Some(mut at) = operator_end(bytes, at) else { return };
    at += run(bytes, at, 5, |byte| matches!(byte, b' ' | b'\t' | b'\'' | b'"' | b'`' | b'='));
    let is_value = |byte: u8| byte.is_ascii_alphanumeric() || b"_+/.~!@#$%^&*-".contains(&byte);
    let mut length = run(bytes, at, *LENGTHS.end() + 1, is_value);
    length += run(bytes, at + length, 2, |byte| byte == b'=');
    let value = text[at..at + length].trim_end_matches(['.', '!']);
    let goes_on = matches!(bytes.get(at + length), Some(b'(' | b'<' | b'{' | b'[' | b'\\' | b':'));
    if !goes_on && LENGTHS.contains(&value.len()) && is_secret(value) {
        latest.report("generic_secret", at..at + value.len(), Certainty::Likely);
    }
}

fn is_secret(value: &str) -> bool {
    measure::is_mixed(value.as_bytes())
        && measure::entropy(value.as_bytes()) >= 3.5
        && !measure::is_stand_in(value)
        && !measure::is_fingerprint(value)
        && !measure::is_path(value)
}
