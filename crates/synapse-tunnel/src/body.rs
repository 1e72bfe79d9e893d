//! Bodies of calls: counted until they end, with trailers dropped.

use std::{
    error::Error,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;

/// Any error of a body.
pub type BodyError = Box<dyn Error + Send + Sync>;
/// Any body.
pub type BoxBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BodyError>;

/// Calls that are open.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    count: AtomicU32,
    idle: Notify,
}

impl InFlight {
    pub(crate) fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    /// Counts one more until the guard is dropped, if that leaves no more than `limit`.
    pub(crate) fn enter(self: &Arc<Self>, limit: u32) -> Option<Entered> {
        let one_more = |count: u32| (count < limit).then_some(count + 1);
        self.count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok()?;
        Some(Entered(Arc::clone(self)))
    }

    /// Waits until none is open.
    pub(crate) async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            if self.count() == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// A call that is counted.
#[derive(Debug)]
pub(crate) struct Entered(Arc<InFlight>);

impl Drop for Entered {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

/// A body whose call counts as open until it is dropped.
#[derive(Debug)]
pub struct CallBody<B> {
    body: B,
    _entered: Entered,
}

impl<B> CallBody<B> {
    pub(crate) fn new(body: B, entered: Entered) -> Self {
        Self { body, _entered: entered }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for CallBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) if frame.is_trailers() => Poll::Ready(None),
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
