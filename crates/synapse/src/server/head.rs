//! The strict reading of an HTTP/1 head, line by line. Whatever two readers could read in two ways
//! is refused, so that nobody before or behind this gateway can see other requests than it does.

use hyper::Uri;
use synapse_core::error::FaultKind;

/// The longest target, in bytes.
pub(super) const MAX_TARGET: usize = 8 * 1024;
/// The most fields of a head.
pub(super) const MAX_FIELDS: usize = 100;
/// Method, spaces and version, in bytes.
const AROUND_TARGET: usize = 64;

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) kind: FaultKind,
    pub(super) message: &'static str,
}

/// A head that is not what HTTP demands.
pub(super) const fn malformed(message: &'static str) -> Refusal {
    Refusal { kind: FaultKind::MalformedRequest, message }
}

pub(super) const HEAD_TOO_LARGE: Refusal =
    Refusal { kind: FaultKind::HeadersTooLarge, message: "The headers are larger than 32 KiB." };
pub(super) const TOO_MANY_FIELDS: Refusal =
    Refusal { kind: FaultKind::HeadersTooLarge, message: "The request has more than 100 headers." };
pub(super) const TARGET_TOO_LONG: Refusal =
    Refusal { kind: FaultKind::UriTooLong, message: "The path with its query is longer than 8 KiB." };
const TWO_FRAMINGS: Refusal =
    malformed("The request has both `Content-Length` and `Transfer-Encoding`. Send one of them.");

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delimited {
    /// So many bytes; none is a length, too.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// A head, as far as its lines have come.
#[derive(Debug, Default)]
pub(super) struct Head {
    begun: bool,
    is_old: bool,
    fields: usize,
    /// The host that an absolute target names.
    authority: Option<Box<[u8]>>,
    has_host: bool,
    length: Option<u64>,
    chunked: bool,
}

impl Head {
    /// Whether the request line has come.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Takes a line, without its end.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if self.begun {
            return self.field(line);
        }
        self.begun = true;
        self.request_line(line)
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let mut words = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(malformed(
                "The first line must be a method, a path and a version, one space between.",
            ));
        };
        self.is_old = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => {
                return Err(malformed(
                    "The version must be `HTTP/1.1`, `HTTP/1.0`, or HTTP/2 by its preface.",
                ));
            }
        };
        if !is_token(method) || method.len() > AROUND_TARGET / 2 {
            return Err(malformed("The method is no method's name."));
        }
        if target.len() > MAX_TARGET {
            return Err(TARGET_TOO_LONG);
        }
        if method == b"CONNECT" {
            return Err(malformed("This is no proxy: `CONNECT` leads nowhere."));
        }
        self.target(target)
    }

    fn target(&mut self, target: &[u8]) -> Result<(), Refusal> {
        if !target.iter().all(|&byte| is_in(TARGET, byte)) {
            return Err(malformed("The path has characters that must be percent-encoded."));
        }
        if target.starts_with(b"/") || target == b"*" {
            return Ok(());
        }
        let rest = strip_scheme(target).ok_or(malformed("The path must begin with a slash."))?;
        let end = rest.iter().position(|&byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        if Uri::try_from(target).is_err() {
            return Err(malformed("The request's absolute address cannot be read."));
        }
        self.authority = Some(rest[..end].into());
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Refusal> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(TOO_MANY_FIELDS);
        }
        let (name, value) = field(line)?;
        match framing_field(name) {
            None => Ok(()),
            Some(Known::Host) => self.host_field(value),
            Some(Known::Length) => self.length_field(value),
            Some(Known::Coding) => self.coding_field(value),
        }
    }

    fn host_field(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if value.is_empty() || !value.iter().all(|&byte| is_in(HOST, byte)) {
            return Err(malformed("The `Host` header is no host's name or address."));
        }
        if std::mem::replace(&mut self.has_host, true) {
            return Err(malformed("The `Host` header stands twice."));
        }
        if self.authority.as_ref().is_some_and(|authority| !value.eq_ignore_ascii_case(authority)) {
            return Err(malformed("The `Host` header and the request's absolute address name two hosts."));
        }
        Ok(())
    }

    fn length_field(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked {
            return Err(TWO_FRAMINGS);
        }
        if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
            return Err(malformed("The `Content-Length` header must be one plain decimal number."));
        }
        let length = value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        if self.length.replace(length).is_some() {
            return Err(malformed("The `Content-Length` header stands twice."));
        }
        Ok(())
    }

    fn coding_field(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.length.is_some() {
            return Err(TWO_FRAMINGS);
        }
        if self.is_old {
            return Err(malformed("HTTP/1.0 knows no `Transfer-Encoding`."));
        }
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(malformed("The only `Transfer-Encoding` that is read is `chunked`, once."));
        }
        self.chunked = true;
        Ok(())
    }

    /// The head has ended.
    pub(super) fn end(&self) -> Result<Delimited, Refusal> {
        match &self.authority {
            _ if !self.has_host && !self.is_old => Err(malformed("The `Host` header is required.")),
            Some(authority) if !self.has_host && !authority.iter().all(|&byte| is_in(HOST, byte)) => {
                Err(malformed("The request's absolute address names no host."))
            }
            _ if self.chunked => Ok(Delimited::Chunked),
            _ => Ok(Delimited::Length(self.length.unwrap_or(0))),
        }
    }
}

/// Whether an unfinished request line is already too long.
pub(super) fn is_too_long(request_line: &[u8]) -> bool {
    request_line.len() > MAX_TARGET + AROUND_TARGET
}

enum Known {
    Host,
    Length,
    Coding,
}

/// The fields that say where a request begins, ends and leads.
fn framing_field(name: &[u8]) -> Option<Known> {
    let (known, field) = match name.len() {
        4 => (&b"host"[..], Known::Host),
        14 => (&b"content-length"[..], Known::Length),
        17 => (&b"transfer-encoding"[..], Known::Coding),
        _ => return None,
    };
    name.eq_ignore_ascii_case(known).then_some(field)
}

/// A trailer; none may say again how the request is framed.
pub(super) fn trailer(line: &[u8]) -> Result<(), Refusal> {
    match framing_field(field(line)?.0) {
        None => Ok(()),
        Some(_) => Err(malformed("A trailer must not say how the request is framed.")),
    }
}

/// A name, and its value without the spaces around.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let end = line.iter().position(|&byte| !is_in(TOKEN, byte)).unwrap_or(line.len());
    match line.split_at(end) {
        (name @ [_, ..], [b':', value @ ..]) => Ok((name, trim(value))),
        _ if memchr::memchr(b':', line).is_none() => Err(malformed("A header line has no colon.")),
        _ => Err(malformed("A header's name has characters that no name has; lines must not be folded.")),
    }
}

/// Without the spaces and tabs around.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    let is = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme));
    let schemes: [&[u8]; 2] = [b"http://", b"https://"];
    schemes.into_iter().find(|scheme| is(scheme)).map(|scheme| &target[scheme.len()..])
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_in(TOKEN, byte))
}

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const HOST: u8 = 4;

fn is_in(class: u8, byte: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// What characters may stand where.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0x21_u8;
    while byte < 0x7f {
        let plain = byte.is_ascii_alphanumeric();
        let mut class = 0;
        if plain || among(byte, b"!#$%&'*+-.^_`|~") {
            class |= TOKEN;
        }
        if !among(byte, b"\"#<>\\`{}") {
            class |= TARGET;
        }
        if plain || among(byte, b"!$&'()*+;=:%-._~[]") {
            class |= HOST;
        }
        classes[byte as usize] = class;
        byte += 1;
    }
    classes
};

const fn among(byte: u8, set: &[u8]) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Delimited, Refusal> {
        let mut head = Head::default();
        for line in lines {
            head.line(line.as_bytes())?;
        }
        head.end()
    }

    #[test]
    fn a_head_says_how_its_body_is_delimited() {
        let with = |line| read(&["POST / HTTP/1.1", "Host: a:80", line]).expect("a head");
        assert_eq!(with("x: y"), Delimited::Length(0));
        assert_eq!(with("content-length: \t012 "), Delimited::Length(12));
        assert_eq!(with("Transfer-Encoding: CHUNKED"), Delimited::Chunked);
    }

    #[test]
    fn a_target_that_passes_is_one_that_hyper_reads() {
        for byte in 0..=u8::MAX {
            for text in [[b"/a".as_slice(), &[byte]].concat(), [b"/a?b".as_slice(), &[byte]].concat()] {
                let passes = text.iter().all(|&byte| is_in(TARGET, byte));
                assert!(!passes || Uri::try_from(text.as_slice()).is_ok(), "{byte:#x}");
            }
            let name = [byte];
            let reads = hyper::header::HeaderName::from_bytes(&name).is_ok();
            assert!(!is_token(&name) || reads, "{byte:#x}");
        }
    }

    #[test]
    fn a_hundred_fields_are_enough() {
        let mut lines = vec!["GET / HTTP/1.1", "host: a"];
        lines.extend(["x: y"; MAX_FIELDS - 1]);
        assert!(read(&lines).is_ok());
        lines.push("x: y");
        assert_eq!(read(&lines), Err(TOO_MANY_FIELDS));
    }

    #[test]
    fn a_long_target_is_told_from_a_long_head() {
        let target = |length| format!("GET /{} HTTP/1.1", "a".repeat(length - 1));
        assert!(read(&[&target(MAX_TARGET), "host: a"]).is_ok());
        assert_eq!(read(&[&target(MAX_TARGET + 1), "host: a"]), Err(TARGET_TOO_LONG));
    }
}
