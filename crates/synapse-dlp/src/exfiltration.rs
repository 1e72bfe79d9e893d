//! Links that carry data away: a picture or link whose address has more in it than an address needs.

use std::ops::Range;

use memchr::{memchr_iter, memchr2_iter};

use crate::hit::{Certainty, Hit};

/// From this length on, a part of an address is a load.
const LOAD: usize = 24;

/// From this length on, a query as a whole is one.
const QUERY: usize = 64;

/// The longest address that is looked at.
const ADDRESS: usize = 4096;

/// How many spaces may stand between an address and what makes a link of it.
const SPACES: usize = 8;

/// What stands before an address that a reader's program follows or a reader is asked to, in lower case.
const BEFORE: &[&str] = &["](", "]:", "url(", "src=", "href=", "background=", "poster=", "action=", "data="];

/// The attribute that lists addresses.
const LIST: &str = "srcset=";

/// A host that links may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllowedHost {
    name: String,
    /// Whether only hosts below it may be linked to.
    only_below: bool,
}

impl AllowedHost {
    /// Reads `example.com`, which stands for itself and all below it, or `*.example.com`, which stands for all
    /// below it. Ports do not count.
    pub(crate) fn parse(text: &str) -> Self {
        let text = text.trim();
        let (only_below, name) = text.strip_prefix("*.").map_or((false, text), |below| (true, below));
        Self { name: host(name), only_below }
    }

    fn covers(&self, host: &str) -> bool {
        match host.strip_suffix(self.name.as_str()) {
            Some("") => !self.only_below && !host.is_empty(),
            Some(below) => below.ends_with('.') && !self.name.is_empty(),
            None => false,
        }
    }
}

/// Reports addresses of links and pictures that carry a load to a host that is not allowed.
pub(crate) fn find(text: &str, allowed: &[AllowedHost], sink: &mut dyn FnMut(Hit)) {
    let bytes = text.as_bytes();
    let mut lists = lists(bytes).peekable();
    let mut done = 0;
    for slash in memchr2_iter(b'/', b'\\', bytes) {
        // Programs take any number of slashes of either kind, and one will do behind a scheme.
        let first = slash == 0 || !is_slash(&bytes[slash - 1]);
        if slash < done || !first {
            continue;
        }
        let start = slash - scheme(&bytes[..slash]);
        let at = slash + bytes[slash..].iter().take_while(|byte| is_slash(byte)).count();
        done = at;
        if start == slash && at - slash < 2 {
            continue;
        }
        while lists.next_if(|list| list.end <= start).is_some() {}
        let listed = lists.peek().is_some_and(|list| list.contains(&start));
        let Some(opened) = (if listed { Some(None) } else { opened_by(&bytes[..start]) }) else { continue };
        let end = end(bytes, at, opened);
        let Some(address) = text.get(at..end) else { continue };
        done = end;
        let split = address.find(['/', '\\', '?', '#']).unwrap_or(address.len());
        let (authority, load) = address.split_at(split);
        let (user, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let host = host(place);
        let carries = carries(load) || carries_in_name(place) || user.len() >= LOAD;
        if carries && !allowed.iter().any(|known| known.covers(&host)) {
            sink(Hit { category: "url_exfiltration", range: start..end, certainty: Certainty::Likely });
        }
    }
}

const fn is_slash(byte: &u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

/// How long the scheme is that a text ends with, with its colon.
fn scheme(before: &[u8]) -> usize {
    let Some(name) = before.strip_suffix(b":") else { return 0 };
    match name.iter().rev().take(8).take_while(|byte| byte.is_ascii_alphabetic()).count() {
        0 => 0,
        length => length + 1,
    }
}

/// Where the values of attributes stand that list addresses.
fn lists(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut done = 0;
    memchr_iter(b'=', bytes).filter_map(move |at| {
        if at < done || !ends_with(&bytes[..=at], LIST) {
            return None;
        }
        let spaces =
            bytes[at + 1..].iter().take(SPACES).take_while(|byte| byte.is_ascii_whitespace()).count();
        let start = at + 1 + spaces;
        done = match bytes.get(start) {
            Some(quote @ (b'"' | b'\'')) => end(bytes, start + 1, Some(*quote)),
            _ => end(bytes, start, None),
        };
        Some(start..done)
    })
}

/// What a text ends with that makes a link of an address behind it: what opens the address, such as a quote, if
/// anything does. None when it does not.
fn opened_by(before: &[u8]) -> Option<Option<u8>> {
    let before = trim_end(before);
    let (opened, outside) = match before.split_last() {
        Some((sign @ (b'"' | b'\'' | b'<'), outside)) => (Some(*sign), trim_end(outside)),
        _ => (None, before),
    };
    // `<https://…>` needs nothing else.
    let is_link = opened == Some(b'<') || BEFORE.iter().any(|known| ends_with(outside, known));
    is_link.then_some(opened)
}

/// Whether a text ends with a word in lower or upper case, with spaces before its last character or without.
fn ends_with(text: &[u8], word: &str) -> bool {
    let Some((last, name)) = word.as_bytes().split_last() else { return false };
    let Some(rest) = text.strip_suffix(&[*last]) else { return false };
    let rest = if *last == b'=' { trim_end(rest) } else { rest };
    rest.len() >= name.len() && rest[rest.len() - name.len()..].eq_ignore_ascii_case(name)
}

fn trim_end(text: &[u8]) -> &[u8] {
    let spaces = text.iter().rev().take(SPACES).take_while(|byte| byte.is_ascii_whitespace()).count();
    &text[..text.len() - spaces]
}

/// Where the address ends that begins at `at`, behind a sign that opens it or none.
fn end(bytes: &[u8], at: usize, opened: Option<u8>) -> usize {
    let rest = &bytes[at..bytes.len().min(at + ADDRESS)];
    let mut depth = 0_usize;
    let ends = |byte: &u8| match (opened, byte) {
        (Some(b'<'), _) => matches!(byte, b'>' | b'\n'),
        (Some(quote), _) => *byte == quote,
        (None, b'(') => {
            depth += 1;
            false
        }
        (None, b')') => depth.checked_sub(1).map(|less| depth = less).is_none(),
        (None, _) => byte.is_ascii_whitespace() || b"\"'<>".contains(byte),
    };
    at + rest.iter().position(ends).unwrap_or(rest.len())
}

/// The name of a host without its port, as names are compared.
fn host(place: &str) -> String {
    let name = match place.find(']').filter(|_| place.starts_with('[')) {
        Some(end) => &place[..=end],
        None => place.split(':').next().unwrap_or(place),
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether what stands behind the host carries a load: words with dashes between them, as titles in paths,
/// do not.
fn carries(load: &str) -> bool {
    let (path, query) = load.split_once(['?', '#']).unwrap_or((load, ""));
    let is_word = |word: &str| word.len() < LOAD && word.bytes().filter(u8::is_ascii_digit).count() <= 4;
    let is_title = |part: &str| part.split(['-', '_', '.', '+']).all(is_word) && !part.contains('%');
    let loaded = |part: &str| part.len() >= LOAD && !is_title(part);
    path.split(['/', '\\']).any(loaded)
        || query.len() >= QUERY
        || query.split(['&', '=', '#']).any(|part| part.len() >= LOAD)
}

/// Whether the host's name itself does.
fn carries_in_name(host: &str) -> bool {
    host.split('.').any(|label| label.len() >= 32 && label.bytes().any(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests;
