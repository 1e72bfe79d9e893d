//! A walk over JSON text that tells of every string where it stands and what leads to it. Quicker than a
//! parser, because it builds nothing; it takes for granted no more than that the text is UTF-8.

use std::{borrow::Cow, fmt, ops::Range};

use memchr::{memchr, memchr2};

/// The deepest nesting.
const MAX_DEPTH: usize = 128;

/// The text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is not JSON, or nested too deeply (at byte {0})")]
pub struct Malformed(usize);

/// One step of the way to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The value of this key, as it is spelled between its quotes.
    Key(&'a str),
    /// The element of a list with this index.
    Index(usize),
}

/// The way to a value, written such as `messages[0].content`.
#[derive(Clone, Copy, Debug)]
pub struct Path<'p, 'a>(pub &'p [Frame<'a>]);

impl<'a> Path<'_, 'a> {
    /// The last key on the way.
    pub fn key(&self) -> Option<&'a str> {
        self.0.iter().rev().find_map(|frame| match frame {
            Frame::Key(key) => Some(*key),
            Frame::Index(_) => None,
        })
    }
}

impl fmt::Display for Path<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, frame) in self.0.iter().enumerate() {
            match frame {
                Frame::Key(key) if at == 0 => f.write_str(key)?,
                Frame::Key(key) => write!(f, ".{key}")?,
                Frame::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// What is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A string value; the range has its quotes.
    Text(Range<usize>),
    /// A key; the range has its quotes, and the path ends with it.
    Key(Range<usize>),
    /// A number.
    Number(Range<usize>),
}

/// Walks over `json`, one value.
///
/// # Errors
/// When it is none.
pub fn walk<'a>(json: &'a str, mut visit: impl FnMut(Path<'_, 'a>, Item)) -> Result<(), Malformed> {
    let mut walker = Walker { text: json, at: 0, path: Vec::with_capacity(8) };
    walker.value(&mut visit)?;
    walker.skip_space();
    if walker.at == json.len() { Ok(()) } else { Err(Malformed(walker.at)) }
}

/// What a string says; `quoted` has its quotes.
pub fn unquote(quoted: &str) -> Option<Cow<'_, str>> {
    let inner = quoted.get(1..quoted.len().checked_sub(1)?)?;
    let Some(first) = memchr(b'\\', inner.as_bytes()) else { return Some(Cow::Borrowed(inner)) };
    let mut text = String::with_capacity(inner.len());
    let (mut rest, mut next) = (inner, Some(first));
    while let Some(at) = next {
        text.push_str(&rest[..at]);
        let (character, length) = escaped(&rest[at..])?;
        text.push(character);
        rest = &rest[at + length..];
        next = memchr(b'\\', rest.as_bytes());
    }
    text.push_str(rest);
    Some(Cow::Owned(text))
}

/// The character that `text` begins with, which is written as an escape, and how long that is.
fn escaped(text: &str) -> Option<(char, usize)> {
    let simple = |character| Some((character, 2));
    match text.as_bytes().get(1)? {
        letter @ (b'"' | b'\\' | b'/') => simple(char::from(*letter)),
        b'b' => simple('\u{8}'),
        b'f' => simple('\u{c}'),
        b'n' => simple('\n'),
        b'r' => simple('\r'),
        b't' => simple('\t'),
        b'u' => {
            let unit = |at: usize| {
                let digits =
                    text.get(at..at + 4).filter(|four| four.bytes().all(|b| b.is_ascii_hexdigit()))?;
                u16::from_str_radix(digits, 16).ok()
            };
            let first = unit(2)?;
            let second = text.get(6..8).filter(|next| *next == "\\u").and_then(|_| unit(8));
            // Half of a pair alone stands for nothing, and must not hide what is around it.
            match char::decode_utf16([first].into_iter().chain(second)).next()? {
                Ok(character) => Some((character, 6 * character.len_utf16())),
                Err(_) => Some((char::REPLACEMENT_CHARACTER, 6)),
            }
        }
        _ => None,
    }
}

struct Walker<'a> {
    text: &'a str,
    at: usize,
    path: Vec<Frame<'a>>,
}

impl<'a> Walker<'a> {
    fn fail<T>(&self) -> Result<T, Malformed> {
        Err(Malformed(self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn takes(&mut self, byte: u8) -> bool {
        self.skip_space();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, visit: &mut impl FnMut(Path<'_, 'a>, Item)) -> Result<(), Malformed> {
        self.skip_space();
        match self.peek() {
            Some(b'"') => {
                let range = self.string()?;
                visit(Path(&self.path), Item::Text(range));
                Ok(())
            }
            Some(b'{') => self.object(visit),
            Some(b'[') => self.list(visit),
            Some(b'-' | b'0'..=b'9') => {
                let start = self.at;
                self.plain();
                visit(Path(&self.path), Item::Number(start..self.at));
                Ok(())
            }
            Some(b't' | b'f' | b'n') => {
                self.plain();
                Ok(())
            }
            _ => self.fail(),
        }
    }

    /// Passes over a number or a word.
    fn plain(&mut self) {
        while let Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.') = self.peek() {
            self.at += 1;
        }
    }

    fn descend(&mut self, frame: Frame<'a>) -> Result<(), Malformed> {
        if self.path.len() == MAX_DEPTH {
            return self.fail();
        }
        self.path.push(frame);
        Ok(())
    }

    fn object(&mut self, visit: &mut impl FnMut(Path<'_, 'a>, Item)) -> Result<(), Malformed> {
        self.at += 1;
        if self.takes(b'}') {
            return Ok(());
        }
        self.descend(Frame::Key(""))?;
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return self.fail();
            }
            let key = self.string()?;
            if let Some(last) = self.path.last_mut() {
                *last = Frame::Key(&self.text[key.start + 1..key.end - 1]);
            }
            visit(Path(&self.path), Item::Key(key));
            if !self.takes(b':') {
                return self.fail();
            }
            self.value(visit)?;
            if self.takes(b'}') {
                break;
            }
            if !self.takes(b',') {
                return self.fail();
            }
        }
        self.path.pop();
        Ok(())
    }

    fn list(&mut self, visit: &mut impl FnMut(Path<'_, 'a>, Item)) -> Result<(), Malformed> {
        self.at += 1;
        if self.takes(b']') {
            return Ok(());
        }
        self.descend(Frame::Index(0))?;
        let mut index = 0;
        loop {
            self.value(visit)?;
            if self.takes(b']') {
                break;
            }
            if !self.takes(b',') {
                return self.fail();
            }
            index += 1;
            if let Some(last) = self.path.last_mut() {
                *last = Frame::Index(index);
            }
        }
        self.path.pop();
        Ok(())
    }

    fn string(&mut self) -> Result<Range<usize>, Malformed> {
        let start = self.at;
        self.at += 1;
        loop {
            let rest = &self.text.as_bytes()[self.at.min(self.text.len())..];
            let Some(stop) = memchr2(b'"', b'\\', rest) else { return self.fail() };
            self.at += stop + 1;
            if rest[stop] == b'"' {
                return Ok(start..self.at);
            }
            // What is escaped is one byte at least; of a longer escape, no byte can end the string.
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(json: &str) -> Vec<String> {
        let mut all = Vec::new();
        let visit = |path: Path<'_, '_>, item: Item| match item {
            Item::Text(range) => all.push(format!("{path} = {}", &json[range])),
            Item::Number(range) => all.push(format!("{path} = {}", &json[range])),
            Item::Key(_) => {}
        };
        walk(json, visit).expect("JSON");
        all
    }

    #[test]
    fn escapes_say_what_they_stand_for() {
        let cases = [
            (r#""a\"b\\c\/d\b\f\n\r\te""#, Some("a\"b\\c/d\u{8}\u{c}\n\r\te")),
            (r#""\u0041\u00e9\u20AC\ud83d\ude00""#, Some("Aé€😀")),
            // Half of a pair, and what follows it.
            (r#""\ud83d\u0041 \ude00 \ud83d""#, Some("\u{fffd}A \u{fffd} \u{fffd}")),
            (r#""\u+123""#, None),
            (r#""\u12""#, None),
            (r#""\x""#, None),
            (r#""\""#, None),
        ];
        for (quoted, text) in cases {
            assert_eq!(unquote(quoted).as_deref(), text, "{quoted}");
        }
    }

    proptest! {
        #[test]
        fn a_string_says_what_was_written(text in "(.|[\"\\\\\n\u{1}\u{1f600}]){0,60}") {
            let quoted = serde_json::Value::from(text.as_str()).to_string();
            prop_assert_eq!(unquote(&quoted), Some(Cow::Borrowed(text.as_str())));
            let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
            let quoted = format!("\"{units}\"");
            prop_assert_eq!(unquote(&quoted), Some(Cow::Borrowed(text.as_str())));
        }
    }

    #[test]
    fn every_string_and_number_is_told_with_its_way() {
        let json =
            r#" {"a":[{"b":"x\"y"},"z",[ 1.5e3 ]], "c":{"d":true,"e":null,"f":"g"} , "h":{} ,"i":[]} "#;
        let want = [r#"a[0].b = "x\"y""#, r#"a[1] = "z""#, "a[2][0] = 1.5e3", r#"c.f = "g""#];
        assert_eq!(told(json), want);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let deep = "[".repeat(1000);
        for bad in ["", "{", "{\"a\"}", "{\"a\":}", "[1,]", "\"", "\"\\", "{\"a\":1}x", "{a:1}", &deep] {
            assert!(walk(bad, |_, _| {}).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_string_is_read_with_its_escapes() {
        assert_eq!(unquote("\"plain\"").as_deref(), Some("plain"));
        assert_eq!(unquote(r#""a\u0062\n""#).as_deref(), Some("ab\n"));
        assert_eq!(unquote("\""), None);
    }

    proptest! {
        #[test]
        fn any_document_is_walked_to_its_end(texts in prop::collection::vec(".{0,20}", 0..8), key in ".{0,8}") {
            let json = serde_json::json!({ &key: texts, "n": [1, {"x": texts}] }).to_string();
            let mut found = Vec::new();
            walk(&json, |_, item| {
                if let Item::Text(range) = item {
                    found.push(unquote(&json[range]).expect("a string").into_owned());
                }
            }).expect("JSON");
            let mut want = texts.clone();
            if key != "n" { want.extend(texts); } else { want = texts; }
            found.sort();
            want.sort();
            prop_assert_eq!(found, want);
        }

        #[test]
        fn no_text_makes_it_stumble(text in "[\\[\\]{}\",:\\\\a1 é]{0,40}") {
            let _ = walk(&text, |_, item| match item {
                Item::Text(range) | Item::Key(range) => assert!(text[range].len() >= 2),
                Item::Number(range) => assert!(!text[range].is_empty()),
            });
        }
    }
}
