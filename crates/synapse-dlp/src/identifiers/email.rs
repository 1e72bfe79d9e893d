//! E-mail addresses.

use super::categories::Cat;
use crate::hit::{Certainty, Hit};

/// No local part is longer.
const LOCAL: usize = 64;
/// No domain is longer.
const DOMAIN: usize = 253;

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-' | b'\'' | b'&' | b'=')
        || byte >= 0x80
}

/// Reports the address that the `@` at `at` is part of. Says where to look next.
pub(super) fn at_sign(text: &str, at: usize, sink: &mut dyn FnMut(Hit)) -> usize {
    let bytes = text.as_bytes();
    let before = bytes[..at].iter().rev().take(LOCAL + 1).take_while(|byte| is_local(**byte)).count();
    let lead =
        bytes[at - before..at].iter().take_while(|byte| matches!(byte, b'.' | b'\'' | b'-' | b'=')).count();
    let start = text.ceil_char_boundary(at - before + lead);
    if before > LOCAL || start >= at || bytes[at - 1] == b'.' {
        return at + 1;
    }
    let domain = &bytes[at + 1..];
    let is_domain =
        |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-') || **byte >= 0x80;
    let length = domain.iter().take(DOMAIN + 1).take_while(is_domain).count();
    let domain = text.get(at + 1..text.floor_char_boundary(at + 1 + length)).unwrap_or("");
    let domain = domain.trim_end_matches(['.', '-']);
    if let Some(domain) = shorten(domain) {
        let range = start..at + 1 + domain;
        let certainty = if is_nobodys(&text[at + 1..range.end]) { Certainty::Weak } else { Certainty::Sure };
        sink(Hit { category: Cat::Email.name(), range, certainty });
        return at + 1 + domain;
    }
    at + 1
}

/// Whether a domain is kept free for examples and tests (RFC 2606).
fn is_nobodys(domain: &str) -> bool {
    let domain = domain.to_ascii_lowercase();
    let mut labels = domain.rsplit('.');
    matches!(
        (labels.next(), labels.next()),
        (Some("example" | "test" | "invalid" | "localhost"), _)
            | (Some("com" | "net" | "org"), Some("example"))
    )
}

/// How much of it is a domain: labels, and in the end one that a top level domain may be.
fn shorten(domain: &str) -> Option<usize> {
    let (rest, top) = domain.rsplit_once('.')?;
    let letters = top.chars().count() >= 2 && top.chars().all(char::is_alphabetic);
    let encoded = top.len() > 4 && top.as_bytes()[..4].eq_ignore_ascii_case(b"xn--");
    let labels =
        !rest.is_empty() && rest.split('.').all(|label| !label.is_empty() && !label.starts_with('-'));
    (labels && (letters || encoded) && top.len() <= 63 && domain.len() <= DOMAIN).then_some(domain.len())
}
