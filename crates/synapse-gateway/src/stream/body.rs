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
    audit::{End, Record, Settling},
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
    /// What the end waits for, and what goes out then.
    last: Option<(Settling, Option<Bytes>)>,
    _open: Option<OpenRequest>,
}

impl ReplyBody {
    /// A body in memory.
    pub fn whole(bytes: Bytes) -> Self {
        Self::new(Bytestream::Whole(Some(bytes)))
    }

    /// A body that passes through as it comes.
    pub fn passing(body: impl Body<Data = Bytes, Error = io::Error> + Send + 'static) -> Self {
        Self::new(Bytestream::Passing(Box::pin(body)))
    }

    pub(crate) fn new(source: Bytestream) -> Self {
        Self { source, record: None, last: None, _open: None }
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

    fn close(&mut self) -> Option<Settling> {
        self.note_end();
        self.record.take()?.close()
    }

    /// What comes last, once the record's end has survived what it must. If it cannot, nothing ends well.
    fn poll_last(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some((settling, _)) = &mut self.last else { return Poll::Ready(None) };
        let has_settled = ready!(settling.as_mut().poll(cx));
        let last = self.last.take().and_then(|(_, last)| last);
        if !has_settled {
            self.source = Bytestream::Whole(None);
            return Poll::Ready(Some(Err(Broken)));
        }
        Poll::Ready(last.map(|bytes| Ok(Frame::data(bytes))))
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
        if self.last.is_none() {
            let next = match ready!(self.poll_source(cx)) {
                Some(Err(broken)) => {
                    // It has no good end that would have to wait.
                    let _settling = self.close();
                    return Poll::Ready(Some(Err(broken)));
                }
                Some(Ok(bytes)) => Some(bytes),
                None => None,
            };
            if let Some(bytes) = &next {
                let content = self.has_content();
                if let Some(record) = &mut self.record {
                    if content {
                        record.first_content();
                    }
                    record.sent(bytes);
                }
            }
            let is_last = next.is_none() || self.is_over();
            match if is_last { self.close() } else { None } {
                Some(settling) => self.last = Some((settling, next)),
                None => return Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes)))),
            }
        }
        self.poll_last(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.last.is_none() && self.is_done()
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
            let _settling = self.close();
        }
        // Who leaves a stream still pays for what has flowed of it.
        self.note_end();
    }
}
