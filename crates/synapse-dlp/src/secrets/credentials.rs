//! Credentials in the places where they are used: URLs, headers, command lines, manifests.

use std::ops::Range;

use memchr::{memchr2_iter, memmem};

use super::{
    Latest, measure,
    pattern::{ends_token, is_word},
};
use crate::hit::Certainty;

/// The longest user and password of a URL.
const USER_INFO: usize = 256;

/// How far behind the word `curl` its options are looked for.
const COMMAND: usize = 300;

/// What people write where a password would stand.
const NO_PASSWORDS: [&str; 10] =
    ["password", "passwd", "pass", "pwd", "pw", "secret", "user", "test", "changeme", "token"];

fn is_password(text: &str) -> bool {
    let templates = ["${", "{{", "$(", "***", "...", "xxx", "example", "changeme"];
    let lower = text.to_ascii_lowercase();
    text.len() >= 3
        && !text.starts_with(['$', '<', '{', '%', '['])
        && !NO_PASSWORDS.contains(&&*lower)
        && !templates.iter().any(|template| lower.contains(template))
}

/// URLs with a user and a password: from the scheme to the port.
pub(super) fn find_urls(text: &str, latest: &mut Latest<'_>) {
    let bytes = text.as_bytes();
    for at in memmem::find_iter(bytes, b"://") {
        let is_scheme = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'.' | b'-');
        let scheme = bytes[..at].iter().rev().take(20).take_while(is_scheme).count();
        let start = at + 3;
        let rest = &bytes[start..bytes.len().min(start + USER_INFO)];
        let stops = |byte: &u8| byte.is_ascii_whitespace() || b"/?#\"'<>`\\|".contains(byte);
        let authority = &rest[..rest.iter().position(stops).unwrap_or(rest.len())];
        let Some(sign) = memchr::memrchr(b'@', authority) else { continue };
        let Some(colon) = memchr::memchr(b':', &authority[..sign]) else { continue };
        let is_host = |byte: &&u8| byte.is_ascii_alphanumeric() || b".:-_[]".contains(byte);
        let host = authority[sign + 1..].iter().take_while(is_host).count();
        let password = text.get(start + colon + 1..start + sign);
        if scheme >= 2 && host > 0 && password.is_some_and(is_password) {
            latest.report("connection_string", at - scheme..start + sign + 1 + host, Certainty::Sure);
        }
    }
}

/// The value of a header that begins at `at` or behind the name of a scheme there.
fn header_value(text: &str, at: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let rest = bytes.get(at..)?;
    let word = rest.iter().take(12).take_while(|byte| byte.is_ascii_alphabetic()).count();
    let start = if rest.get(word) == Some(&b' ') { at + word + 1 } else { at };
    let is_value = |byte: &&u8| is_word(**byte) || b"=~@.+/-".contains(byte);
    let end = start + bytes.get(start..)?.iter().take(2000).take_while(is_value).count();
    let value = &text[start..end];
    let secret = value.len() >= 16 && measure::is_mixed(value.as_bytes());
    let varied = secret && measure::entropy(value.as_bytes()) >= 3.0;
    (varied && !measure::is_stand_in(value)).then_some(start..end)
}

/// `Authorization: Bearer …`, in headers and in JSON.
pub(super) fn at_authorization(text: &str, _start: usize, end: usize, latest: &mut Latest<'_>) {
    let bytes = text.as_bytes();
    let signs = bytes[end..].iter().take(5).take_while(|byte| b" \t\"':=\\".contains(byte)).count();
    if bytes[end..end + signs].iter().any(|byte| matches!(byte, b':' | b'='))
        && let Some(range) = header_value(text, end + signs)
    {
        latest.report("authorization_header", range, Certainty::Sure);
    }
}

/// `Bearer …`, wherever it stands.
pub(super) fn at_bearer(text: &str, start: usize, _end: usize, latest: &mut Latest<'_>) {
    if let Some(range) = header_value(text, start) {
        latest.report("authorization_header", range, Certainty::Sure);
    }
}

/// `curl -u user:password`.
pub(super) fn at_curl(text: &str, _start: usize, end: usize, latest: &mut Latest<'_>) {
    let bytes = text.as_bytes();
    let command = &bytes[end..bytes.len().min(end + COMMAND)];
    let option = |name: &[u8]| memmem::find(command, name).map(|at| end + at + name.len());
    let Some(at) = option(b" -u").or_else(|| option(b" --user")) else { return };
    let quotes = |byte: &&u8| b" \t='\"".contains(byte);
    let start = at + bytes[at..].iter().take(4).take_while(quotes).count();
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"'\"".contains(byte);
    let rest = &bytes[start..bytes.len().min(start + USER_INFO)];
    let stop = start + rest.iter().position(ends).unwrap_or(rest.len());
    let Some((user, password)) = text.get(start..stop).and_then(|pair| pair.split_once(':')) else { return };
    if user != password && password.len() >= 4 && is_password(password) && !user.starts_with('$') {
        latest.report("curl-auth-user", start..stop, Certainty::Sure);
    }
}

/// A password in the configuration of NuGet.
pub(super) fn at_nuget(text: &str, _start: usize, end: usize, latest: &mut Latest<'_>) {
    let Some(rest) = text.get(end..) else { return };
    let line = &rest[..rest.bytes().take(400).position(|byte| byte == b'\n').unwrap_or(0)];
    let line = if line.is_empty() && rest.len() < 400 { rest } else { line };
    let key = line.trim_start_matches('"');
    if !key.starts_with("Password\"") && !key.starts_with("ClearTextPassword\"") {
        return;
    }
    let Some(at) = line.find("value=\"").map(|at| at + 7) else { return };
    let Some(length) = line[at..].find('"') else { return };
    let value = &line[at..at + length];
    if value.len() >= 8 && !measure::is_stand_in(value) {
        latest.report("nuget-config-password", end + at..end + at + length, Certainty::Sure);
    }
}

/// How far around `kind: Secret` its data is looked for.
const MANIFEST: usize = 1024;
/// How long a line of it may be beyond that: a key in Base64 is one line.
const LONG_LINE: usize = 8192;

/// The values of a Kubernetes manifest of kind `Secret`.
pub(super) fn at_kubernetes(text: &str, start: usize, end: usize, latest: &mut Latest<'_>) {
    let bytes = text.as_bytes();
    let before = bytes[..start].trim_ascii_end();
    let before = before.strip_suffix(b"\"").or_else(|| before.strip_suffix(b"'")).unwrap_or(before);
    if !before.trim_ascii_end().ends_with(b"kind:") || bytes.get(end).is_some_and(|byte| is_word(*byte)) {
        return;
    }
    let from = start.saturating_sub(MANIFEST);
    let around = &bytes[from..bytes.len().min(end + MANIFEST)];
    let Some(data) = memmem::find(around, b"data:") else { return };
    let data = from + data + 5;
    let last = bytes.len().min(data.max(end) + MANIFEST);
    let line_end = memchr::memchr(b'\n', &bytes[last..bytes.len().min(last + LONG_LINE)])
        .map_or(last, |end| last + end + 1);
    // Manifests that follow each other closely have each line read once.
    let mut at = latest.manifest.max(data);
    for line in bytes.get(at..line_end).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
        if let Some(range) = manifest_value(text, at..at + line.len()) {
            latest.report("kubernetes-secret-yaml", range, Certainty::Sure);
        }
        at += line.len();
    }
    latest.manifest = at;
}

/// The value of a line such as `  password: cGFzc3dvcmQ=`.
fn manifest_value(text: &str, line: Range<usize>) -> Option<Range<usize>> {
    let content = text.get(line.clone())?;
    let colon = content.find(": ")?;
    if !content.starts_with([' ', '\t']) {
        return None;
    }
    let value = content[colon + 2..].trim().trim_matches(['"', '\'']);
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let start = line.start + content.find(value)?;
    let secret =
        value.len() >= 10 && value.bytes().all(is_base64) && measure::entropy(value.as_bytes()) >= 2.5;
    (secret && value.len() % 4 == 0).then(|| start..start + value.len())
}

/// Tokens of Facebook's apps: their number, `|` and characters.
pub(super) fn find_app_tokens(text: &str, latest: &mut Latest<'_>) {
    let bytes = text.as_bytes();
    for at in memchr2_iter(b'|', b'%', bytes) {
        let digits = bytes[..at].iter().rev().take(17).take_while(|byte| byte.is_ascii_digit()).count();
        if !(15..=16).contains(&digits) || (at > digits && is_word(bytes[at - digits - 1])) {
            continue;
        }
        let is_value = |byte: &&u8| is_word(**byte) || **byte == b'-';
        let length = bytes[at + 1..].iter().take(41).take_while(is_value).count();
        let end = at + 1 + length;
        if (27..=40).contains(&length)
            && ends_token(bytes, end)
            && measure::entropy(&bytes[at - digits..end]) >= 3.0
        {
            latest.report("facebook-access-token", at - digits..end, Certainty::Sure);
        }
    }
}
