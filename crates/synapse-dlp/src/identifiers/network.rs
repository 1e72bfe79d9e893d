//! Addresses of machines.

use std::net::Ipv6Addr;

use super::{
    categories::Cat,
    forms::Form,
    rules::Window,
    run::gap::{DOT, EDGE, OTHER, PAREN, SLASH, SPACE},
};
use crate::hit::{Certainty, Hit};

/// How routers write hardware addresses.
const DOTTED: Form = Form::new("4.4.4");

/// No IPv6 address is longer.
const LONGEST: usize = 45;

/// How many characters an IPv4 address and what follows it take: its network's size belongs to it.
pub(super) fn ipv4(window: Window) -> Option<(usize, Certainty)> {
    let run = window.run;
    let (left, right) = (run.gaps[window.start], run.gaps[window.end]);
    if !(4..=12).contains(&(window.end - window.start))
        || left == OTHER
        || left & DOT != 0
        || right & DOT != 0
    {
        return None;
    }
    let mut octets = [0_u32; 4];
    let mut lengths = [0; 4];
    let mut octet = 0;
    let gaps = || run.gaps[window.start + 1..window.end].iter().filter(|gap| **gap != 0);
    // Where spaces alone separate digits of one number, they stand beside the dots too.
    if gaps().any(|gap| gap & DOT == 0 && gap & SPACE != 0) && gaps().any(|gap| *gap == DOT) {
        return None;
    }
    for (place, byte) in window.chars().iter().enumerate() {
        let gap = run.gaps[window.start + place];
        if place > 0 && gap & (SLASH | PAREN) != 0 {
            return None;
        }
        octet += usize::from(place > 0 && gap & DOT != 0);
        if octet > 3 || lengths[octet] == 3 || (lengths[octet] > 0 && octets[octet] == 0) {
            return None;
        }
        octets[octet] = octets[octet] * 10 + u32::from(byte - b'0');
        lengths[octet] += 1;
    }
    if octet != 3 || octets.iter().any(|value| *value > 255) {
        return None;
    }
    let small = octets.iter().all(|value| *value < 10);
    let certainty = if small || is_everybodys(octets) { Certainty::Weak } else { Certainty::Likely };
    let size =
        (window.end..run.len).take_while(|place| *place == window.end || run.gaps[*place] == 0).count();
    let has_size = right == SLASH && size <= 2;
    Some((if has_size { window.end + size } else { window.end }, certainty))
}

/// Whether many have the address: private and local ones say nothing about where a machine is.
const fn is_everybodys(octets: [u32; 4]) -> bool {
    matches!(octets, [0 | 10 | 127, ..] | [192, 168, ..] | [169, 254, ..] | [172, 16..=31, ..])
}

/// Reports what a colon or a dash at `at` is part of. Says where to look next.
pub(super) fn at_mark(text: &str, at: usize, sink: &mut dyn FnMut(Hit)) -> usize {
    let bytes = text.as_bytes();
    if let Some(start) = mac(bytes, at) {
        sink(Hit { category: Cat::MacAddress.name(), range: start..start + 17, certainty: Certainty::Sure });
        return start + 17;
    }
    if bytes[at] != b':' {
        return at + 1;
    }
    if bytes[at..].starts_with(b"://") {
        return at + 3;
    }
    ipv6(text, at, sink)
}

/// Where the hardware address begins whose first mark stands at `at`.
fn mac(bytes: &[u8], at: usize) -> Option<usize> {
    let start = at.checked_sub(2)?;
    let text = bytes.get(start..start + 17)?;
    let shape = text
        .iter()
        .enumerate()
        .all(|(place, byte)| if place % 3 == 2 { *byte == bytes[at] } else { byte.is_ascii_hexdigit() });
    let alone =
        |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != bytes[at]);
    let one_kind = text.iter().all(|byte| *byte == b'0' || *byte == bytes[at]);
    let before = start.checked_sub(1).and_then(|place| bytes.get(place));
    (shape && !one_kind && alone(before) && alone(bytes.get(start + 17))).then_some(start)
}

fn ipv6(text: &str, at: usize, sink: &mut dyn FnMut(Hit)) -> usize {
    let bytes = text.as_bytes();
    let part = |byte: &&u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let before = bytes[..at].iter().rev().take(5).take_while(|byte| byte.is_ascii_hexdigit()).count();
    let start = at - before;
    let after = bytes[at..].iter().take(LONGEST + 1).take_while(part).count();
    let mut end = at + after;
    let next = end;
    let joined = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    let before = start.checked_sub(1).and_then(|place| bytes.get(place));
    if after > LONGEST || before.is_some_and(joined) || bytes.get(end).is_some_and(joined) {
        return next;
    }
    while end > start + 2 && (bytes[end - 1] == b'.' || (bytes[end - 1] == b':' && bytes[end - 2] != b':')) {
        end -= 1;
    }
    if text.get(start..end).is_some_and(|text| text.parse::<Ipv6Addr>().is_ok()) {
        let telling = bytes[start..end].iter().any(u8::is_ascii_digit);
        let certainty = if telling { Certainty::Likely } else { Certainty::Weak };
        sink(Hit { category: Cat::IpAddress.name(), range: start..end, certainty });
    }
    next.max(at + 1)
}

/// Whether a window stands where the text gives it an edge on both sides.
pub(super) fn is_dotted_mac(window: Window) -> bool {
    let hex = window.chars().iter().all(u8::is_ascii_hexdigit);
    let (left, right) = window.outside();
    hex && window.has_form(&DOTTED)
        && window.inside == DOT
        && (left | right) & DOT == 0
        && (left | right) & EDGE != 0
}
