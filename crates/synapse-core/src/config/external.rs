//! The URL that others reach this gateway by: out of the configuration, or out of what a request says
//! of its host. Either way it is text that means nothing special to a shell.

use std::{fmt, net::Ipv6Addr};

/// The longest host name.
const MAX_NAME: usize = 253;
/// The longest path.
const MAX_PATH: usize = 512;

/// `http(s)://host[:port][/path]` of letters, digits and `. - _ ~ / : [ ]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalUrl {
    tls: bool,
    authority: String,
    path: String,
}

impl ExternalUrl {
    /// Reads a URL; a slash at its end does not count. `None` for all that has more to it than scheme,
    /// host, port and path.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = path.trim_end_matches('/');
        let fine = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
        let is_path = path.len() <= MAX_PATH && path.bytes().all(fine);
        (is_authority(authority) && is_path).then(|| Self {
            tls,
            authority: authority.to_owned(),
            path: path.to_owned(),
        })
    }

    /// The URL of a gateway at `authority`: `host` or `host:port`, as a `Host` header has it.
    pub fn of_authority(tls: bool, authority: &str) -> Option<Self> {
        is_authority(authority).then(|| Self { tls, authority: authority.to_owned(), path: String::new() })
    }

    /// Where workers dial.
    pub fn tunnel(&self) -> String {
        let scheme = if self.tls { "wss" } else { "ws" };
        format!("{scheme}://{}{}/ws", self.authority, self.path)
    }
}

impl fmt::Display for ExternalUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

/// `[A-Za-z0-9.-]+` or an IPv6 address in brackets, with or without a port from 1 to 65535.
fn is_authority(text: &str) -> bool {
    let (is_host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else { return false };
            (address.parse::<Ipv6Addr>().is_ok(), port)
        }
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
            ((1..=MAX_NAME).contains(&name.len()) && name.bytes().all(fine), port)
        }
    };
    is_host && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

fn is_port(text: &str) -> bool {
    // `parse` alone would take a sign.
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_is_taken_as_it_is_but_for_slashes_at_its_end() {
        for (text, tunnel) in [
            ("https://gateway.example.com", "wss://gateway.example.com/ws"),
            ("http://10.0.0.5:8080", "ws://10.0.0.5:8080/ws"),
            ("http://[fd00::1]:8080", "ws://[fd00::1]:8080/ws"),
            ("https://example.com/ai/synapse", "wss://example.com/ai/synapse/ws"),
        ] {
            let url = ExternalUrl::parse(text).expect(text);
            assert_eq!((url.to_string().as_str(), url.tunnel().as_str()), (text, tunnel));
            assert_eq!(ExternalUrl::parse(&format!("{text}//")), Some(url), "{text}");
        }
    }

    #[test]
    fn what_has_more_to_it_is_no_url_of_a_gateway() {
        for text in [
            "",
            "gateway.example.com",
            "ws://gateway",
            "ftp://gateway",
            "https://",
            "https:///path",
            "https://me@gateway",
            "https://gateway?key=x",
            "https://gateway#x",
            "https://gateway/a b",
            "https://gateway/$(id)",
            "https://gateway/'",
            "https://gateway:0",
            "https://gateway:65536",
            "https://gateway:+80",
            "https://gateway:",
            "https://[::1",
            "https://[::1]8080",
            "https://[fe80::1%25eth0]",
            "https://[gateway]",
            "https://g\u{e4}teway",
        ] {
            assert_eq!(ExternalUrl::parse(text), None, "{text}");
        }
        assert_eq!(ExternalUrl::parse(&format!("https://{}", "a".repeat(MAX_NAME + 1))), None);
    }

    proptest! {
        #[test]
        fn what_a_request_says_is_taken_letter_by_letter_or_not_at_all(host in ".{0,40}", tls: bool) {
            if let Some(url) = ExternalUrl::of_authority(tls, &host) {
                let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
                prop_assert!(host.chars().all(plain), "{host}");
                prop_assert_eq!(url.to_string().split_once("://").map(|(_, rest)| rest.to_owned()), Some(host));
            }
        }
    }
}
