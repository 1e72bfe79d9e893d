//! JSON web tokens.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use memchr::memmem;

use super::{Latest, measure, pattern::is_word};
use crate::hit::Certainty;

/// The least length of a token's header and of its payload.
const PART: usize = 19;

/// The longest header that is looked at.
const HEADER: usize = 4096;

/// `header.payload.signature`, where both of the first begin as JSON objects in base64 do.
pub(super) fn find(text: &str, latest: &mut Latest<'_>) {
    let bytes = text.as_bytes();
    for dot in memmem::find_iter(bytes, b".ey") {
        if latest.covers("jwt", dot) {
            continue;
        }
        let is_header = |byte: &&u8| is_word(**byte) || **byte == b'-';
        let mut header = bytes[..dot].iter().rev().take(HEADER).take_while(is_header).count();
        if !bytes[dot - header..].starts_with(b"ey") {
            // Something else may stand right before it.
            let Some(skipped) = memmem::find(&bytes[dot - header..dot], b"eyJ") else { continue };
            header -= skipped;
        }
        let is_part = |byte: &&u8| is_word(**byte) || matches!(byte, b'-' | b'/' | b'\\');
        let payload = bytes[dot + 1..].iter().take_while(is_part).count();
        if header < PART || payload < PART {
            continue;
        }
        let start = dot - header;
        let mut end = dot + 1 + payload;
        if bytes.get(end) == Some(&b'.') {
            end += 1;
            end += bytes[end..].iter().take_while(|byte| is_part(byte) || **byte == b'=').count();
        } else if !is_json(&bytes[start..dot]) {
            continue;
        }
        if measure::entropy(&bytes[start..end]) >= 3.0 {
            let certainty = if is_json(&bytes[start..dot]) { Certainty::Sure } else { Certainty::Likely };
            latest.report("jwt", start..end, certainty);
        }
    }
}

fn is_json(header: &[u8]) -> bool {
    URL_SAFE_NO_PAD.decode(header).is_ok_and(|json| json.starts_with(b"{\"") && json.ends_with(b"}"))
}
