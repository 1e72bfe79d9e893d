//! Server-sent events, as the WHATWG specification frames them: finding where events end in a
//! stream of chunks, and reading the fields of one event.

use std::{borrow::Cow, ops::Range};

use bytes::{Bytes, BytesMut};
use memchr::{memchr2, memrchr2};

/// An event grew beyond the limit without an end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {limit} bytes")]
pub struct EventTooLong {
    /// The limit, in bytes.
    pub limit: usize,
}

/// Cuts a stream of chunks so that only whole events come out. A chunk that ends with an event
/// passes as it is, without a copy.
#[derive(Debug)]
pub struct Framer {
    /// The beginning of an event whose end has not arrived.
    pending: BytesMut,
    /// How much of it is known to hold no end; a stream of tiny chunks must not be searched again
    /// and again.
    searched: usize,
    limit: usize,
}

impl Framer {
    /// A framer that bears events of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { pending: BytesMut::new(), searched: 0, limit }
    }

    /// Takes a chunk; gives all events that are complete now, as one run of bytes (maybe empty).
    ///
    /// # Errors
    /// When what is held exceeds the limit.
    pub fn push(&mut self, chunk: Bytes) -> Result<Bytes, EventTooLong> {
        let whole = if self.pending.is_empty() {
            let end = last_event_end(&chunk, 0);
            self.pending.extend_from_slice(&chunk[end..]);
            chunk.slice(..end)
        } else {
            self.pending.extend_from_slice(&chunk);
            let end = last_event_end(&self.pending, self.searched);
            let whole = self.pending.split_to(end).freeze();
            // The beginning of one event must not keep the room of all before it.
            self.pending = BytesMut::from(&self.pending[..]);
            whole
        };
        // A blank line may straddle the border: two line ends are up to four bytes.
        self.searched = self.pending.len().saturating_sub(4);
        if self.pending.len() > self.limit {
            return Err(EventTooLong { limit: self.limit });
        }
        Ok(whole)
    }

    /// What is left when the stream has ended: an event without its closing blank line, or nothing.
    pub fn finish(&mut self) -> Bytes {
        self.searched = 0;
        self.pending.split().freeze()
    }
}

/// Where the last complete event of `bytes` ends (after its blank line); 0 without one that ends after
/// `from`. A carriage return at the very end stays open, as a line feed may belong to it.
fn last_event_end(bytes: &[u8], from: usize) -> usize {
    let mut end = bytes.len();
    if bytes.last() == Some(&b'\r') {
        end -= 1;
    }
    while let Some(at) = memrchr2(b'\n', b'\r', &bytes[..end]).filter(|&at| at >= from) {
        let line_end = if bytes[at] == b'\n' && at > 0 && bytes[at - 1] == b'\r' { at - 1 } else { at };
        // An empty line: a terminator, or the very beginning, stands right before this one.
        if line_end == 0 || matches!(bytes[line_end - 1], b'\n' | b'\r') {
            return at + 1;
        }
        end = line_end;
    }
    0
}

/// The events of a run, each with its closing blank line.
pub fn events(run: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = run;
    std::iter::from_fn(move || {
        let mut at = 0;
        while at < rest.len() {
            let (line, next) = split_line(&rest[at..]);
            at += next;
            if line.is_empty() {
                let (event, tail) = rest.split_at(at);
                rest = tail;
                return Some(event);
            }
        }
        let event = std::mem::take(&mut rest);
        (!event.is_empty()).then_some(event)
    })
}

/// Where the event stands that the byte `at` of a run belongs to.
pub fn event_at(run: &[u8], at: usize) -> Range<usize> {
    let start = last_event_end(&run[..at], 0);
    let length = events(&run[start..]).next().map_or(0, <[u8]>::len);
    start..start + length
}

/// The lines of a run, without their ends.
pub fn lines(run: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = run;
    std::iter::from_fn(move || {
        (!rest.is_empty()).then(|| {
            let (line, next) = split_line(rest);
            rest = &rest[next..];
            line
        })
    })
}

/// One event's fields.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event` field.
    pub name: Option<&'a [u8]>,
    /// The `data` lines, joined by line feeds; `None` for a comment or a bare name.
    pub data: Option<Cow<'a, [u8]>>,
}

impl<'a> Event<'a> {
    /// Reads the fields of one event.
    pub fn parse(event: &'a [u8]) -> Self {
        let mut parsed = Self::default();
        let mut rest = event;
        while !rest.is_empty() {
            let (line, next) = split_line(rest);
            rest = &rest[next..];
            let (field, value) = match line.iter().position(|&b| b == b':') {
                Some(colon) => (&line[..colon], &line[colon + 1..]),
                None => (line, &line[line.len()..]),
            };
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match field {
                b"event" => parsed.name = Some(value),
                b"data" => parsed.add_data(value),
                _ => {}
            }
        }
        parsed
    }

    fn add_data(&mut self, line: &'a [u8]) {
        match &mut self.data {
            None => self.data = Some(Cow::Borrowed(line)),
            Some(data) => {
                let data = data.to_mut();
                data.push(b'\n');
                data.extend_from_slice(line);
            }
        }
    }
}

/// The first line without its terminator, and where the next line starts.
fn split_line(bytes: &[u8]) -> (&[u8], usize) {
    match memchr2(b'\n', b'\r', bytes) {
        None => (bytes, bytes.len()),
        Some(at) if bytes[at] == b'\r' && bytes.get(at + 1) == Some(&b'\n') => (&bytes[..at], at + 2),
        Some(at) => (&bytes[..at], at + 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pushed(framer: &mut Framer, chunk: &str) -> String {
        let run = framer.push(Bytes::copy_from_slice(chunk.as_bytes())).expect("within the limit");
        String::from_utf8(run.to_vec()).expect("UTF-8")
    }

    #[test]
    fn only_whole_events_come_out() {
        let mut framer = Framer::new(1024);
        assert_eq!(pushed(&mut framer, "data: a\n\ndata: b"), "data: a\n\n");
        assert_eq!(pushed(&mut framer, "\n"), "");
        assert_eq!(pushed(&mut framer, "\ndata: c\r\n\r\n"), "data: b\n\ndata: c\r\n\r\n");
        assert_eq!(framer.finish(), "");
    }

    #[test]
    fn a_byte_leads_to_its_event() {
        let run = b"data: a\n\nevent: x\r\ndata: b\r\n\r\ndata: c\n\n";
        let event = |needle: &[u8]| {
            let at = run.windows(needle.len()).position(|part| part == needle).expect("a byte");
            &run[event_at(run, at)]
        };
        assert_eq!(event(b"a\n"), b"data: a\n\n");
        assert_eq!(event(b"b\r"), b"event: x\r\ndata: b\r\n\r\n");
        assert_eq!(event(b"c\n"), b"data: c\n\n");
    }

    #[test]
    fn an_aligned_chunk_is_not_copied() {
        let chunk = Bytes::from_static(b"data: a\n\n");
        let run = Framer::new(1024).push(chunk.clone()).expect("within the limit");
        assert_eq!(run.as_ptr(), chunk.as_ptr());
    }

    #[test]
    fn a_line_feed_that_belongs_to_the_last_carriage_return_is_waited_for() {
        let mut framer = Framer::new(1024);
        assert_eq!(pushed(&mut framer, "data: a\r\n\r"), "");
        assert_eq!(pushed(&mut framer, "\ndata: b\r\r"), "data: a\r\n\r\n");
        assert_eq!(pushed(&mut framer, "x"), "data: b\r\r");
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut framer = Framer::new(8);
        assert_eq!(framer.push(Bytes::from_static(b"data: 0123456789")), Err(EventTooLong { limit: 8 }));
    }

    #[test]
    fn fields_are_read_as_the_specification_says() {
        let event = Event::parse(b": hi\nevent: x\ndata:  two\ndata\ndata:three\nid: 1\n\n");
        assert_eq!(event.name, Some(&b"x"[..]));
        assert_eq!(event.data.as_deref(), Some(&b" two\n\nthree"[..]));
        assert_eq!(Event::parse(b": only a comment\n\n").data, None);
    }

    proptest! {
        /// However a stream is cut into chunks, the same events come out.
        #[test]
        fn any_split_gives_the_same_events(
            events_in in prop::collection::vec(("[ -~]{0,12}", prop::sample::select(vec!["\n", "\r\n", "\r"])), 0..8),
            cuts in prop::collection::vec(0usize..200, 0..12),
        ) {
            let stream: String = events_in.iter().map(|(text, eol)| format!("data: {text}{eol}{eol}")).collect();
            let whole: Vec<Vec<u8>> = events(stream.as_bytes()).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(whole.len(), events_in.len());

            let mut cuts: Vec<usize> = cuts.into_iter().filter(|&c| c < stream.len()).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut framer = Framer::new(4096);
            let mut seen = Vec::new();
            for pair in cuts.windows(2) {
                let chunk = Bytes::copy_from_slice(&stream.as_bytes()[pair[0]..pair[1]]);
                let run = framer.push(chunk).expect("within the limit");
                seen.extend(events(&run).map(<[u8]>::to_vec));
            }
            seen.extend(events(&framer.finish()).map(<[u8]>::to_vec));
            prop_assert_eq!(seen, whole);
        }
    }
}
