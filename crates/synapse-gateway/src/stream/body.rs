//! The body of every reply: hands out its source's bytes and closes the record when they end, when
//! they break, or when the caller leaves.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{EventFlow, PendingFlow, RawFlow, raw::Broken};
use crate::{
    audit::{End, Record},
    drain::OpenRequest,
};

/// Where the bytes come from.
pub(crate) enum Bytestream {
    Whole(Option<Bytes>),
    Events(Box<EventFlow>),
    Raw(Box<RawFlow>),
    Pending(Box<PendingFlow>),
    Passing(Passing),
}

/// What is nobody's answer, but comes as it is.
type Passing = Pin<Box<dyn Body<Data = Bytes, Error = io::Error> + Send>>;

/// A reply's body.
pub struct ReplyBody {
    source: Bytestream,
    record: Option<Record>,
    _open: Option<OpenRequest>,
}

impl ReplyBody {
    /// A body in memory.
    pub fn whole(bytes: Bytes) -> Self {
        Self { source: Bytestream::Whole(Some(bytes)), record: None, _open: None }
    }

    /// A body that passes through as it comes.
    pub fn passing(body: impl Body<Data = Bytes, Error = io::Error> + Send + 'static) -> Self {
        Self::new(Bytestream::Passing(Box::pin(body)))
    }

    pub(crate) fn new(source: Bytestream) -> Self {
        Self { source, record: None, _open: None }
    }

    /// Ties the request's record and its count as open work to the body's end.
    #[must_use]
    pub fn attach(mut self, record: Record, open: Option<OpenRequest>) -> Self {
        self.record = Some(record);
        self._open = open;
        self
    }

    /// The same reply without its content, as an answer to HEAD.
    #[must_use]
    pub fn without_content(mut self) -> Self {
        self.source = Bytestream::Whole(None);
        self
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        match &mut self.source {
            Bytestream::Whole(bytes) => Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(Ok)),
            Bytestream::Events(flow) => flow.poll_bytes(cx).map(|bytes| bytes.map(Ok)),
            Bytestream::Pending(flow) => flow.poll_bytes(cx, self.record.as_mut()).map(|bytes| bytes.map(Ok)),
            Bytestream::Raw(flow) => flow.poll_bytes(cx),
            Bytestream::Passing(body) => match ready!(body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => Poll::Ready(Some(Ok(frame.into_data().unwrap_or_default()))),
                Some(Err(_)) => Poll::Ready(Some(Err(Broken))),
                None => Poll::Ready(None),
            },
        }
    }

    /// Whether nothing more will come, without polling; hyper then polls no more.
    fn is_done(&self) -> bool {
        match &self.source {
            Bytestream::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Bytestream::Raw(flow) => flow.length().is_some() && flow.is_done(),
            Bytestream::Passing(body) => body.is_end_stream(),
            Bytestream::Events(_) | Bytestream::Pending(_) => false,
        }
    }

    /// Whether the caller has all there is to have, even if the end is still to be signalled.
    fn is_over(&self) -> bool {
        match &self.source {
            Bytestream::Events(flow) => flow.is_over(),
            Bytestream::Whole(_) | Bytestream::Raw(_) | Bytestream::Pending(_) | Bytestream::Passing(_) => {
                self.is_done()
            }
        }
    }

    /// Whether what goes out is content, not only a sign of life.
    fn has_content(&self) -> bool {
        match &self.source {
            Bytestream::Pending(flow) => flow.has_begun(),
            Bytestream::Whole(_) | Bytestream::Events(_) | Bytestream::Raw(_) | Bytestream::Passing(_) => {
                true
            }
        }
    }

    fn close(&mut self) {
        self.note_end();
        if let Some(record) = self.record.take() {
            record.close();
        }
    }

    fn note_end(&mut self) {
        let Some(record) = &mut self.record else { return };
        record.end(|end: &mut End| match &self.source {
            Bytestream::Whole(_) | Bytestream::Passing(_) => {}
            Bytestream::Events(flow) => flow.end(end),
            Bytestream::Raw(flow) => flow.end(end),
            Bytestream::Pending(flow) => flow.end(end),
        });
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let next = ready!(self.poll_source(cx));
        match &next {
            Some(Ok(bytes)) => {
                let content = self.has_content();
                if let Some(record) = &mut self.record {
                    if content {
                        record.first_content();
                    }
                    record.sent(bytes.len() as u64);
                }
                if self.is_over() {
                    self.close();
                }
            }
            Some(Err(_)) | None => self.close(),
        }
        Poll::Ready(next.map(|result| result.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_done()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Bytestream::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Bytestream::Raw(flow) => flow.length().map_or_else(SizeHint::default, SizeHint::with_exact),
            Bytestream::Passing(body) => body.size_hint(),
            Bytestream::Events(_) | Bytestream::Pending(_) => SizeHint::default(),
        }
    }
}

impl Drop for ReplyBody {
    fn drop(&mut self) {
        // An empty body is never polled; anything else that was not closed was not wanted any more.
        if self.is_done() {
            self.close();
        }
        // Who leaves a stream still pays for what has flowed of it.
        self.note_end();
    }
}
