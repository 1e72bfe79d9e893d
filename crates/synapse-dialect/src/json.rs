//! Reading and editing a JSON object in place. Values keep their bytes: an edit replaces, inserts
//! or leaves alone, so unknown fields, key order and numbers survive untouched.

use std::{borrow::Cow, ops::Range};

use bytes::{Bytes, BytesMut};
use serde::Deserialize;

pub use crate::scan::SyntaxError;
use crate::{
    scan::Scanner,
    skim::{self, NotChecked},
};

/// Keys of one object. Finding one is a linear search.
const MAX_KEYS: usize = 256;

/// A list that is looked into while the object is read.
#[derive(Clone, Copy)]
pub struct Inside<'n, const N: usize> {
    /// The list's key.
    pub list: &'n str,
    /// The fields of its elements that are asked for.
    pub names: [&'n str; N],
    /// How many elements are kept at most; one beyond tells that there are more.
    pub at_most: usize,
}

/// Why a body is not a JSON object that can be read.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Not UTF-8; JSON has no other encoding.
    #[error("it is not valid UTF-8 (at byte {0})")]
    Encoding(usize),
    /// Not JSON that all readers read alike, or not an object.
    #[error("{0}")]
    Syntax(#[from] SyntaxError),
    /// It was said to have been read before, and is no object or list.
    #[error("{0}")]
    NotChecked(#[from] NotChecked),
}

/// The top level of a JSON object: keys, and the raw text of their values.
#[derive(Debug)]
pub struct Object<'a> {
    text: &'a str,
    fields: Vec<(Cow<'a, str>, &'a str)>,
}

/// An element of a list that was looked into: the raw text of the fields asked for, where it is an
/// object.
pub type Element<'a, const N: usize> = Option<[Option<&'a str>; N]>;

impl<'a> Object<'a> {
    /// Reads the top level of `body`; deeper levels are checked and skipped.
    ///
    /// # Errors
    /// When `body` is not one UTF-8 JSON object, or one that two readers could read as two different
    /// requests.
    pub fn parse(body: &'a [u8]) -> Result<Self, ObjectError> {
        Ok(Self::parse_into(body, Inside { list: "", names: [], at_most: 0 })?.0)
    }

    /// The same, and in the same pass fields of the elements of one list, if that is a list.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_into<const N: usize>(
        body: &'a [u8],
        inside: Inside<'_, N>,
    ) -> Result<(Self, Vec<Element<'a, N>>), ObjectError> {
        let text = std::str::from_utf8(body).map_err(|e| ObjectError::Encoding(e.valid_up_to()))?;
        let mut scanner = Scanner::new(text);
        let (mut fields, mut elements) = (Vec::with_capacity(8), Vec::new());
        scanner.document(|scanner, key| {
            if fields.len() == MAX_KEYS {
                return scanner.fail("it has more than 256 keys");
            }
            let value = if N > 0 && key == inside.list {
                scanner.capture(|scanner| {
                    scanner.elements(|s| {
                        let found = s.fields(inside.names)?;
                        if elements.len() <= inside.at_most {
                            elements.push(found);
                        }
                        Ok(())
                    })
                })?
            } else {
                scanner.capture(Scanner::value)?
            };
            fields.push((key, value));
            Ok(())
        })?;
        Ok((Self { text, fields }, elements))
    }

    /// The same for text that was read before, so that it is only taken apart and not checked again.
    ///
    /// # Errors
    /// When it is no object.
    pub fn of_checked(body: &'a [u8]) -> Result<Self, ObjectError> {
        let text = std::str::from_utf8(body).map_err(|e| ObjectError::Encoding(e.valid_up_to()))?;
        Ok(Self::of_text(text)?)
    }

    /// The same for a part of a text.
    pub(crate) fn of_text(text: &'a str) -> Result<Self, NotChecked> {
        let mut fields = Vec::with_capacity(8);
        skim::fields(text, |key, value| fields.push((key, value)))?;
        Ok(Self { text, fields })
    }

    /// The raw text of a field's value.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.fields.iter().find(|(k, _)| k == key).map(|(_, value)| *value)
    }

    /// A field, read as `T`; `None` where it is absent or `null`.
    ///
    /// # Errors
    /// When the value is not a `T`.
    pub fn read<T: Deserialize<'a>>(&self, key: &str) -> Result<Option<T>, serde_json::Error> {
        self.get(key).map_or(Ok(None), serde_json::from_str)
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(k, _)| k.as_ref())
    }

    /// Where a field's value stands in the body.
    pub fn value_range(&self, key: &str) -> Option<Range<usize>> {
        self.get(key).map(|value| offset_in(self.text, value))
    }

    /// What to cut out for these fields to be gone, with the commas that part them from the others.
    pub fn ranges_of<'k>(&'k self, keys: &'k [&str]) -> impl Iterator<Item = Range<usize>> + 'k {
        let range = |at: usize| offset_in(self.text, self.fields[at].1);
        let mut kept_before = false;
        self.fields.iter().enumerate().filter_map(move |(at, (key, _))| {
            if !keys.contains(&key.as_ref()) {
                kept_before = true;
                return None;
            }
            let value = range(at);
            if kept_before {
                return Some(range(at - 1).end..value.end);
            }
            let comma = self.fields.get(at + 1).and_then(|_| self.text[value.end..].find(','));
            Some(self.begin()..comma.map_or(value.end, |comma| value.end + comma + 1))
        })
    }

    /// Where a further field can be put, and whether a comma must follow it.
    pub fn insertion_point(&self) -> (usize, bool) {
        (self.begin(), !self.fields.is_empty())
    }

    /// The place behind the opening brace.
    pub fn begin(&self) -> usize {
        self.text.find('{').map_or(0, |at| at + 1)
    }
}

/// Checks that `text` is one JSON value, as engines answer with: whether keys stand twice is their business.
///
/// # Errors
/// When it is none.
pub fn check(text: &[u8]) -> Result<(), ObjectError> {
    let text = std::str::from_utf8(text).map_err(|e| ObjectError::Encoding(e.valid_up_to()))?;
    Ok(crate::scan::check(text)?)
}

/// The range of `part` within `whole`, of which it is a slice.
pub fn offset_in(whole: &str, part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start..start + part.len()
}

/// Replacements and insertions, made all at once.
#[derive(Debug, Default)]
pub struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    /// Puts `text` in place of `range`; an empty range inserts.
    pub fn replace(&mut self, range: Range<usize>, text: impl Into<String>) {
        self.0.push((range, text.into()));
    }

    /// Sets a top-level field of `object` to the JSON text `value`.
    pub fn set(&mut self, object: &Object<'_>, key: &str, value: &str) {
        if let Some(range) = object.value_range(key) {
            return self.replace(range, value);
        }
        let (at, comma) = object.insertion_point();
        let comma = if comma { "," } else { "" };
        self.replace(at..at, format!("{}:{value}{comma}", quote(key)));
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where a range of the body stands after the edits; `None` where they touch it, or each other.
    pub fn moved(&self, range: &Range<usize>) -> Option<Range<usize>> {
        let mut offset = 0;
        for (at, text) in &self.0 {
            if at.end <= range.start {
                offset += text.len() as isize - at.len() as isize;
            } else if at.start < range.end {
                return None;
            }
        }
        Some(range.start.checked_add_signed(offset)?..range.end.checked_add_signed(offset)?)
    }

    /// How long a body of this length is after the edits, which do not overlap.
    pub fn length_after(&self, length: usize) -> usize {
        let added: usize = self.0.iter().map(|(_, text)| text.len()).sum();
        let removed: usize = self.0.iter().map(|(at, _)| at.len()).sum();
        (length + added).saturating_sub(removed)
    }

    /// Whether edits overlap, as removals may.
    pub fn overlap(&self) -> bool {
        let apart = |a: &Range<usize>, b: &Range<usize>| a.end <= b.start || b.end <= a.start;
        let others = |at: usize| self.0[at + 1..].iter();
        self.0.iter().enumerate().any(|(at, (one, _))| others(at).any(|(other, _)| !apart(one, other)))
    }

    /// The body with every edit made; the very same bytes where there is none. Only removals may
    /// overlap.
    pub fn apply(mut self, body: &Bytes) -> Bytes {
        if self.0.is_empty() {
            return body.clone();
        }
        self.0.sort_by_key(|(range, _)| (range.start, range.end));
        let added: usize = self.0.iter().map(|(_, text)| text.len()).sum();
        let mut out = BytesMut::with_capacity(body.len() + added);
        let mut done = 0;
        for (range, text) in self.0 {
            out.extend_from_slice(&body[done..range.start.max(done)]);
            out.extend_from_slice(text.as_bytes());
            done = range.end.max(done);
        }
        out.extend_from_slice(&body[done..]);
        out.freeze()
    }
}

/// `text` as a JSON string.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(body: &str, key: &str, value: &str) -> String {
        let object = Object::parse(body.as_bytes()).expect("an object");
        let mut edits = Edits::default();
        edits.set(&object, key, value);
        String::from_utf8(edits.apply(&Bytes::copy_from_slice(body.as_bytes())).to_vec()).expect("UTF-8")
    }

    #[test]
    fn replacing_a_value_leaves_every_other_byte_alone() {
        let body = "{ \"z\" : 1e300,\n\"model\" :\t\"a\\u0062\" , \"big\":12345678901234567890.10 }";
        let want = "{ \"z\" : 1e300,\n\"model\" :\t\"new\" , \"big\":12345678901234567890.10 }";
        assert_eq!(edited(body, "model", "\"new\""), want);
    }

    #[test]
    fn a_missing_field_is_inserted() {
        assert_eq!(edited("{\"a\":1}", "b", "2"), "{\"b\":2,\"a\":1}");
        assert_eq!(edited(" { } ", "b", "2"), " {\"b\":2 } ");
    }

    #[test]
    fn a_byte_order_mark_is_tolerated_and_offsets_stay_right() {
        assert_eq!(edited("\u{feff}{\"model\":\"a\"}", "model", "\"b\""), "\u{feff}{\"model\":\"b\"}");
    }

    #[test]
    fn an_escaped_key_is_found_by_its_meaning() {
        assert_eq!(edited(r#"{"mod\u0065l":"a"}"#, "model", "\"b\""), r#"{"mod\u0065l":"b"}"#);
    }

    #[test]
    fn a_reply_is_one_value_whatever_its_keys() {
        for good in ["{\"a\":1,\"a\":2}", " [1]\n", "{\"a\":\"tab\\t\"}"] {
            assert!(check(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in ["", "{\"a\":1}{}", "{\"a\":", "{\"a\":\"\t\"}", "[1,]"] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for bad in
            ["", "[]", "nul", "{\"a\":1} x", "{\"a\":1", "{\"a\":1,\"a\":2}", "{\"a\":1,\"\\u0061\":2}"]
        {
            assert!(Object::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(matches!(Object::parse(b"{\"a\":\"\xff\"}"), Err(ObjectError::Encoding(6))));
    }

    #[test]
    fn an_object_of_very_many_keys_is_refused() {
        let keys: Vec<String> = (0..1000).map(|n| format!("\"k{n}\":0")).collect();
        assert!(Object::parse(format!("{{{}}}", keys.join(",")).as_bytes()).is_err());
        let inner: Vec<String> = (0..20_000).map(|n| format!("\"k{n}\":0")).collect();
        assert!(Object::parse(format!("{{\"a\":{{{}}}}}", inner.join(",")).as_bytes()).is_err());
    }

    #[test]
    fn of_a_long_list_no_more_is_kept_than_was_asked_for() {
        let body = format!("{{\"list\":[{}0]}}", "0,".repeat(1000));
        let inside = Inside { list: "list", names: ["a"], at_most: 10 };
        let (_, elements) = Object::parse_into(body.as_bytes(), inside).expect("an object");
        assert_eq!(elements.len(), 11);
    }

    #[test]
    fn without_edits_the_bytes_are_the_same_allocation() {
        let body = Bytes::from_static(b"{}");
        assert_eq!(Edits::default().apply(&body).as_ptr(), body.as_ptr());
    }

    proptest::proptest! {
        #[test]
        fn any_value_can_be_set_and_read_back(key in "[a-z]{1,8}", text in ".{0,40}", other in ".{0,40}") {
            let body = serde_json::json!({ "first": other, key.clone(): 1, "last": [other] }).to_string();
            let after: serde_json::Value = serde_json::from_str(&edited(&body, &key, &quote(&text))).expect("JSON");
            proptest::prop_assert_eq!(after[&key].as_str(), Some(text.as_str()));
            if key != "last" { proptest::prop_assert_eq!(after["last"][0].as_str(), Some(other.as_str())); }
        }
    }
}
