//! The keys that Synapse issues itself.

use super::{Latest, pattern::is_word};
use crate::hit::Certainty;

const ID: usize = 8;
const SECRET: usize = 30;
const CHECKSUM: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `syn_<id>_<secret><checksum>`; with a checksum that fits there is no doubt about it.
pub(super) fn at_prefix(text: &str, start: usize, end: usize, latest: &mut Latest<'_>) {
    let bytes = text.as_bytes();
    let last = end + ID + 1 + SECRET + CHECKSUM;
    let Some(tail) = bytes.get(end..last) else { return };
    let base62 = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_alphanumeric);
    let (body, sum) = bytes[start..last].split_at(last - start - CHECKSUM);
    if tail[ID] == b'_'
        && base62(&tail[..ID])
        && base62(&tail[ID + 1..])
        && bytes.get(last).is_none_or(|byte| !is_word(*byte))
        && checksum(body) == sum
    {
        latest.report("synapse_key", start..last, Certainty::Sure);
    }
}

/// CRC-32 in base 62, most significant digit first.
fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    let mut rest = crc32fast::hash(body);
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}
