//! Token counts where no engine has told any: guesses from lengths, made without a tokeniser.

use memchr::{memchr, memmem};
use synapse_core::operation::Operation;

/// Bytes of a request's or reply's JSON per token, roughly.
const BYTES_PER_TOKEN: usize = 4;
/// What a picture, or any other file within a prompt, counts as.
const TOKENS_PER_FILE: usize = 1000;
/// Bodies up to this size hold no file worth looking for.
const WITHOUT_FILES: usize = 4096;

/// Tokens of a JSON request's prompt. Files that stand in it as base64 count by number, not by length.
pub fn prompt(body: &[u8]) -> u64 {
    let (mut files, mut encoded) = (0, 0);
    let mut rest = if body.len() > WITHOUT_FILES { body } else { &[] };
    while let Some(at) = memmem::find(rest, b";base64,") {
        let file = &rest[at..];
        let length = memchr(b'"', file).unwrap_or(file.len());
        files += 1;
        encoded += length;
        rest = &file[length..];
    }
    ((body.len() - encoded) / BYTES_PER_TOKEN + files * TOKENS_PER_FILE) as u64
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
        let picture = format!("\"data:image/png;base64,{}\"", "A".repeat(1 << 20));
        assert_eq!(prompt(format!("[{picture},{picture}]").as_bytes()), 2000 + 35 / 4);
        assert_eq!(prompt(format!("\"{}", ";base64,".repeat(1 << 16)).as_bytes()), 1000);
    }

    #[test]
    fn a_reply_counts_by_events_or_by_length_where_there_are_tokens_at_all() {
        assert_eq!(reply(Operation::Chat, 9000, 30), 30);
        assert_eq!(reply(Operation::Chat, 400, 0), 100);
        assert_eq!(reply(Operation::Embeddings, 40_000, 0), 0);
    }
}
