//! Finding small form fields in a multipart body while it streams by, without keeping or changing
//! the body: where each value stands, and what it is. What files have is shown as it passes. Framing after
//! RFC 2046 and RFC 7578.

use std::ops::Range;

use memchr::memmem;

/// The longest value that counts as a small field, in bytes.
const MAX_VALUE: usize = 64 * 1024;
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
    /// A field that must be read is too long for that.
    #[error("the form's field `{0}` is longer than 64 KiB")]
    FieldTooLong(&'static str),
    /// Something that two readers could read in two ways.
    #[error("{0}")]
    Ambiguous(&'static str),
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
    files: usize,
    found: Vec<Field>,
}

/// What a body has that was read to its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// The small fields that were wanted.
    pub fields: Vec<Field>,
    /// How many files there are.
    pub files: usize,
}

#[derive(Debug)]
enum State {
    /// Before the first delimiter, or in a part that nobody wants.
    Skip,
    /// In a file. So many bytes before its content may belong to a delimiter.
    File { lent: usize },
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
        let mut boundary = None;
        for (key, value) in parameters(content_type)? {
            if key == "boundary" && boundary.replace(value).is_some() {
                return Err(FormError::Ambiguous("the content type has two boundaries"));
            }
        }
        let boundary = boundary.filter(|b| !b.is_empty() && b.len() <= 70).ok_or(FormError::NoBoundary)?;
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first delimiter has no line before it; lend it one.
        Ok(Self {
            delimiter,
            wanted,
            window: b"\r\n".to_vec(),
            base: 0,
            state: State::Skip,
            parts: 0,
            files: 0,
            found: Vec::new(),
        })
    }

    /// Takes the next piece of the body, and shows `see` what it has of files.
    ///
    /// # Errors
    /// When the form is malformed or beyond its bounds.
    pub fn push(&mut self, piece: &[u8], mut see: impl FnMut(&[u8])) -> Result<(), FormError> {
        self.window.extend_from_slice(piece);
        while self.step(&mut see)? {}
        Ok(())
    }

    /// What was found, once the whole body was pushed.
    ///
    /// # Errors
    /// When the closing boundary is missing.
    pub fn finish(self) -> Result<Form, FormError> {
        let is_whole = matches!(self.state, State::End);
        if is_whole { Ok(Form { fields: self.found, files: self.files }) } else { Err(FormError::Truncated) }
    }

    /// One transition; whether there may be another with what is at hand.
    fn step(&mut self, see: &mut impl FnMut(&[u8])) -> Result<bool, FormError> {
        match &self.state {
            State::End => {
                if !self.window.iter().all(u8::is_ascii_whitespace) {
                    return Err(FormError::Ambiguous("something follows the form's closing boundary"));
                }
                self.drop_front(self.window.len());
                Ok(false)
            }
            State::Headers => self.read_headers(),
            State::Skip | State::File { .. } | State::Value { .. } => self.seek_delimiter(see),
        }
    }

    fn seek_delimiter(&mut self, see: &mut impl FnMut(&[u8])) -> Result<bool, FormError> {
        let Some(at) = memmem::find(&self.window, &self.delimiter) else {
            if let State::Value { name, .. } = &self.state {
                if self.window.len() <= MAX_VALUE + self.delimiter.len() {
                    return Ok(false);
                }
                let name = self.wanted.iter().find(|wanted| *wanted == name);
                return Err(FormError::FieldTooLong(name.copied().unwrap_or("")));
            }
            let keep = self.delimiter.len().min(self.window.len());
            let gone = self.window.len() - keep;
            self.show(gone, see);
            self.drop_front(gone);
            return Ok(false);
        };
        self.show(at, see);
        if let State::Value { name, start } = &mut self.state {
            let (name, start) = (std::mem::take(name), *start);
            let value = String::from_utf8_lossy(&self.window[..at]).into_owned();
            self.found.push(Field { name, range: start..start + at as u64, value });
        }
        self.drop_front(at + self.delimiter.len());
        self.state = State::Headers;
        Ok(true)
    }

    /// Shows so many bytes from the front of the window, if they are a file's.
    fn show(&mut self, count: usize, see: &mut impl FnMut(&[u8])) {
        if let State::File { lent } = &mut self.state {
            let first = count.min(*lent);
            *lent -= first;
            see(&self.window[first..count]);
        }
    }

    fn read_headers(&mut self) -> Result<bool, FormError> {
        if self.window.starts_with(b"--") {
            self.drop_front(2);
            self.state = State::End;
            return Ok(true);
        }
        // Padding may follow a boundary, but nothing that would make it a longer one.
        let padding = self.window.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let line_end = &self.window[padding..self.window.len().min(padding + 2)];
        if !b"\r\n".starts_with(line_end) && self.window != b"-" {
            return Err(FormError::Ambiguous("a line begins with the boundary, but is none"));
        }
        let Some(end) = memmem::find(&self.window, b"\r\n\r\n") else {
            return if self.window.len() > MAX_HEADERS { Err(FormError::HeadersTooLong) } else { Ok(false) };
        };
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(FormError::TooManyParts);
        }
        let headers = String::from_utf8_lossy(&self.window[padding..end]).into_owned();
        let part = part(&headers)?;
        // The line end stays: it may belong to the delimiter of an empty part.
        self.drop_front(end + 2);
        self.state = match part {
            Part::Field(name) if self.wanted.contains(&name.as_str()) => {
                self.drop_front(2);
                State::Value { name, start: self.offset() }
            }
            Part::File => {
                self.files += 1;
                State::File { lent: 2 }
            }
            Part::Field(_) | Part::Nameless => State::Skip,
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

/// What a part is.
enum Part {
    Field(String),
    File,
    Nameless,
}

/// What a part's `Content-Disposition` says that it is.
fn part(headers: &str) -> Result<Part, FormError> {
    let mut disposition = None;
    for line in headers.split("\r\n").filter(|line| !line.is_empty()) {
        if line.starts_with([' ', '\t']) {
            return Err(FormError::Ambiguous("a part's header is folded"));
        }
        let Some((key, value)) = line.split_once(':') else { continue };
        if key.trim().eq_ignore_ascii_case("content-disposition") && disposition.replace(value).is_some() {
            return Err(FormError::Ambiguous("a part has two dispositions"));
        }
    }
    let (mut name, mut is_file) = (None, false);
    for (key, value) in parameters(disposition.unwrap_or_default())? {
        match key.as_str() {
            "name" if name.replace(value).is_some() => {
                return Err(FormError::Ambiguous("a part has two names"));
            }
            "name*" => return Err(FormError::Ambiguous("a part's name is encoded")),
            "filename" | "filename*" => is_file = true,
            _ => {}
        }
    }
    Ok(if is_file { Part::File } else { name.map_or(Part::Nameless, Part::Field) })
}

/// The parameters of a header's value, keys in lower case. A `;` within quotes belongs to the value.
fn parameters(value: &str) -> Result<Vec<(String, String)>, FormError> {
    let mut found = Vec::new();
    let mut rest = value.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((key, tail)) = rest.split_once('=') {
        let tail = tail.trim_start();
        let (text, next) = match tail.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                tail.split_once(';').map_or((tail.trim().to_owned(), ""), |(v, n)| (v.trim().to_owned(), n))
            }
        };
        found.push((key.trim().to_ascii_lowercase(), text));
        rest = next.trim_start().trim_start_matches(';');
    }
    Ok(found)
}

/// A quoted text after its first quote, and what follows its last one.
fn unquote(quoted: &str) -> Result<(String, &str), FormError> {
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((text, &quoted[at + 1..])),
            '\\' => text.extend(chars.next().map(|(_, c)| c)),
            c => text.push(c),
        }
    }
    Err(FormError::Ambiguous("a quoted text does not end"))
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
        Ok(scan_all(cuts, body)?.0.fields)
    }

    /// What was found, and what was shown of files.
    fn scan_all(cuts: &[usize], body: &[u8]) -> Result<(Form, Vec<u8>), FormError> {
        let mut shown = Vec::new();
        let mut scanner = Scanner::new(TYPE, &["model", "stream", "file"])?;
        let mut edges: Vec<usize> = cuts.iter().copied().filter(|&c| c < body.len()).collect();
        edges.extend([0, body.len()]);
        edges.sort_unstable();
        for pair in edges.windows(2) {
            scanner.push(&body[pair[0]..pair[1]], |piece| shown.extend_from_slice(piece))?;
        }
        Ok((scanner.finish()?, shown))
    }

    #[test]
    fn a_file_is_shown_as_it_passes() {
        let (form, shown) = scan_all(&[], BODY).expect("a form");
        assert_eq!((form.files, &shown[..]), (1, &b"RIFF\r\n--Xy not yet\r\n"[..]));
        let part = "--XyZ\r\nContent-Disposition: form-data; filename=a\r\n\r\n";
        let (form, shown) =
            scan_all(&[], format!("{part}\r\n{part}x\r\n{part}--XyZ--").as_bytes()).expect("a form");
        assert_eq!((form.files, &shown[..]), (3, &b"x"[..]), "empty ones show nothing");
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
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        let part = |headers: &str| format!("--XyZ\r\n{headers}\r\n\r\nx\r\n--XyZ--");
        for body in [
            part("Content-Disposition: form-data;\r\n name=model"),
            part("Content-Disposition: form-data; name*=utf-8''model"),
            part("Content-Disposition: form-data; name=a; name=model"),
            part("Content-Disposition: form-data\r\nContent-Disposition: form-data; name=model"),
            format!(
                "{}\r\n--XyZ\r\nContent-Disposition: form-data; name=model\r\n\r\ny\r\n--XyZ--",
                part("A: b")
            ),
            "--XyZEVIL\r\n\r\nx\r\n--XyZ--".to_owned(),
        ] {
            assert!(matches!(scan(&[], body.as_bytes()), Err(FormError::Ambiguous(_))), "{body}");
        }
        assert!(Scanner::new("multipart/form-data; boundary=a; boundary=b", &[]).is_err());
        let quoted = part("Content-Disposition: form-data; x=\"; name=model; \"; name=\"prompt\"");
        assert_eq!(scan(&[], quoted.as_bytes()), Ok(vec![]));
    }

    #[test]
    fn a_value_beyond_the_limit_is_refused_by_the_fields_name() {
        let body = format!(
            "--XyZ\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{}\r\n--XyZ--",
            "x".repeat(MAX_VALUE + 1000)
        );
        assert_eq!(scan(&[MAX_VALUE + 500], body.as_bytes()), Err(FormError::FieldTooLong("model")));
    }

    proptest! {
        #[test]
        fn any_split_finds_the_same_fields(cuts in prop::collection::vec(0..BODY.len(), 0..10)) {
            prop_assert_eq!(scan_all(&cuts, BODY), scan_all(&[], BODY));
        }
    }
}
