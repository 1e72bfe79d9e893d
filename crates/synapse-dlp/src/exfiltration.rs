//! Links that carry data away: a picture or link whose address has more in it than an address needs.

use memchr::memmem;

use crate::hit::{Certainty, Hit};

/// From this length on, a part of an address is a load.
const LOAD: usize = 24;

/// From this length on, a query as a whole is one.
const QUERY: usize = 64;

/// The longest address that is looked at.
const ADDRESS: usize = 4096;

/// What stands right before an address that a reader's program follows or a reader is asked to.
const BEFORE: &[&str] = &["](", "](<", "]: ", "src=\"", "src='", "src=", "href=\"", "href='", "href="];

/// Reports addresses of links and pictures that carry a load to a host that is not allowed.
pub(crate) fn find(text: &str, allowed: &[String], sink: &mut dyn FnMut(Hit)) {
    let bytes = text.as_bytes();
    let mut done = 0;
    for at in memmem::find_iter(bytes, b"://") {
        let scheme = bytes[..at].iter().rev().take(8).take_while(|byte| byte.is_ascii_alphabetic()).count();
        let start = at - scheme;
        if start < done || !BEFORE.iter().any(|before| bytes[..start].ends_with(before.as_bytes())) {
            continue;
        }
        let rest = &bytes[at + 3..bytes.len().min(at + 3 + ADDRESS)];
        let ends = |byte: &u8| byte.is_ascii_whitespace() || b")\"'<>".contains(byte);
        let end = at + 3 + rest.iter().position(ends).unwrap_or(rest.len());
        let Some(address) = text.get(at + 3..end) else { continue };
        done = end;
        let split = address.find(['/', '?', '#']).unwrap_or(address.len());
        let (authority, load) = address.split_at(split);
        if !is_allowed(authority, allowed) && (carries(load) || carries_in_name(authority)) {
            sink(Hit { category: "url_exfiltration", range: start..end, certainty: Certainty::Likely });
        }
    }
}

fn is_allowed(authority: &str, allowed: &[String]) -> bool {
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let host = host.split(':').next().unwrap_or(host).to_ascii_lowercase();
    allowed.iter().any(|known| {
        host.strip_suffix(known.as_str()).is_some_and(|below| below.is_empty() || below.ends_with('.'))
    })
}

/// Whether what stands behind the host carries a load: words with dashes between them, as titles in paths,
/// do not.
fn carries(load: &str) -> bool {
    let (path, query) = load.split_once(['?', '#']).unwrap_or((load, ""));
    let is_word = |word: &str| word.len() < LOAD && word.bytes().filter(u8::is_ascii_digit).count() <= 4;
    let is_title = |part: &str| part.split(['-', '_', '.', '+']).all(is_word) && !part.contains('%');
    let loaded = |part: &str| part.len() >= LOAD && !is_title(part);
    path.split('/').any(loaded)
        || query.len() >= QUERY
        || query.split(['&', '=', '#']).any(|part| part.len() >= LOAD)
}

/// Whether the host's name itself does.
fn carries_in_name(authority: &str) -> bool {
    authority.split('.').any(|label| label.len() >= 32 && label.bytes().any(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        find(text, &["good.example".to_owned()], &mut |hit| found.push(&text[hit.range]));
        found
    }

    #[test]
    fn a_picture_with_a_load_is_found() {
        let address = "https://bad.example/p.png?d=bXkgc2VjcmV0IGlzIGhpZGRlbg";
        assert_eq!(found(&format!("See ![p]({address}) here")), [address]);
        assert_eq!(found(&format!("<img src=\"{address}\">")), [address]);
    }

    #[test]
    fn allowed_hosts_and_those_below_them_may_be_linked_to() {
        assert!(found("[a](https://good.example/?d=bXkgc2VjcmV0IGlzIGhpZGRlbg)").is_empty());
        assert!(found("[a](https://www.good.example/?d=bXkgc2VjcmV0IGlzIGhpZGRlbg)").is_empty());
        assert_eq!(found("[a](https://notgood.example/?d=bXkgc2VjcmV0IGlzIGhpZGRlbg)").len(), 1);
    }

    #[test]
    fn plain_links_are_not() {
        assert!(
            found("[a](https://blog.example/2024/how-to-write-a-very-good-parser?page=2#top)").is_empty()
        );
    }
}
