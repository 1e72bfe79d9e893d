//! How long a connection may be silent: briefly before its first request and within a request's head,
//! longer between requests, not limited here while a request is being served. hyper has one timer
//! for all of these, and none before the first byte.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// For the first byte, and for a whole head once it has begun.
const HEAD: Duration = Duration::from_secs(10);
/// For a peer that takes nothing of what is written to it.
const STALLED: Duration = Duration::from_secs(60);
/// For what a refused caller is still sending when its connection closes. Closing at once would reset
/// the connection, and the caller might never see why.
const LINGER: Duration = Duration::from_secs(1);
/// Between requests. Longer than what common clients keep a connection for, so that the client is
/// the one who closes.
const BETWEEN: Duration = Duration::from_secs(90);
const H2_PREFACE: &[u8] = b"PRI * ";

/// Requests that a connection is serving.
#[derive(Clone, Debug, Default)]
pub(super) struct Busy(Arc<AtomicUsize>);

impl Busy {
    /// Counts a request until the guard is dropped.
    pub(super) fn begin(&self) -> BusyGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        BusyGuard(self.clone())
    }

    fn is_busy(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

#[derive(Debug)]
pub(super) struct BusyGuard(Busy);

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that keeps its connection busy until it is dropped.
pub(super) struct BusyBody<B> {
    body: B,
    _busy: BusyGuard,
}

impl<B> BusyBody<B> {
    pub(super) fn new(body: B, busy: BusyGuard) -> Self {
        Self { body, _busy: busy }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for BusyBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No byte has come yet.
    Fresh,
    /// A head has begun.
    Head,
    /// A request is being served.
    Serving,
    /// Waiting for the next request.
    Between,
    /// HTTP/2, once it has made a request, has pings of its own.
    Multiplexed,
}

/// A stream that ends when its peer is silent for too long.
pub(super) struct Patience<S> {
    stream: S,
    busy: Busy,
    phase: Phase,
    /// Whether it began as HTTP/2 does.
    h2: bool,
    timer: Pin<Box<Sleep>>,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Whether our side is closed.
    closed: bool,
}

impl<S> Patience<S> {
    pub(super) fn new(stream: S, busy: Busy) -> Self {
        Self {
            stream,
            busy,
            phase: Phase::Fresh,
            h2: false,
            closed: false,
            timer: Box::pin(tokio::time::sleep(HEAD)),
            stalled: None,
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        match phase {
            Phase::Head => self.timer.as_mut().reset(Instant::now() + HEAD),
            // While a request is served, the timer only makes sure that its end is noticed.
            Phase::Between | Phase::Serving => self.timer.as_mut().reset(Instant::now() + BETWEEN),
            Phase::Fresh | Phase::Multiplexed => {}
        }
    }

    /// Watches what became of a write.
    fn watch_write<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALLED)));
        stalled
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }

    /// Requests begin and end behind this stream's back.
    fn follow_requests(&mut self) {
        match (self.phase, self.busy.is_busy()) {
            (Phase::Fresh | Phase::Head | Phase::Between, true) if self.h2 => self.enter(Phase::Multiplexed),
            (Phase::Fresh | Phase::Head | Phase::Between, true) => self.enter(Phase::Serving),
            (Phase::Serving, false) => self.enter(Phase::Between),
            _ => {}
        }
    }

    fn note_bytes(&mut self, read: &[u8]) {
        match self.phase {
            Phase::Fresh | Phase::Between => {
                self.h2 |= self.phase == Phase::Fresh && read.starts_with(H2_PREFACE);
                self.enter(Phase::Head);
            }
            Phase::Head | Phase::Serving | Phase::Multiplexed => {}
        }
    }
}

impl<S: AsyncRead + Unpin> Patience<S> {
    /// Reads and forgets until the peer closes, for a moment at most.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; 4096];
        while self.timer.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.follow_requests();
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(done) => {
                self.note_bytes(&buffer.filled()[before..]);
                Poll::Ready(done)
            }
            Poll::Pending if self.phase == Phase::Multiplexed => Poll::Pending,
            Poll::Pending if self.phase == Phase::Serving => {
                while self.timer.as_mut().poll(cx).is_ready() {
                    self.enter(Phase::Serving);
                }
                Poll::Pending
            }
            Poll::Pending => {
                let silent = self.timer.as_mut().poll(cx);
                silent.map(|()| {
                    Err(io::Error::new(io::ErrorKind::TimedOut, "the peer was silent for too long"))
                })
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch_write(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch_write(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.closed = true;
            self.timer.as_mut().reset(Instant::now() + LINGER);
        }
        // Between requests nothing is on its way.
        if self.phase == Phase::Between { Poll::Ready(Ok(())) } else { self.poll_linger(cx) }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn stream() -> (Patience<DuplexStream>, DuplexStream, Busy) {
        let (ours, theirs) = duplex(1024);
        let busy = Busy::default();
        (Patience::new(ours, busy.clone()), theirs, busy)
    }

    async fn seconds_until_cut(stream: &mut Patience<DuplexStream>) -> u64 {
        let began = Instant::now();
        while stream.read_u8().await.is_ok() {}
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_newcomer_and_a_dripping_head_are_cut() {
        let (mut silent, _theirs, _busy) = stream();
        assert_eq!(seconds_until_cut(&mut silent).await, 10);

        let (mut dripping, mut theirs, _busy) = stream();
        let drip = async {
            while theirs.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
        };
        tokio::select! {
            () = drip => panic!("the peer was not cut"),
            seconds = seconds_until_cut(&mut dripping) => assert_eq!(seconds, 10),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_there_is_more_time_and_within_one_it_is_not_limited_here() {
        let (mut stream, mut theirs, busy) = stream();
        theirs.write_all(b"G").await.expect("written");
        assert_eq!(stream.read_u8().await.expect("a byte"), b'G');
        let serving = busy.begin();
        let waited = tokio::time::timeout(Duration::from_secs(3600), stream.read_u8()).await;
        assert!(waited.is_err(), "a request may take its time");
        drop(serving);
        assert_eq!(seconds_until_cut(&mut stream).await, 90);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_cut() {
        let (mut stream, _theirs, busy) = stream();
        let _serving = busy.begin();
        let began = Instant::now();
        let error = stream.write_all(&[0; 4096]).await.expect_err("nobody reads");
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 60));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_refused_caller_still_sends_is_taken_for_a_moment() {
        let (mut stream, mut theirs, busy) = stream();
        let _serving = busy.begin();
        let began = Instant::now();
        let sending = async {
            while theirs.write_all(&[0; 512]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = sending => panic!("the sender was cut off"),
            closed = stream.shutdown() => closed.expect("closed"),
        }
        assert_eq!(began.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn http2_is_left_to_its_pings_once_it_has_made_a_request() {
        let (mut stream, mut theirs, busy) = stream();
        theirs.write_all(b"PRI * HTTP/2.0\r\n").await.expect("written");
        let mut preface = [0; 16];
        stream.read_exact(&mut preface).await.expect("the preface");
        drop(busy.begin());
        let serving = busy.begin();
        assert!(tokio::time::timeout(Duration::from_secs(1), stream.read_u8()).await.is_err());
        drop(serving);
        assert!(tokio::time::timeout(Duration::from_secs(3600), stream.read_u8()).await.is_err());
    }
}
