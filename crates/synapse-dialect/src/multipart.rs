//! Finding small form fields in a multipart body while it streams by, without keeping or changing
//! the body: where each value stands, and what it is. Framing after RFC 2046 and RFC 7578.

use std::ops::Range;

use memchr::memmem;

/// The longest value that counts as a small field, in bytes.
const MAX_VALUE: usize = 4096;
/// The longest header section of one part, in bytes.
const MAX_HEADERS: usize = 16 * 1024;
/// The most parts of one body.
const MAX_PARTS: usize = 256;

/// Why a body is not readable as a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// `Content-Type` names no boundary.
    #[error("the content type has no boundary")]
    NoBoundary,
    /// A part's headers do not end.
    #[error("a part's headers are longer than 16 KiB")]
    HeadersTooLong,
    /// Too many parts.
    #[error("the form has more than 256 parts")]
    TooManyParts,
    /// The closing boundary never came.
    #[error("the form ends before its closing boundary")]
    Truncated,
}

/// A small field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Where its value stands in the body, in bytes.
    pub range: Range<u64>,
    /// The value.
    pub value: String,
}

/// Scans a body piece by piece.
#[derive(Debug)]
pub struct Scanner {
    /// `\r\n--boundary`
    delimiter: Vec<u8>,
    wanted: &'static [&'static str],
    window: Vec<u8>,
    /// The window's place in the body.
    base: u64,
    state: State,
    parts: usize,
    found: Vec<Field>,
}

#[derive(Debug)]
enum State {
    /// Before the first delimiter, or in a part that nobody wants.
    Skip,
    /// Right after a delimiter.
    Headers,
    /// In a wanted part that starts at this place of the body.
    Value { name: String, start: u64 },
    /// After the closing delimiter.
    End,
}

impl Scanner {
    /// A scanner for a body of this content type that looks for the fields `wanted`.
    ///
    /// # Errors
    /// When the content type names no boundary.
    pub fn new(content_type: &str, wanted: &'static [&'static str]) -> Result<Self, FormError> {
        let boundary = parameter(content_type, "boundary").filter(|b| !b.is_empty() && b.len() <= 70);
        let boundary = boundary.ok_or(FormError::NoBoundary)?;
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first delimiter has no line before it; lend it one.
        Ok(Self {
            delimiter,
            wanted,
            window: b"\r\n".to_vec(),
            base: 0,
            state: State::Skip,
            parts: 0,
            found: Vec::new(),
        })
    }

    /// Takes the next piece of the body.
    ///
    /// # Errors
    /// When the form is malformed or beyond its bounds.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), FormError> {
        self.window.extend_from_slice(piece);
        while self.step()? {}
        Ok(())
    }

    /// The fields found, once the whole body was pushed.
    ///
    /// # Errors
    /// When the closing boundary is missing.
    pub fn finish(self) -> Result<Vec<Field>, FormError> {
        if matches!(self.state, State::End) { Ok(self.found) } else { Err(FormError::Truncated) }
    }

    /// One transition; whether there may be another with what is at hand.
    fn step(&mut self) -> Result<bool, FormError> {
        match &self.state {
            State::End => {
                self.drop_front(self.window.len());
                Ok(false)
            }
            State::Headers => self.read_headers(),
            State::Skip | State::Value { .. } => Ok(self.seek_delimiter()),
        }
    }

    fn seek_delimiter(&mut self) -> bool {
        let Some(at) = memmem::find(&self.window, &self.delimiter) else {
            let keep = match &self.state {
                State::Value { .. } if self.window.len() <= MAX_VALUE + self.delimiter.len() => return false,
                _ => self.delimiter.len().min(self.window.len()),
            };
            // A value beyond the limit is no small field.
            self.state = State::Skip;
            self.drop_front(self.window.len() - keep);
            return false;
        };
        if let State::Value { name, start } = &mut self.state {
            let (name, start) = (std::mem::take(name), *start);
            let value = String::from_utf8_lossy(&self.window[..at]).into_owned();
            self.found.push(Field { name, range: start..start + at as u64, value });
        }
        self.drop_front(at + self.delimiter.len());
        self.state = State::Headers;
        true
    }

    fn read_headers(&mut self) -> Result<bool, FormError> {
        if self.window.starts_with(b"--") {
            self.state = State::End;
            return Ok(true);
        }
        let Some(end) = memmem::find(&self.window, b"\r\n\r\n") else {
            return if self.window.len() > MAX_HEADERS { Err(FormError::HeadersTooLong) } else { Ok(false) };
        };
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(FormError::TooManyParts);
        }
        let headers = String::from_utf8_lossy(&self.window[..end]).into_owned();
        let name = field_name(&headers).filter(|name| self.wanted.contains(&name.as_str()));
        // The line end stays: it may belong to the delimiter of an empty part.
        self.drop_front(end + 2);
        self.state = match name {
            Some(name) => {
                self.drop_front(2);
                State::Value { name, start: self.offset() }
            }
            None => State::Skip,
        };
        Ok(true)
    }

    /// The place in the body of the window's first byte; the lent line end does not count.
    fn offset(&self) -> u64 {
        self.base.saturating_sub(2)
    }

    fn drop_front(&mut self, count: usize) {
        self.window.drain(..count);
        self.base += count as u64;
    }
}

/// The name in a part's `Content-Disposition`, unless the part is a file.
fn field_name(headers: &str) -> Option<String> {
    let line = headers.split("\r\n").find(|line| {
        line.split_once(':').is_some_and(|(key, _)| key.trim().eq_ignore_ascii_case("content-disposition"))
    })?;
    if parameter(line, "filename").is_some() {
        return None;
    }
    parameter(line, "name")
}

/// A parameter of a header's value, quoted or not.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    value.split(';').skip(1).find_map(|piece| {
        let (key, value) = piece.split_once('=')?;
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        key.trim().eq_ignore_ascii_case(wanted).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"XyZ\"";
    const BODY: &[u8] = b"--XyZ\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
        Content-Type: audio/wav\r\n\r\nRIFF\r\n--Xy not yet\r\n\r\n--XyZ\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n\
        whisper-1\r\n--XyZ\r\nContent-Disposition: form-data; name=\"stream\"\r\n\r\n\r\n--XyZ--\r\n";

    fn scan(cuts: &[usize], body: &[u8]) -> Result<Vec<Field>, FormError> {
        let mut scanner = Scanner::new(TYPE, &["model", "stream", "file"])?;
        let mut edges: Vec<usize> = cuts.iter().copied().filter(|&c| c < body.len()).collect();
        edges.extend([0, body.len()]);
        edges.sort_unstable();
        for pair in edges.windows(2) {
            scanner.push(&body[pair[0]..pair[1]])?;
        }
        scanner.finish()
    }

    #[test]
    fn small_fields_are_found_with_their_place() {
        let fields = scan(&[], BODY).expect("a form");
        let model = fields.iter().find(|f| f.name == "model").expect("the model");
        assert_eq!(model.value, "whisper-1");
        assert_eq!(&BODY[model.range.start as usize..model.range.end as usize], b"whisper-1");
        assert_eq!(fields.len(), 2, "a file is no small field");
        assert_eq!(fields[1].value, "");
    }

    #[test]
    fn a_form_without_its_end_is_refused() {
        assert_eq!(scan(&[], &BODY[..BODY.len() - 6]), Err(FormError::Truncated));
        assert_eq!(Scanner::new("multipart/form-data", &[]).err(), Some(FormError::NoBoundary));
    }

    #[test]
    fn a_value_beyond_the_limit_is_no_small_field() {
        let body = format!(
            "--XyZ\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{}\r\n--XyZ--",
            "x".repeat(10_000)
        );
        assert_eq!(scan(&[5000], body.as_bytes()), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn any_split_finds_the_same_fields(cuts in prop::collection::vec(0..BODY.len(), 0..10)) {
            prop_assert_eq!(scan(&cuts, BODY), scan(&[], BODY));
        }
    }
}
