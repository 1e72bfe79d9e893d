//! Dates of the calendar, with the time of day if there is one.

use super::checks::{is_date, number};
use crate::hit::Certainty;

/// The digits at `at`.
fn digits(bytes: &[u8], at: usize) -> &[u8] {
    let rest = bytes.get(at..).unwrap_or_default();
    &rest[..rest.iter().take(5).take_while(|byte| byte.is_ascii_digit()).count()]
}

/// Where the date ends that begins at `at`, and how sure that it is one.
pub(super) fn date(bytes: &[u8], at: usize) -> Option<(usize, Certainty)> {
    let first = digits(bytes, at);
    let mark = *bytes.get(at + first.len()).filter(|mark| matches!(mark, b'-' | b'/' | b'.'))?;
    let second_at = at + first.len() + 1;
    let second = digits(bytes, second_at);
    let third_at = second_at + second.len() + 1;
    if second.is_empty() || second.len() > 2 || bytes.get(third_at - 1) != Some(&mark) {
        return None;
    }
    let third = digits(bytes, third_at);
    let (a, b, c) = (number(first), number(second), number(third));
    let full = |year: u64| (1000..2200).contains(&year);
    let (real, certainty) = match (first.len(), third.len()) {
        (4, 1..=2) => (full(a) && is_date(a, b, c), Certainty::Likely),
        (1..=2, 4) => (full(c) && (is_date(c, b, a) || is_date(c, a, b)), Certainty::Likely),
        (1..=2, 2) => (is_date(2000 + c, b, a) || is_date(2000 + c, a, b), Certainty::Weak),
        _ => return None,
    };
    let end = time(bytes, third_at + third.len());
    let goes_on = match bytes.get(end) {
        Some(b'-' | b'/' | b'.') => bytes.get(end + 1).is_some_and(u8::is_ascii_digit),
        Some(byte) => byte.is_ascii_alphanumeric(),
        None => false,
    };
    (real && !goes_on).then_some((end, certainty))
}

/// Where the time of day ends that follows a date that ends at `at`; there, if none does.
fn time(bytes: &[u8], at: usize) -> usize {
    let pair = |at: usize| digits(bytes, at).len() == 2;
    if !matches!(bytes.get(at), Some(b'T' | b't' | b' '))
        || !pair(at + 1)
        || bytes.get(at + 3) != Some(&b':')
        || !pair(at + 4)
    {
        return at;
    }
    let mut end = at + 6;
    if bytes.get(end) == Some(&b':') && pair(end + 1) {
        end += 3;
        if matches!(bytes.get(end), Some(b'.' | b',')) {
            let fraction = bytes[end + 1..].iter().take(9).take_while(|byte| byte.is_ascii_digit()).count();
            end += if fraction > 0 { fraction + 1 } else { 0 };
        }
    }
    match bytes.get(end) {
        Some(b'Z' | b'z') => end + 1,
        Some(b'+' | b'-') if pair(end + 1) && bytes.get(end + 3) == Some(&b':') && pair(end + 4) => end + 6,
        Some(b'+' | b'-') if digits(bytes, end + 1).len() == 4 => end + 5,
        _ => end,
    }
}
