//! Where requests of an HTTP/1 connection begin and end, followed byte by byte. Nothing passes
//! before it was checked, and nothing behind a request's end before the next one may begin.

use super::head::{self, Delimited, HEAD_TOO_LARGE, Head, Refusal, TARGET_TOO_LONG, malformed};

/// The largest head, in bytes.
pub(super) const MAX_HEAD: usize = 32 * 1024;
/// The longest line with a chunk's size and extensions, in bytes.
const MAX_SIZE_LINE: usize = 512;
/// All trailers together, in bytes.
const MAX_TRAILERS: usize = 8 * 1024;
/// Empty lines before a head; some clients end their bodies with one.
const MAX_BLANK: usize = 2;

const BARE_LINE_END: Refusal = malformed("Lines must end in CR and LF; neither may stand alone.");
const CONTROL: Refusal = malformed("The request has control characters where only text may stand.");
const BAD_SIZE: Refusal =
    malformed("A chunk's size must be one hexadecimal number, and its extensions short.");

/// Follows a connection's requests.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    head: Head,
    blank: usize,
    /// Where the current line begins, from the first byte that has not passed.
    line: usize,
    /// How far there is no line end.
    scanned: usize,
    /// Bytes of trailers that have passed.
    trailers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a head, which passes as a whole.
    Head,
    /// In a body with a length, or in a chunk; that many bytes are left.
    Data { left: u64, chunk: bool },
    /// Before a chunk's size.
    Size,
    /// At the line end behind a chunk.
    ChunkEnd,
    /// Behind the last chunk.
    Trailers,
    /// Behind a request.
    End,
}

/// Why no more passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// For want of more bytes.
    Starved,
    /// The request has ended.
    End,
    /// What follows is malformed.
    Malformed(Refusal),
}

impl Framing {
    pub(super) fn new() -> Self {
        Self { state: State::Head, head: Head::default(), blank: 0, line: 0, scanned: 0, trailers: 0 }
    }

    /// Whether it is at or in a head.
    pub(super) fn is_in_head(&self) -> bool {
        self.state == State::Head
    }

    /// Whether the request has ended.
    pub(super) fn is_at_end(&self) -> bool {
        self.state == State::End
    }

    /// How many of `bytes`, the first of which are those that did not pass before, may pass now,
    /// and why no more.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> (usize, Stop) {
        let mut passed = 0;
        loop {
            let rest = &bytes[passed..];
            match self.state {
                State::End => return (passed, Stop::End),
                State::Data { left, chunk } => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    passed += taken;
                    self.data(left - taken as u64, chunk);
                    if taken as u64 != left {
                        return (passed, Stop::Starved);
                    }
                }
                State::Head | State::Size | State::ChunkEnd | State::Trailers => match self.line(rest) {
                    Ok(Some(line_end)) => {
                        // A head passes when it is whole, other lines each on its own.
                        if self.state == State::Head {
                            (self.line, self.scanned) = (line_end, line_end);
                        } else {
                            (self.line, self.scanned) = (0, 0);
                            passed += line_end;
                        }
                    }
                    Ok(None) => return (passed, Stop::Starved),
                    Err(refusal) => return (passed, Stop::Malformed(refusal)),
                },
            }
        }
    }

    fn data(&mut self, left: u64, chunk: bool) {
        self.state = match (left, chunk) {
            (0, false) => State::End,
            (0, true) => State::ChunkEnd,
            _ => State::Data { left, chunk },
        };
    }

    /// Takes the next line, if it is whole; returns where it ends.
    fn line(&mut self, rest: &[u8]) -> Result<Option<usize>, Refusal> {
        let Some(at) = memchr::memchr(b'\n', &rest[self.scanned..]) else {
            self.check_unfinished(rest)?;
            self.scanned = rest.len();
            return Ok(None);
        };
        let end = self.scanned + at;
        let line = rest[self.line..end].strip_suffix(b"\r").ok_or(BARE_LINE_END)?;
        if has_control(line) {
            return Err(CONTROL);
        }
        self.check_room(end - self.line, end)?;
        match self.state {
            State::Head => self.head_line(line)?,
            State::Size => self.size_line(line)?,
            State::ChunkEnd if line.is_empty() => self.state = State::Size,
            State::Trailers if line.is_empty() => self.state = State::End,
            State::Trailers => {
                self.trailers += line.len() + 2;
                head::trailer(line)?;
            }
            _ => return Err(malformed("A chunk is longer than its size.")),
        }
        Ok(Some(end + 1))
    }

    fn head_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if !line.is_empty() {
            return self.head.line(line);
        }
        if !self.head.has_begun() {
            self.blank += 1;
            return if self.blank > MAX_BLANK { Err(malformed("A request is missing.")) } else { Ok(()) };
        }
        self.state = match self.head.end()? {
            Delimited::Length(0) => State::End,
            Delimited::Length(left) => State::Data { left, chunk: false },
            Delimited::Chunked => State::Size,
        };
        (self.head, self.blank, self.trailers) = (Head::default(), 0, 0);
        Ok(())
    }

    fn size_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, rest) = line.split_at(digits);
        if digits == 0 || digits > 16 || !(rest.is_empty() || rest.starts_with(b";")) {
            return Err(BAD_SIZE);
        }
        let value = |digit: u8| char::from(digit).to_digit(16).map_or(0, u64::from);
        match size.iter().fold(0, |sum, &digit| sum << 4 | value(digit)) {
            0 => self.state = State::Trailers,
            left => self.state = State::Data { left, chunk: true },
        }
        Ok(())
    }

    /// Checks a line whose end has not come, so that nobody waits for it in vain.
    fn check_unfinished(&self, rest: &[u8]) -> Result<(), Refusal> {
        // The last byte may be the first of a line end.
        let fresh = rest.get(self.scanned.saturating_sub(1)..rest.len().saturating_sub(1));
        if fresh.is_some_and(|fresh| memchr::memchr(b'\r', fresh).is_some()) {
            return Err(BARE_LINE_END);
        }
        if self.state == State::ChunkEnd && !matches!(rest, [] | [b'\r']) {
            return Err(malformed("A chunk is longer than its size."));
        }
        let line = &rest[self.line.min(rest.len())..];
        if self.state == State::Head && !self.head.has_begun() {
            // No method begins like this; perhaps it is TLS.
            if line.first().is_some_and(|first| !first.is_ascii_graphic() && *first != b'\r') {
                return Err(CONTROL);
            }
            if head::is_too_long(line) {
                return Err(TARGET_TOO_LONG);
            }
        }
        self.check_room(line.len(), rest.len())
    }

    /// Checks the size of a line, and of all that has not passed.
    fn check_room(&self, line: usize, all: usize) -> Result<(), Refusal> {
        match self.state {
            State::Head if all > MAX_HEAD => Err(HEAD_TOO_LARGE),
            State::Size if line > MAX_SIZE_LINE => Err(BAD_SIZE),
            State::Trailers if self.trailers + line > MAX_TRAILERS => {
                Err(malformed("The trailers are larger than 8 KiB."))
            }
            _ => Ok(()),
        }
    }

    /// The next request may begin.
    pub(super) fn begin(&mut self) {
        if self.state == State::End {
            *self = Self::new();
        }
    }
}

/// Whether there is a control character. Without early exit: this way it takes many at a time.
fn has_control(line: &[u8]) -> bool {
    line.iter().fold(false, |bad, &byte| bad | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    /// What passes when bytes come in pieces of this size.
    fn follow(bytes: &[u8], piece: usize) -> (Vec<u8>, Stop) {
        let (mut framing, mut held, mut passed) = (Framing::new(), Vec::new(), Vec::new());
        let mut stop = Stop::Starved;
        for piece in bytes.chunks(piece) {
            held.extend_from_slice(piece);
            let (count, why) = framing.advance(&held);
            passed.extend(held.drain(..count));
            stop = why;
            if stop != Stop::Starved {
                break;
            }
        }
        (passed, stop)
    }

    fn passes(request: &[u8]) {
        let more = [request, GET].concat();
        for piece in 1..=more.len() {
            let (passed, stop) = follow(&more, piece);
            assert_eq!((passed.as_slice(), stop), (request, Stop::End), "in pieces of {piece}");
        }
    }

    #[test]
    fn a_request_passes_to_its_last_byte_and_not_beyond() {
        passes(GET);
        passes(b"\r\nPOST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n\r\n\r\n");
        passes(b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
        let chunks = b"4;a=\"b\"\r\n\r\n\r\n\r\n0010\r\n0123456789abcdef\r\n0\r\nx: y\r\n\r\n";
        passes(&[&b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"[..], chunks].concat());
    }

    #[test]
    fn of_a_malformed_head_nothing_passes() {
        let heads: [&[u8]; 6] = [
            b"GET / HTTP/1.1\nhost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: a\r\n\n",
            b"GET / HTTP/1.1\rhost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: a\0\r\n\r\n",
            b"\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: a\r\n folded: 1\r\n\r\n",
        ];
        for head in heads {
            for piece in 1..=head.len() {
                let (passed, stop) = follow(head, piece);
                assert!(passed.is_empty() && matches!(stop, Stop::Malformed(_)), "{head:?} {piece} {stop:?}");
            }
        }
    }

    #[test]
    fn a_head_without_end_is_refused_when_it_is_too_large() {
        let fields = "x: y\r\n".repeat(90);
        let long = format!("GET / HTTP/1.1\r\n{fields}z: {}", "z".repeat(MAX_HEAD));
        assert_eq!(follow(long.as_bytes(), 1000).1, Stop::Malformed(HEAD_TOO_LARGE));
        assert_eq!(follow(&[b'G'; 10_000], 1000).1, Stop::Malformed(TARGET_TOO_LONG));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_whatever_make_it_panic_or_pass_more_than_there_is(
            bytes in proptest::collection::vec(proptest::sample::select(b"GPOST /:1\r\n\t;a0f\0\xff".to_vec()), 0..200),
            piece in 1_usize..50,
        ) {
            let chunked = [&b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"[..], &bytes].concat();
            for text in [&bytes, &chunked] {
                let (passed, _) = follow(text, piece);
                proptest::prop_assert!(text.starts_with(&passed));
            }
        }
    }
}
