//! Encoded parts of a text, decoded in their places.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::View;

/// The least length of a token that is tried as base64 or hexadecimal.
const TOKEN: usize = 16;

/// Base64 with either alphabet, padded or not.
static BASE64: GeneralPurpose = engine(&alphabet::STANDARD);
static BASE64_URL: GeneralPurpose = engine(&alphabet::URL_SAFE);

const fn engine(alphabet: &alphabet::Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(alphabet, config)
}

/// Names of characters in HTML.
const NAMED: &[(&str, &str)] =
    &[("amp", "&"), ("lt", "<"), ("gt", ">"), ("quot", "\""), ("apos", "'"), ("nbsp", " "), ("commat", "@")];

/// `text` with everything decoded that is encoded; nothing if nothing is.
pub(super) fn decode(text: &str) -> Option<View> {
    let bytes = text.as_bytes();
    let mut view = View::default();
    let mut kept = 0;
    let mut at = 0;
    while at < bytes.len() {
        let (length, decoded) = match bytes[at] {
            byte if is_token(byte) => token(bytes, at),
            b'%' => hex_pairs(bytes, at, b"%", 1),
            b'=' => hex_pairs(bytes, at, b"=", 2),
            b'\\' if bytes.get(at + 1) == Some(&b'x') => hex_pairs(bytes, at, b"\\x", 1),
            b'\\' => unicode_escape(bytes, at),
            b'&' => entity(text, at),
            _ => (1, None),
        };
        if let Some(decoded) = decoded {
            view.keep_near(text, kept..at);
            view.put(&decoded, at..at + length);
            kept = at + length;
        }
        at += length;
    }
    if kept == 0 {
        return None;
    }
    view.keep_near(text, kept..text.len());
    Some(view)
}

/// What encoded tokens are made of.
static TOKENS: [bool; 256] = tokens();

const fn tokens() -> [bool; 256] {
    let mut tokens = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let c = byte as u8;
        tokens[byte] = c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/' | b'-' | b'_');
        byte += 1;
    }
    tokens
}

fn is_token(byte: u8) -> bool {
    TOKENS[usize::from(byte)]
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn pair(bytes: &[u8], at: usize) -> Option<u8> {
    Some(hex(*bytes.get(at)?)? << 4 | hex(*bytes.get(at + 1)?)?)
}

/// Text, if most of it is printable.
fn printable(bytes: Vec<u8>) -> Option<String> {
    let strange = bytes.iter().filter(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace()).count();
    if strange * 10 > bytes.len() || bytes.is_empty() {
        return None;
    }
    // A byte that is no text hides nothing of the rest.
    let text = String::from_utf8_lossy(&bytes);
    let broken = text.chars().filter(|letter| *letter == char::REPLACEMENT_CHARACTER).count();
    ((broken + strange) * 10 <= bytes.len()).then(|| text.into_owned())
}

/// A run of bytes in hexadecimal, each behind a mark.
fn hex_pairs(bytes: &[u8], start: usize, mark: &[u8], least: usize) -> (usize, Option<String>) {
    let mut at = start;
    let mut decoded = Vec::new();
    while bytes[at..].starts_with(mark)
        && let Some(byte) = pair(bytes, at + mark.len())
    {
        decoded.push(byte);
        at += mark.len() + 2;
    }
    if decoded.len() < least {
        return ((at - start).max(1), None);
    }
    (at - start, printable(decoded))
}

/// `\u` and four digits, or two of them that are one character.
fn unicode_escape(bytes: &[u8], at: usize) -> (usize, Option<String>) {
    let unit = |at: usize| -> Option<u16> {
        let escape = bytes.get(at..at + 2)?;
        if escape != b"\\u" {
            return None;
        }
        Some(u16::from(pair(bytes, at + 2)?) << 8 | u16::from(pair(bytes, at + 4)?))
    };
    let Some(first) = unit(at) else { return (1, None) };
    match char::from_u32(u32::from(first)) {
        Some(c) => (6, Some(c.to_string())),
        None => {
            let second = unit(at + 6).unwrap_or(0);
            match String::from_utf16(&[first, second]) {
                Ok(text) => (12, Some(text)),
                Err(_) => (6, None),
            }
        }
    }
}

/// `&#50;`, `&#x32;`, `&amp;`.
fn entity(text: &str, at: usize) -> (usize, Option<String>) {
    let rest = &text.as_bytes()[at + 1..text.len().min(at + 12)];
    let Some(name) = memchr::memchr(b';', rest).and_then(|end| text.get(at + 1..at + 1 + end)) else {
        return (1, None);
    };
    let code = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
    let decoded = match name.strip_prefix('#').map(|number| (number.strip_prefix(['x', 'X']), number)) {
        Some((Some(digits), _)) => code(digits, 16).map(String::from),
        Some((None, digits)) => code(digits, 10).map(String::from),
        None => NAMED.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned()),
    };
    (if decoded.is_some() { name.len() + 2 } else { 1 }, decoded)
}

/// A token that may be base64 or hexadecimal.
fn token(bytes: &[u8], start: usize) -> (usize, Option<String>) {
    let length = bytes[start..].iter().take_while(|byte| is_token(**byte)).count();
    let padding = bytes[start + length..].iter().take(2).take_while(|byte| **byte == b'=').count();
    if length + padding < TOKEN {
        return (length, None);
    }
    let body = &bytes[start..start + length];
    if length.is_multiple_of(2) && body.iter().all(u8::is_ascii_hexdigit) {
        let pairs = body.chunks_exact(2).filter_map(|two| pair(two, 0));
        if let Some(text) = printable(pairs.collect()) {
            return (length, Some(text));
        }
    }
    let engine = if memchr::memchr2(b'-', b'_', body).is_some() { &BASE64_URL } else { &BASE64 };
    // The beginning tells most tokens that are something else.
    let begins = engine.decode(&body[..12]).ok().and_then(printable);
    let decoded = begins.and_then(|_| engine.decode(body).ok()).and_then(printable);
    (length + if decoded.is_some() { padding } else { 0 }, decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> String {
        decode(text).map_or_else(|| text.to_owned(), |view| view.text)
    }

    #[test]
    fn every_encoding_is_decoded_in_its_place() {
        for text in [
            "is MjE5LTA5LTk5OTk= ok",
            "is 3231392d30392d39393939 ok",
            "is %32%31%39%2D%30%39%2D%39%39%39%39 ok",
            "is &#50;&#49;&#57;-&#x30;9-9999 ok",
            r"is \u0032\u0031\u0039-09-\x39999 ok",
            "is =32=31=39-09-9999 ok",
        ] {
            assert_eq!(decoded(text), "is 219-09-9999 ok", "{text}");
        }
    }

    #[test]
    fn what_only_looks_encoded_stays() {
        for text in
            ["internationalization", "d41d8cd98f00b204e9800998ecf8427e", "100% sure & a=b \\users", "&;"]
        {
            assert_eq!(decoded(text), text);
        }
    }

    #[test]
    fn a_part_of_a_token_leads_back_to_all_of_it() {
        let text = "is MjE5LTA5LTk5OTk= ok";
        let view = decode(text).unwrap();
        assert_eq!(&text[view.source(5..8).unwrap()], "MjE5LTA5LTk5OTk=");
    }
}
