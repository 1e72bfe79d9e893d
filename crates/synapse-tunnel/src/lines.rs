//! Lines of JSON in the bodies of the control stream. Both directions are bounded: the longest line, and
//! how many wait to be sent.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::sync::mpsc;

/// Lines that wait to be sent.
const WAITING: usize = 16;

/// Why there are no more lines.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    /// One is longer than agreed on.
    #[error("a line is longer than {0} bytes")]
    TooLong(usize),
    /// The stream broke.
    #[error("the control stream broke")]
    Broken,
}

/// Cuts a body into lines.
pub(crate) struct LineReader<B> {
    body: B,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    searched: usize,
    limit: usize,
}

impl<B: Body<Data = Bytes> + Unpin> LineReader<B> {
    pub(crate) fn new(body: B, limit: usize) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0, limit }
    }

    /// The next line without its end; `None` when the body has ended. What stands after the last line
    /// end is no line. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
                let end = self.searched + at;
                if end > self.limit {
                    return Err(LineError::TooLong(self.limit));
                }
                let line = self.buffer.split_to(end + 1).freeze();
                self.searched = 0;
                return Ok(Some(line.slice(..end)));
            }
            self.searched = self.buffer.len();
            if self.searched > self.limit {
                return Err(LineError::TooLong(self.limit));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(_)) => return Err(LineError::Broken),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// The end of a stream of lines that is written to.
#[derive(Clone)]
pub(crate) struct LineSender(mpsc::Sender<Bytes>);

/// A body of lines.
pub(crate) struct LineBody(mpsc::Receiver<Bytes>);

/// A body, and the way to put lines into it. It ends when all senders are dropped.
pub(crate) fn channel() -> (LineSender, LineBody) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (LineSender(sender), LineBody(receiver))
}

impl LineSender {
    /// Sends a message; waits while too many wait already.
    pub(crate) async fn send(&self, message: &impl Serialize) -> Result<(), LineError> {
        self.0.send(line(message)?).await.map_err(|_| LineError::Broken)
    }

    /// Sends a message if there is room for it.
    pub(crate) fn offer(&self, message: &impl Serialize) -> bool {
        line(message).is_ok_and(|line| self.0.try_send(line).is_ok())
    }
}

fn line(message: &impl Serialize) -> Result<Bytes, LineError> {
    let mut line = serde_json::to_vec(message).map_err(|_| LineError::Broken)?;
    line.push(b'\n');
    Ok(line.into())
}

impl Body for LineBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// A body that comes in these pieces.
    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    /// `text`, cut at these places.
    fn cut(text: &[u8], places: &[prop::sample::Index]) -> Pieces {
        let mut places: Vec<_> = places.iter().map(|place| place.index(text.len() + 1)).collect();
        places.sort_unstable();
        let ends = places.iter().copied().chain([text.len()]);
        let starts = [0].into_iter().chain(places.iter().copied());
        Pieces(starts.zip(ends).map(|(start, end)| Bytes::copy_from_slice(&text[start..end])).collect())
    }

    fn read_all(pieces: Pieces, limit: usize) -> Result<Vec<Bytes>, LineError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut reader = LineReader::new(pieces, limit);
            let mut lines = Vec::new();
            while let Some(line) = reader.next().await? {
                lines.push(line);
            }
            Ok(lines)
        })
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_arrive(
            lines in prop::collection::vec("[^\n]{0,40}", 0..20),
            rest in "[^\n]{0,20}",
            places in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect::<String>() + &rest;
            let read = read_all(cut(text.as_bytes(), &places), 4 * 40).expect("no line is too long");
            prop_assert_eq!(read, lines.iter().map(|line| Bytes::from(line.clone())).collect::<Vec<_>>());
        }

        #[test]
        fn a_line_is_too_long_from_one_byte_over_the_limit(
            length in 0usize..64,
            places in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let text = "x".repeat(length) + "\n";
            prop_assert_eq!(read_all(cut(text.as_bytes(), &places), 32).is_ok(), length <= 32);
        }
    }

    #[test]
    fn a_line_without_an_end_is_given_up_before_it_fills_the_memory() {
        let endless = Pieces((0..100).map(|_| Bytes::from_static(&[b'x'; 1024])).collect());
        assert!(matches!(read_all(endless, 4096), Err(LineError::TooLong(4096))));
    }
}
