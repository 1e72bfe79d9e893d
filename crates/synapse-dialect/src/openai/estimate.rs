//! Token counts where no engine has told any: guesses from lengths, made without a tokeniser.

use memchr::{memchr, memchr_iter, memmem, memrchr};
use synapse_core::operation::Operation;

/// Bytes of a request's or reply's JSON per token, roughly.
const BYTES_PER_TOKEN: usize = 4;
/// What a picture, or any other file within a prompt, counts as.
const TOKENS_PER_FILE: usize = 1000;
/// Bodies up to this size hold no file worth looking for.
const WITHOUT_FILES: usize = 4096;
/// What stands before a file's content in a `data:` URL.
const MARK: &[u8] = b";base64,";
/// The keys under which files stand.
const FILE_KEYS: [&[u8]; 4] = [b"\"url\"", b"\"image_url\"", b"\"file_data\"", b"\"image\""];

/// Tokens of a JSON request's prompt. Files that stand in it as base64 count by number, not by length.
pub fn prompt(body: &[u8]) -> u64 {
    let (mut files, mut encoded) = (0, 0);
    let mut rest = if body.len() > WITHOUT_FILES { body } else { &[] };
    while let Some(at) = memmem::find(rest, MARK) {
        let (before, file) = (&rest[..at], &rest[at + MARK.len()..]);
        // Only a string's first mark has its beginning before it, so none is gone through twice.
        let end = if begins_a_file(before) { memchr(b'"', file) } else { None };
        let length = end.filter(|end| is_base64(&file[..*end])).unwrap_or(0);
        files += usize::from(length > 0);
        encoded += length;
        rest = &file[length..];
    }
    ((body.len() - encoded) / BYTES_PER_TOKEN + files * TOKENS_PER_FILE) as u64
}

/// Whether what ends here is `data:` and a media type, from the beginning of a JSON string on that stands where
/// the API has files: what stands elsewhere, the model reads.
fn begins_a_file(before: &[u8]) -> bool {
    let Some(quote) = memrchr(b'"', before) else { return false };
    let Some(key) = before[..quote].trim_ascii_end().strip_suffix(b":") else { return false };
    let key = key.trim_ascii_end();
    before[quote + 1..].starts_with(b"data:") && FILE_KEYS.iter().any(|name| key.ends_with(name))
}

/// Whether all of it is base64 as JSON may write it: a slash may have a backslash before it.
fn is_base64(text: &[u8]) -> bool {
    let may_stand = |b: u8| b.is_ascii_alphanumeric() | matches!(b, b'+' | b'/' | b'-' | b'_' | b'=' | b'\\');
    // All of a stretch without a way out of it, which is many times faster.
    let all = text.chunks(1024).all(|stretch| stretch.iter().fold(true, |all, b| all & may_stand(*b)));
    all && memchr_iter(b'\\', text).all(|at| text.get(at + 1) == Some(&b'/'))
}

/// Whether replies of this operation are made of tokens that count.
pub const fn generates(operation: Operation) -> bool {
    matches!(operation, Operation::Chat | Operation::Completion | Operation::Responses)
}

/// Whether what an engine does for this operation is counted in tokens.
pub const fn has_tokens(operation: Operation) -> bool {
    generates(operation)
        || matches!(operation, Operation::Embeddings | Operation::Rerank | Operation::Moderation)
}

/// Tokens of a reply of which so much has flowed; of a stream, about one an event.
pub fn reply(operation: Operation, bytes: u64, events: u64) -> u64 {
    match events {
        _ if !generates(operation) => 0,
        0 => bytes / BYTES_PER_TOKEN as u64,
        events => events,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_counts_by_length_and_files_by_number() {
        let text = "x".repeat(8000);
        assert_eq!(prompt(text.as_bytes()), 2000);
        let picture = format!(r#"{{"url":"data:image/png;base64,{}"}}"#, "A".repeat(1 << 20));
        assert_eq!(prompt(format!("[{picture},{picture}]").as_bytes()), 2000 + 67 / 4);
        let escaped = format!(r#""file_data" : "data:image\/png;base64,{}""#, r"AAA\/".repeat(1 << 18));
        assert_eq!(prompt(escaped.as_bytes()), 1000 + 39 / 4);
    }

    #[test]
    fn words_count_by_length_however_they_are_dressed_up_as_a_file() {
        let words = "all of these words ".repeat(1 << 10);
        let joined = words.replace(' ', "+");
        for text in [
            format!(r#""url":"data:text/plain;base64,{words}""#),
            format!(r#""url":"data:text/plain;base64,{}""#, words.replace(' ', r"\n")),
            format!(r#""url":"data:text/plain;base64,{}""#, words.replace(' ', r"\u0020")),
            format!(r#""url":"see ;base64,{joined}""#),
            format!(r#""url":"data:text/plain;base64,{joined}"#),
            format!(r#""url":"data:{}""#, ";base64,".repeat(1 << 16)),
            format!(r#""content":"data:text/plain;base64,{joined}""#),
            format!(r#"["data:text/plain;base64,{joined}"]"#),
            format!(r#""content":"\"url\":\"data:text/plain;base64,{joined}\"""#),
            format!(r#""{}""#, ";base64,".repeat(1 << 16)),
        ] {
            assert_eq!(prompt(text.as_bytes()), text.len() as u64 / 4, "{}", &text[..40]);
        }
    }

    #[test]
    fn a_reply_counts_by_events_or_by_length_where_there_are_tokens_at_all() {
        assert_eq!(reply(Operation::Chat, 9000, 30), 30);
        assert_eq!(reply(Operation::Chat, 400, 0), 100);
        assert_eq!(reply(Operation::Embeddings, 40_000, 0), 0);
    }
}
