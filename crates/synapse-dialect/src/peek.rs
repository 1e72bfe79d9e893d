//! Cheap looks into an engine's JSON without parsing it: most of a stream is passed on untouched,
//! and a parser for every event would cost more than everything else together.
//!
//! A needle with both quotes (`"usage"`) cannot match inside a JSON string, where quotes are
//! escaped; what follows the key is then read properly.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use synapse_core::usage::Usage;

// Looking for a word begins with tables for it, which are made once.
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"usage\""));
static FINISH_REASON: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"finish_reason\""));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"error\""));
static FAILED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"response.failed\""));

/// The last `usage` object in `json`, in the shapes of Chat Completions, Responses and embeddings.
pub fn usage(json: &[u8]) -> Option<Usage> {
    // Forwards to the last one: only that direction is fast.
    let (_, value) = usages(json).last()?;
    serde_json::Deserializer::from_slice(value).into_iter::<WireUsage>().next()?.ok().map(Usage::from)
}

/// Where there is a `usage` object, and what follows from there.
pub(crate) fn usages(json: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let value = |at: usize| value_after(json, at + USAGE.needle().len()).filter(|v| v.starts_with(b"{"));
    USAGE.find_iter(json).filter_map(move |at| Some((at, value(at)?)))
}

/// Every `finish_reason` in `json` that is not null.
pub fn finish_reasons(json: &[u8]) -> impl Iterator<Item = &str> {
    finishes(json).map(|(_, reason)| reason)
}

/// Where there is a `finish_reason` that is not null, and which.
pub(crate) fn finishes(json: &[u8]) -> impl Iterator<Item = (usize, &str)> {
    let value = |at: usize| short_string(value_after(json, at + FINISH_REASON.needle().len())?);
    FINISH_REASON.find_iter(json).filter_map(move |at| Some((at, value(at)?)))
}

/// Whether `json` may report an error: `"error"` as a key whose value is not `null`, or as a value, or
/// a failed response. A hit must be confirmed by parsing.
pub fn may_have_error(json: &[u8]) -> bool {
    let null =
        |at: usize| value_after(json, at + ERROR.needle().len()).is_some_and(|v| v.starts_with(b"null"));
    ERROR.find_iter(json).any(|at| !null(at)) || FAILED.find(json).is_some()
}

/// What follows `:` after a key.
fn value_after(json: &[u8], key_end: usize) -> Option<&[u8]> {
    let rest = json.get(key_end..)?.trim_ascii_start().strip_prefix(b":")?;
    Some(rest.trim_ascii_start())
}

/// A string without escapes, as the closed sets of the wire have them.
fn short_string(value: &[u8]) -> Option<&str> {
    let rest = value.strip_prefix(b"\"")?;
    let end = rest.iter().take(64).position(|&b| b == b'"')?;
    std::str::from_utf8(&rest[..end]).ok()
}

#[derive(Deserialize)]
struct WireUsage {
    #[serde(alias = "input_tokens", default)]
    prompt_tokens: u64,
    #[serde(alias = "output_tokens", default)]
    completion_tokens: u64,
    #[serde(alias = "input_tokens_details", default)]
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

impl From<WireUsage> for Usage {
    fn from(wire: WireUsage) -> Self {
        Self {
            input_tokens: wire.prompt_tokens,
            output_tokens: wire.completion_tokens,
            cached_tokens: wire.prompt_tokens_details.and_then(|d| d.cached_tokens).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_found_in_every_spelling() {
        let want = Some(Usage { input_tokens: 3, output_tokens: 5, cached_tokens: 2 });
        let chat = br#"{"choices":[],"usage": {"prompt_tokens":3,"completion_tokens":5,"total_tokens":8,"prompt_tokens_details":{"cached_tokens":2}},"x":1}"#;
        let responses =
            br#"{"usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":2},"output_tokens":5}}"#;
        assert_eq!(usage(chat), want);
        assert_eq!(usage(responses), want);
    }

    #[test]
    fn a_null_usage_and_a_quoted_one_are_no_usage() {
        assert_eq!(usage(br#"{"usage":null}"#), None);
        assert_eq!(usage(br#"{"content":"say \"usage\":{\"prompt_tokens\":1}"}"#), None);
    }

    #[test]
    fn finish_reasons_that_are_not_null_are_found() {
        let json = br#"{"finish_reason":null} {"finish_reason": "stop"} {"finish_reason":"length"}"#;
        assert_eq!(finish_reasons(json).collect::<Vec<_>>(), ["stop", "length"]);
        assert_eq!(finish_reasons(br#"{"finish_reason":null}"#).next(), None);
    }

    #[test]
    fn an_error_is_suspected_only_where_it_is_not_null() {
        assert!(may_have_error(br#"{"error": {"message":"x"}}"#));
        assert!(may_have_error(br#"{"object":"error","message":"x"}"#));
        assert!(!may_have_error(br#"{"error":null,"content":"\"error\":1"}"#));
    }
}
