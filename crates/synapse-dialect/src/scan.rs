//! One pass over JSON text that checks everything two readers could read in two ways: its syntax, how
//! deep it goes, keys that stand twice, halves of surrogate pairs, numbers beyond all bounds. It
//! makes nothing of what it reads but slices of it.

use std::{borrow::Cow, collections::HashSet};

use memchr::memchr2;

/// The deepest nesting.
const MAX_DEPTH: usize = 64;
/// Keys of one object up to which a linear search for a second one is quicker.
const FEW_KEYS: usize = 16;
/// The most keys of one object; all of them are held in memory until its end.
const MAX_KEYS: usize = 16 * 1024;

/// What is wrong with the text, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} (at byte {at})")]
pub struct SyntaxError {
    what: &'static str,
    at: usize,
}

type Scan<T> = Result<T, SyntaxError>;

/// Checks that a text is one JSON value, and no more; keys may stand twice.
///
/// # Errors
/// When it is none.
pub(crate) fn check(text: &str) -> Result<(), SyntaxError> {
    let mut scanner = Scanner { allows_twins: true, ..Scanner::new(text) };
    scanner.value()?;
    scanner.end()
}

/// Reads a text from left to right.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    /// Whether the text has control characters anywhere, line ends included.
    has_controls: bool,
    /// Whether a key may stand twice in an object.
    allows_twins: bool,
    at: usize,
    depth: usize,
    /// The keys of all open objects, those of the innermost last.
    keys: Vec<Cow<'a, str>>,
}

impl<'a> Scanner<'a> {
    /// At the beginning of a text; a byte order mark is passed over.
    pub(crate) fn new(text: &'a str) -> Self {
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let has_controls = text.bytes().fold(false, |found, byte| found | (byte < b' '));
        Self { text, has_controls, allows_twins: false, at, depth: 0, keys: Vec::new() }
    }

    /// Reads the one object that the text must be; `field` reads each value.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn document(&mut self, field: impl FnMut(&mut Self, Cow<'a, str>) -> Scan<()>) -> Scan<()> {
        self.skip_space();
        if self.peek() != Some(b'{') {
            return self.fail("an object is expected");
        }
        self.object(field)?;
        self.end()
    }

    fn end(&mut self) -> Scan<()> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { self.fail("something follows the object") }
    }

    /// The text that `read` reads.
    ///
    /// # Errors
    /// As `read`.
    pub(crate) fn capture(&mut self, read: impl FnOnce(&mut Self) -> Scan<()>) -> Scan<&'a str> {
        self.skip_space();
        let start = self.at;
        read(self)?;
        Ok(&self.text[start..self.at])
    }

    /// Reads a value; `element` reads each element where it is a list.
    ///
    /// # Errors
    /// When it is no value.
    pub(crate) fn elements(&mut self, element: impl FnMut(&mut Self) -> Scan<()>) -> Scan<()> {
        self.skip_space();
        if self.peek() == Some(b'[') { self.list(element) } else { self.value() }
    }

    /// Reads a value; the text of these of its fields where it is an object.
    ///
    /// # Errors
    /// When it is no value.
    pub(crate) fn fields<const N: usize>(&mut self, names: [&str; N]) -> Scan<Option<[Option<&'a str>; N]>> {
        self.skip_space();
        if self.peek() != Some(b'{') {
            return self.value().map(|()| None);
        }
        let mut found = [None; N];
        self.object(|scanner, key| {
            let value = scanner.capture(Self::value)?;
            if let Some(at) = names.iter().position(|name| key == *name) {
                found[at] = Some(value);
            }
            Ok(())
        })?;
        Ok(Some(found))
    }

    /// Reads a value of any kind.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn value(&mut self) -> Scan<()> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.object(|scanner, _| scanner.value()),
            Some(b'[') => self.list(Self::value),
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(_) => self.fail("a value is expected"),
            None => self.fail("the text ends too early"),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The text is not what it should be, here.
    pub(crate) fn fail<T>(&self, what: &'static str) -> Scan<T> {
        Err(SyntaxError { what, at: self.at })
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Passes over this byte, spaces before it aside, if it comes next.
    fn takes(&mut self, byte: u8) -> bool {
        self.skip_space();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn descend(&mut self) -> Scan<()> {
        if self.depth == MAX_DEPTH {
            return self.fail("it is nested more than 64 levels deep");
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn object(&mut self, mut field: impl FnMut(&mut Self, Cow<'a, str>) -> Scan<()>) -> Scan<()> {
        self.descend()?;
        let first = self.keys.len();
        let mut many = None;
        if !self.takes(b'}') {
            loop {
                let key = self.key(first, &mut many)?;
                field(self, key)?;
                if self.takes(b'}') {
                    break;
                }
                if !self.takes(b',') {
                    return self.fail("a comma or the object's end is expected");
                }
            }
        }
        self.keys.truncate(first);
        self.depth -= 1;
        Ok(())
    }

    /// Reads a key and its colon. The object's other keys stand from `first` on, or in `many`.
    fn key(&mut self, first: usize, many: &mut Option<HashSet<Cow<'a, str>>>) -> Scan<Cow<'a, str>> {
        self.skip_space();
        let start = self.at;
        if self.peek() != Some(b'"') {
            return self.fail("a key in quotes is expected");
        }
        let key = match self.string()? {
            (quoted, false) => Cow::Borrowed(&quoted[1..quoted.len() - 1]),
            (quoted, true) => serde_json::from_str::<String>(quoted)
                .map(Cow::Owned)
                .map_err(|_| SyntaxError { what: "a key cannot be read", at: start })?,
        };
        if self.allows_twins {
            return if self.takes(b':') { Ok(key) } else { self.fail("a colon is expected") };
        }
        let others = &self.keys[first..];
        let is_second = match many {
            Some(set) => !set.insert(key.clone()),
            None => others.contains(&key),
        };
        if is_second {
            return Err(SyntaxError { what: "a key stands twice in its object", at: start });
        }
        if many.as_ref().is_some_and(|set| set.len() > MAX_KEYS) {
            return Err(SyntaxError { what: "an object has more than 16384 keys", at: start });
        }
        if many.is_none() {
            if others.len() < FEW_KEYS {
                self.keys.push(key.clone());
            } else {
                *many = Some(self.keys.drain(first..).chain([key.clone()]).collect());
            }
        }
        if self.takes(b':') { Ok(key) } else { self.fail("a colon is expected") }
    }

    fn list(&mut self, mut element: impl FnMut(&mut Self) -> Scan<()>) -> Scan<()> {
        self.descend()?;
        if !self.takes(b']') {
            loop {
                element(self)?;
                if self.takes(b']') {
                    break;
                }
                if !self.takes(b',') {
                    return self.fail("a comma or the list's end is expected");
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// A string with its quotes, and whether it has escapes.
    fn string(&mut self) -> Scan<(&'a str, bool)> {
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            self.at += if self.has_controls {
                plain(rest)
            } else {
                memchr2(b'"', b'\\', rest).unwrap_or(rest.len())
            };
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.fail("a control character must be escaped"),
                None => return self.fail("a string does not end"),
            }
        }
        self.at += 1;
        Ok((&self.text[start..self.at], escaped))
    }

    fn escape(&mut self) -> Scan<()> {
        match self.text.as_bytes().get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => match self.unit()? {
                0xd800..0xdc00 if matches!(self.unit(), Ok(0xdc00..0xe000)) => Ok(()),
                0xd800..0xe000 => self.fail("half of a surrogate pair stands alone"),
                _ => Ok(()),
            },
            _ => self.fail("an escape is unknown"),
        }
    }

    /// A UTF-16 unit, four hexadecimal digits behind `\u`.
    fn unit(&mut self) -> Scan<u32> {
        let digits = match self.text.as_bytes().get(self.at..self.at + 6) {
            Some([b'\\', b'u', digits @ ..]) => digits,
            _ => return self.fail("an escape is not complete"),
        };
        let mut unit = 0;
        for &digit in digits {
            let Some(value) = char::from(digit).to_digit(16) else {
                return self.fail("an escape is not hexadecimal");
            };
            unit = unit << 4 | value;
        }
        self.at += 6;
        Ok(unit)
    }

    fn number(&mut self) -> Scan<()> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        let mut is_large = self.at - start > 300;
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
            is_large = true;
        }
        let overflows = || self.text[start..self.at].parse::<f64>().is_ok_and(f64::is_infinite);
        if is_large && overflows() {
            return Err(SyntaxError { what: "a number is too large for any reader", at: start });
        }
        Ok(())
    }

    fn digits(&mut self) -> Scan<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { self.fail("a digit is expected") }
    }

    fn literal(&mut self, literal: &'static str) -> Scan<()> {
        if !self.text.as_bytes()[self.at..].starts_with(literal.as_bytes()) {
            return self.fail("a value is expected");
        }
        self.at += literal.len();
        Ok(())
    }
}

/// How many bytes of a string come before its end, an escape, or what must be escaped. Eight at a
/// time: in each byte that stops, and perhaps in some behind it, the top bit is set.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    let is_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let (words, rest) = bytes.as_chunks();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * u64::from(b' ')) & !word;
        let quote = is_zero(word ^ (ONES * u64::from(b'"')));
        let escape = is_zero(word ^ (ONES * u64::from(b'\\')));
        let stops = (control | quote | escape) & TOPS;
        if stops != 0 {
            return at * 8 + stops.trailing_zeros() as usize / 8;
        }
    }
    let stops = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..b' ');
    bytes.len() - rest.len() + rest.iter().position(stops).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests;
