//! What stands between a socket and hyper. In HTTP/1 it passes one checked request at a time, so
//! that hyper never sees bytes that another reader might read otherwise; a head that is refused
//! passes as a request of our own, which the service answers as it answers every request. In HTTP/2
//! it only watches for floods.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use synapse_core::error::FaultKind;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    frames::{CALM_DOWN, Frames, PREFACE},
    framing::{Framing, Stop},
    head::Refusal,
    patience::{BETWEEN, Patience, Wait},
    stalls::now,
    turnstile::{Ask, Turnstile},
};

/// Stands in for a head that is refused; what is said of it is kept at the turnstile.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// How much is read from the socket at once, where hyper's own buffer does not serve.
const PIECE: usize = 1024;
/// What is read of the next requests while one is being served: enough to notice a caller who leaves.
const AHEAD: usize = 16 * 1024;
const HEAD_TIMED_OUT: Refusal =
    Refusal { kind: FaultKind::RequestTimeout, message: "The request's head did not come within 10 s." };

/// The protocol that a connection speaks.
enum Protocol {
    /// Not known before the first bytes.
    Unknown,
    Http1(Framing),
    Http2(Frames),
    /// No more is read; what hyper has been given ends the connection.
    Over,
}

/// A stream of checked requests.
pub(super) struct Gate<S> {
    stream: Patience<S>,
    turnstile: Arc<Turnstile>,
    protocol: Protocol,
    /// What has been read and not yet passed.
    held: BytesMut,
    /// How much of it may pass.
    checked: usize,
    /// A body is malformed behind what may pass.
    broken: bool,
}

impl<S> Gate<S> {
    pub(super) fn new(stream: S, turnstile: Arc<Turnstile>) -> Self {
        Self {
            stream: Patience::new(stream),
            turnstile,
            protocol: Protocol::Unknown,
            held: BytesMut::new(),
            checked: 0,
            broken: false,
        }
    }

    /// HTTP/2 with its preface, HTTP/1 with anything else.
    fn recognise(&mut self) {
        if self.held.starts_with(PREFACE) {
            self.turnstile.open();
            self.protocol = Protocol::Http2(Frames::new());
        } else if !PREFACE.starts_with(&self.held) {
            self.protocol = Protocol::Http1(Framing::new());
        }
    }

    /// Whether a further head may pass.
    fn has_turn(&self) -> bool {
        !self.turnstile.is_busy() && self.turnstile.is_settled()
    }

    /// Checks what is held, as far as it is its turn.
    fn check_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        if matches!(self.protocol, Protocol::Unknown) {
            self.recognise();
        }
        let mut held = std::mem::take(&mut self.held);
        self.checked = self.check(&held);
        if matches!(self.protocol, Protocol::Over) {
            // What was held has been replaced by how the connection is to end.
            held.truncate(self.checked);
            held.extend_from_slice(&self.held);
            self.checked = held.len();
        }
        self.held = held;
    }

    /// How many of `bytes` may pass; notes what that means.
    fn check(&mut self, bytes: &[u8]) -> usize {
        match &mut self.protocol {
            Protocol::Unknown | Protocol::Over => 0,
            Protocol::Http2(frames) => {
                let (passed, calm) = frames.advance(bytes);
                if !calm {
                    tracing::debug!("a connection floods the gateway with frames");
                    self.end_with(&CALM_DOWN);
                }
                passed
            }
            Protocol::Http1(framing) => {
                let in_head = framing.is_in_head();
                let (passed, stop) = framing.advance(bytes);
                if let Stop::Malformed(refusal) = stop {
                    if framing.is_in_head() {
                        self.refuse(refusal);
                    } else {
                        self.broken = true;
                        self.admit(in_head, passed);
                    }
                } else {
                    self.admit(in_head, passed);
                }
                passed
            }
        }
    }

    fn admit(&mut self, in_head: bool, passed: usize) {
        if in_head && passed > 0 {
            self.turnstile.admit(None);
            self.stream.wait_for(Wait::Request);
        } else if in_head {
            self.stream.wait_for(Wait::Head);
        }
    }

    /// Has the service refuse a head, and ends the connection with that.
    fn refuse(&mut self, refusal: Refusal) {
        self.turnstile.admit(Some(refusal));
        self.end_with(STAND_IN);
    }

    /// Reads no more than this of our own.
    fn end_with(&mut self, last: &[u8]) {
        self.stream.wait_for(Wait::Request);
        self.protocol = Protocol::Over;
        self.held = BytesMut::from(last);
        self.checked = last.len();
    }

    /// Moves on to the next request, if the last one has ended and was answered.
    fn turn(&mut self) {
        let has_turn = self.has_turn();
        if let Protocol::Http1(framing) = &mut self.protocol
            && framing.is_at_end()
            && has_turn
        {
            framing.begin();
            self.stream.wait_for(if self.held.is_empty() { Wait::Between } else { Wait::Head });
        }
    }

    /// Whether a request has ended whose answer has not.
    fn awaits_turn(&self) -> bool {
        matches!(&self.protocol, Protocol::Http1(framing) if framing.is_at_end())
    }

    /// Whether a head has begun and not ended.
    fn is_mid_head(&self) -> bool {
        let in_head = match &self.protocol {
            Protocol::Http1(framing) => framing.is_in_head(),
            Protocol::Unknown => true,
            Protocol::Http2(_) | Protocol::Over => false,
        };
        in_head && !self.held.is_empty()
    }

    /// Time is up: an error ends the stream, else it goes on.
    fn outlast(&mut self) -> io::Result<()> {
        match self.stream.waits_for() {
            Wait::Head if self.is_mid_head() => self.refuse(HEAD_TIMED_OUT),
            Wait::Head => return Err(io::ErrorKind::TimedOut.into()),
            Wait::Request | Wait::Between => {
                let left = self.idle_left();
                if left.is_zero() && self.stream.waits_for() == Wait::Between {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                if left.is_zero() && matches!(self.protocol, Protocol::Http2(_)) {
                    // Dead ones are found by pings; this one is only idle.
                    self.turnstile.ask(Ask::Leave);
                }
                self.stream.give(if left.is_zero() { BETWEEN } else { left });
            }
        }
        Ok(())
    }

    /// For how long no request may go on being served.
    fn idle_left(&self) -> Duration {
        let idle = self.turnstile.idle_since().map(|since| now().saturating_sub(since));
        BETWEEN.saturating_sub(Duration::from_millis(idle.unwrap_or(0)))
    }
}

impl<S: AsyncRead + Unpin> Gate<S> {
    /// Gives hyper what may pass of what is held.
    fn pass(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.checked.min(buffer.remaining());
        buffer.put_slice(&self.held[..count]);
        self.held.advance(count);
        self.checked -= count;
        if self.held.is_empty() {
            // Idle connections are to be small.
            self.held = BytesMut::new();
        }
    }

    /// Reads what belongs to somebody else: first what was read ahead.
    fn poll_bare(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return Pin::new(self.stream.bare()).poll_read(cx, buffer);
        }
        self.checked = self.held.len();
        self.pass(buffer);
        Poll::Ready(Ok(()))
    }

    /// Reads into what is held; nothing is the end.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut piece = [MaybeUninit::uninit(); PIECE];
        let mut buffer = ReadBuf::uninit(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        self.held.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Reads straight into hyper's buffer, and keeps back what may not pass.
    fn poll_direct(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let count = buffer.filled().len() - before;
        if count > 0 {
            let passed = self.check(&buffer.filled()[before..]);
            if !matches!(self.protocol, Protocol::Over) {
                self.held.extend_from_slice(&buffer.filled()[before + passed..]);
            }
            buffer.set_filled(before + passed);
        }
        Poll::Ready(Ok(count))
    }

    /// Waits for more; `false` is the end.
    fn poll_more(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let waiting = self.awaits_turn();
        if waiting && !self.turnstile.is_settled() {
            return Poll::Ready(Err(malformed("the head was read otherwise")));
        }
        if waiting && !self.held.is_empty() {
            self.turnstile.wait(cx.waker());
        }
        let known = !matches!(self.protocol, Protocol::Unknown);
        let read = if waiting && self.held.len() >= AHEAD {
            Poll::Pending
        } else if !waiting && known && self.held.is_empty() && buffer.remaining() >= PIECE {
            self.poll_direct(cx, buffer)
        } else {
            self.poll_hold(cx)
        };
        if let Poll::Ready(read) = read {
            return Poll::Ready(read.map(|count| count > 0));
        }
        if self.stream.waits_for() != Wait::Request
            && matches!(self.protocol, Protocol::Http2(_))
            && self.turnstile.has_begun()
        {
            self.stream.wait_for(Wait::Request);
        }
        ready!(self.stream.poll_elapsed(cx));
        Poll::Ready(self.outlast().map(|()| true))
    }
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.turnstile.is_handed_over() {
            return self.poll_bare(cx, buffer);
        }
        let before = buffer.filled().len();
        loop {
            self.turn();
            if self.checked == 0 && !self.broken && !self.awaits_turn() {
                self.check_held();
            }
            if self.checked > 0 {
                self.pass(buffer);
                return Poll::Ready(Ok(()));
            }
            if self.broken {
                return Poll::Ready(Err(malformed("the body is malformed")));
            }
            if matches!(self.protocol, Protocol::Over) {
                return Poll::Pending;
            }
            let more = ready!(self.poll_more(cx, buffer))?;
            if !more || buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.turnstile.is_handed_over() {
            return Pin::new(self.stream.bare()).poll_write(cx, bytes);
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.turnstile.is_handed_over() {
            return Pin::new(self.stream.bare()).poll_flush(cx);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.turnstile.is_handed_over() {
            return Pin::new(self.stream.bare()).poll_shutdown(cx);
        }
        // Whether something is still on its way.
        self.turn();
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.turnstile.is_handed_over() {
            return Pin::new(self.stream.bare()).poll_write_vectored(cx, slices);
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
