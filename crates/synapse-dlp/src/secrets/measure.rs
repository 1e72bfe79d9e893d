//! What tells a secret from words, numbers and placeholders.

/// Shannon entropy of the bytes, in bits per byte.
pub(super) fn entropy(bytes: &[u8]) -> f32 {
    let mut counts = [0u16; 256];
    for byte in bytes.iter().take(usize::from(u16::MAX)) {
        counts[usize::from(*byte)] += 1;
    }
    let total = bytes.len().min(usize::from(u16::MAX)) as f32;
    let share = |count: u16| f32::from(count) / total;
    counts.iter().filter(|count| **count > 0).map(|count| -share(*count) * share(*count).log2()).sum()
}

/// Parts of values that stand where a secret will be put, or in examples.
const STAND_INS: [&str; 21] = [
    "example",
    "placeholder",
    "changeme",
    "change_me",
    "your",
    "dummy",
    "sample",
    "redacted",
    "xxxx",
    "****",
    "....",
    "12345",
    "abcdef",
    "insert",
    "replace",
    "secret",
    "password",
    "passwd",
    "test_",
    "fake",
    "abcd",
];

/// Whether a value only stands for one: `changeme`, `${VARIABLE}`, `<your key>`, `xxxx`.
pub(super) fn is_stand_in(value: &str) -> bool {
    let first = value.as_bytes().first();
    if first.is_none_or(|byte| matches!(byte, b'$' | b'<' | b'{' | b'%' | b'[' | b'(')) {
        return true;
    }
    let lower = value.to_ascii_lowercase();
    STAND_INS.iter().any(|word| lower.contains(word)) || value.contains("${") || value.contains("{{")
}

/// Whether a value is an identifier or a checksum rather than a secret: a UUID, or a hash in hexadecimal.
pub(super) fn is_fingerprint(value: &str) -> bool {
    let hex = value.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes = value.bytes().filter(|byte| *byte == b'-').count();
    let is_uuid = value.len() == 36 && hex == 32 && dashes == 4;
    let is_hash = hex == value.len() && matches!(hex, 32 | 40 | 56 | 64 | 96 | 128);
    is_uuid
        || is_hash
        || value
            .as_bytes()
            .split(|byte| *byte == b'-')
            .any(|part| part.len() == 32 && part.iter().all(u8::is_ascii_hexdigit))
}

/// Whether a value is the name of a file or of something in a program.
pub(super) fn is_path(value: &str) -> bool {
    value.starts_with(['/', '.', '~'])
        || value.contains("://")
        || value.bytes().filter(|byte| *byte == b'/').count() > 2
}

/// Whether a value has a digit and a letter.
pub(super) fn is_mixed(value: &[u8]) -> bool {
    value.iter().any(u8::is_ascii_digit) && value.iter().any(u8::is_ascii_alphabetic)
}
