//! How long a connection may be silent: briefly before its first request and within a request's head,
//! longer between requests, not limited here while a request is being served. hyper has one timer
//! for all of these, and none before the first byte. What to do when time is up is the gate's
//! business.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::unconstrained,
    time::{Instant, Sleep},
};

use super::stalls::STALLED;

/// For the first byte, and for a whole head once it has begun.
const HEAD: Duration = Duration::from_secs(10);
/// For what a refused caller is still sending when its connection closes. Closing at once would reset
/// the connection, and the caller might never see why.
const LINGER: Duration = Duration::from_secs(1);
/// Between requests. Longer than what common clients keep a connection for, so that the client is
/// the one who closes.
pub(super) const BETWEEN: Duration = Duration::from_secs(90);

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The first byte, or the rest of a head.
    Head,
    /// The end of a request.
    Request,
    /// The next request.
    Between,
}

/// A stream that knows for how long it has waited.
pub(super) struct Patience<S> {
    stream: S,
    wait: Wait,
    timer: Pin<Box<Sleep>>,
    /// Who is woken by the timer. Only another waker, or its end, is a reason to look at it again.
    watched_by: Option<Waker>,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Whether our side is closed.
    closed: bool,
}

impl<S> Patience<S> {
    pub(super) fn new(stream: S) -> Self {
        let timer = Box::pin(tokio::time::sleep(HEAD));
        Self { stream, wait: Wait::Head, timer, watched_by: None, stalled: None, closed: false }
    }

    /// The stream itself, which knows no limits.
    pub(super) fn bare(&mut self) -> &mut S {
        &mut self.stream
    }

    /// What it waits for.
    pub(super) fn waits_for(&self) -> Wait {
        self.wait
    }

    /// Waits for something else, from now on. Only a head shortens the time that is left: whatever else
    /// is waited for, it is early enough to find out how long when the timer fires.
    pub(super) fn wait_for(&mut self, wait: Wait) {
        if self.wait != wait {
            self.wait = wait;
            if wait == Wait::Head {
                self.give(HEAD);
            }
        }
    }

    /// Gives so much time from now on.
    pub(super) fn give(&mut self, time: Duration) {
        self.timer.as_mut().reset(Instant::now() + time);
        self.watched_by = None;
    }

    /// Resolves when the time that was given is up.
    pub(super) fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_watched = self.watched_by.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_watched && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        self.watched_by = Some(cx.waker().clone());
        // A task that has had its turn would not get the timer to listen.
        Pin::new(&mut unconstrained(self.timer.as_mut())).poll(cx)
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
        Pin::new(&mut self.stream).poll_read(cx, buffer)
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
        // Where no request was served, there is nothing to be seen.
        if self.wait == Wait::Request { self.poll_linger(cx) } else { Poll::Ready(Ok(())) }
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
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn serving() -> (Patience<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(1024);
        let mut stream = Patience::new(ours);
        stream.wait_for(Wait::Request);
        (stream, theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_cut() {
        let (mut stream, _theirs) = serving();
        let began = Instant::now();
        let error = stream.write_all(&[0; 4096]).await.expect_err("nobody reads");
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 60));
    }

    #[tokio::test(start_paused = true)]
    async fn time_is_up_for_a_task_that_has_had_its_turn() {
        let (ours, _theirs) = duplex(1024);
        let mut stream = Patience::new(ours);
        let began = Instant::now();
        let elapsed = std::future::poll_fn(|cx| {
            while tokio::task::coop::has_budget_remaining() {
                let _used = std::pin::pin!(tokio::task::consume_budget()).poll(cx);
            }
            stream.poll_elapsed(cx)
        });
        tokio::time::timeout(Duration::from_secs(3600), elapsed).await.expect("the timer is heard");
        assert_eq!(began.elapsed(), HEAD);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_refused_caller_still_sends_is_taken_for_a_moment() {
        let (mut stream, mut theirs) = serving();
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
}
