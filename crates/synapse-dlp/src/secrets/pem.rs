//! Private keys: in PEM's armour, and as parameters of JSON web keys.

use std::ops::Range;

use memchr::memmem;

use super::Latest;
use crate::hit::Certainty;

/// How armour begins.
pub(crate) const BEGIN: &str = "-----BEGIN";

/// The longest first line.
const FIRST_LINE: usize = 128;

/// How many headers an armoured key has at most.
const HEADERS: usize = 8;

/// What every last line has.
const MARK: &[u8] = b"KEY";

/// The least length of a key.
const BODY: usize = 64;

/// The longest key that a text which streams by is held back for; a longer one blocks it.
pub(crate) const LONGEST: usize = 16 << 10;

/// A private key has fewer spaces in it; with more, its first line is part of a text about keys.
const SPACES: usize = 8;

/// The least length of the private parameter of a JSON web key.
const PARAMETER: usize = 40;

/// How far around a private parameter a JSON web key is looked for.
const WEB_KEY: usize = 2048;

/// Where the first line of an armoured private key that begins at `at` ends.
fn first_line_end(bytes: &[u8], at: usize) -> Option<usize> {
    let line = &bytes[at + BEGIN.len()..bytes.len().min(at + BEGIN.len() + FIRST_LINE)];
    let label = &line[..line.iter().position(|byte| !is_label(*byte)).unwrap_or(line.len())];
    let key = memmem::find(label, b"PRIVATE KEY")? + 11;
    let rest = &label[key..];
    let rest = rest.strip_prefix(b" BLOCK").unwrap_or(rest);
    rest.starts_with(b"-----").then(|| at + BEGIN.len() + label.len() - rest.len() + 5)
}

/// What is known of a first line of which more may come.
pub(crate) enum FirstLine {
    /// Not enough.
    Unknown,
    /// It is that of a private key, and ends here.
    Ends(usize),
    /// It is something else.
    Other,
}

/// What is known of the first line that begins at `at`; `last` when no more will come.
pub(crate) fn first_line(bytes: &[u8], at: usize, last: bool) -> FirstLine {
    if let Some(end) = first_line_end(bytes, at) {
        return FirstLine::Ends(end);
    }
    let line = bytes.get(at + BEGIN.len()..).unwrap_or(&[]);
    let over = line.iter().take(FIRST_LINE).any(|byte| !is_label(*byte));
    if over || last || line.len() >= FIRST_LINE { FirstLine::Other } else { FirstLine::Unknown }
}

fn is_label(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || b" _-".contains(&byte)
}

/// Where a key whose first line ends at `from` ends with its last line, if that is no longer than keys are.
pub(crate) fn last_line_end(bytes: &[u8], from: usize) -> Option<usize> {
    let within = &bytes[..bytes.len().min(from + LONGEST)];
    LastLines::default().next(within, from + BODY)
}

/// Whether there is more prose from `body` on than a key has.
pub(crate) fn is_prose(body: &[u8]) -> bool {
    memchr::memchr_iter(b' ', body).nth(SPACES).is_some()
}

/// The last lines of a text's keys, each looked for once: places are asked for in order.
#[derive(Default)]
struct LastLines {
    latest: Option<Range<usize>>,
    none: bool,
}

impl LastLines {
    /// Where the first last line ends that goes on to its mark at `from` or later.
    fn next(&mut self, bytes: &[u8], from: usize) -> Option<usize> {
        if !self.none && self.latest.as_ref().is_none_or(|latest| latest.start < from) {
            let rest = bytes.get(from..).unwrap_or(&[]);
            let mut marks = memmem::find_iter(rest, MARK).map(|at| from + at);
            self.latest = marks.find_map(|at| {
                let mut end = at + MARK.len();
                end += if bytes[end..].starts_with(b" BLOCK") { 6 } else { 0 };
                bytes[end..].starts_with(b"-----").then_some(at..end + 5)
            });
            self.none = self.latest.is_none();
        }
        self.latest.as_ref().map(|latest| latest.end)
    }
}

/// Reports armoured keys and private parameters.
pub(super) fn find(text: &str, latest: &mut Latest<'_>) {
    let bytes = text.as_bytes();
    let mut done = 0;
    let mut last_lines = LastLines::default();
    for at in memmem::find_iter(bytes, BEGIN) {
        let Some(body) = first_line_end(bytes, at).filter(|_| at >= done) else { continue };
        let is_key = |end: &usize| *end - body <= LONGEST || !is_prose(&bytes[body..*end]);
        let end = last_lines.next(bytes, body + BODY).filter(is_key);
        if let Some(end) = end.or_else(|| cut_off_end(bytes, body)) {
            done = end;
            latest.report("private_key", at..end, Certainty::Sure);
        }
    }
    for at in memmem::find_iter(bytes, "\"d\"") {
        find_parameter(bytes, at, latest);
    }
}

/// Where a key ends whose last line is missing, if enough of it is there.
fn cut_off_end(bytes: &[u8], body: usize) -> Option<usize> {
    // Words have spaces between them; a key has none behind its headers.
    let is_body = |byte: &u8| {
        *byte != b' '
            && (byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b"+/=\\:,-".contains(byte))
    };
    let start = headers_end(bytes, body);
    let rest = &bytes[start..];
    let length = rest.iter().position(|byte| !is_body(byte)).unwrap_or(rest.len());
    let word = || rest[..length].iter().rposition(u8::is_ascii_whitespace);
    let prose = rest.get(length) == Some(&b' ');
    let length = prose.then(word).flatten().unwrap_or(length);
    (length >= BODY).then_some(start + length)
}

/// Where the headers of an armoured key end, such as `DEK-Info: …`.
fn headers_end(bytes: &[u8], body: usize) -> usize {
    let mut end = body;
    for _ in 0..HEADERS {
        let lines = bytes[end..].iter().take(2).take_while(|byte| b"\r\n".contains(byte)).count();
        let line = &bytes[end + lines..bytes.len().min(end + lines + FIRST_LINE)];
        let name = line.iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'-').count();
        let Some(length) = memchr::memchr(b'\n', line) else { break };
        if name == 0 || !line[name..].starts_with(b": ") {
            break;
        }
        end += lines + length;
    }
    end
}

fn find_parameter(bytes: &[u8], at: usize, latest: &mut Latest<'_>) {
    let signs = bytes[at + 3..].iter().take(6).take_while(|byte| b" \t\n:\"".contains(byte)).count();
    let start = at + 3 + signs;
    let is_value = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_-+/=".contains(byte);
    let length = bytes[start..].iter().take(2048).take_while(is_value).count();
    let around = &bytes[at.saturating_sub(WEB_KEY)..bytes.len().min(start + length + WEB_KEY)];
    if length >= PARAMETER && memmem::find(around, b"\"kty\"").is_some() {
        latest.report("private_key", start..start + length, Certainty::Sure);
    }
}
