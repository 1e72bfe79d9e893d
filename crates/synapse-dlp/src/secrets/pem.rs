//! Private keys: in PEM's armour, and as parameters of JSON web keys.

use memchr::memmem;

use super::Latest;
use crate::hit::Certainty;

/// How armour begins.
pub(crate) const BEGIN: &str = "-----BEGIN";

/// The longest first line.
const FIRST_LINE: usize = 128;

/// The least length of a key.
const BODY: usize = 64;

/// The longest key.
pub(crate) const LONGEST: usize = 16 << 10;

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

/// Where a key whose first line ends at `from` ends with its last line.
pub(crate) fn last_line_end(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from + BODY.min(bytes.len().saturating_sub(from))..)?;
    let rest = &rest[..rest.len().min(LONGEST)];
    let offset = bytes.len().min(from + BODY);
    let key = memmem::find(rest, b"KEY-----").map(|at| at + 8);
    let block = memmem::find(rest, b"KEY BLOCK-----").map(|at| at + 14);
    let end = [key, block].into_iter().flatten().min()?;
    Some(offset + end)
}

/// Reports armoured keys and private parameters.
pub(super) fn find(text: &str, latest: &mut Latest<'_>) {
    let bytes = text.as_bytes();
    let mut done = 0;
    for at in memmem::find_iter(bytes, BEGIN) {
        let Some(body) = first_line_end(bytes, at).filter(|_| at >= done) else { continue };
        let end = last_line_end(bytes, body).unwrap_or_else(|| cut_off_end(bytes, body));
        if end - body >= BODY {
            done = end;
            latest.report("private_key", at..end, Certainty::Sure);
        }
    }
    for at in memmem::find_iter(bytes, "\"d\"") {
        find_parameter(bytes, at, latest);
    }
}

/// Where a key ends whose last line is missing.
fn cut_off_end(bytes: &[u8], body: usize) -> usize {
    let is_body =
        |byte: &&u8| byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b"+/=\\:,-".contains(byte);
    let rest = &bytes[body..bytes.len().min(body + LONGEST)];
    let length = rest.iter().take_while(is_body).count();
    // Words have spaces between them; a key has not.
    let prose = memchr::memchr(b' ', &rest[..length]);
    body + prose
        .map_or(length, |space| rest[..space].iter().rposition(u8::is_ascii_whitespace).unwrap_or(space))
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
