//! A TCP stream that dies like a killed process does: dropped without an orderly shutdown it resets the
//! connection instead of closing it politely, unless its `Wire` was told otherwise. The wire is also how
//! the head of a reply is made to drip.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// The end of every head.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// How a connection ends that is broken off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With a reset.
    #[default]
    Reset,
    /// With what was sent so far.
    Close,
    /// With these last bytes.
    Saying(&'static [u8]),
}

#[derive(Default)]
struct State {
    ending: Ending,
    drip: Option<Duration>,
}

/// What a request can ask of the connection it came over.
#[derive(Clone, Default)]
pub(crate) struct Wire(Arc<Mutex<State>>);

impl Wire {
    /// From now on, a connection that is broken off ends like this.
    pub(crate) fn end_with(&self, ending: Ending) {
        self.state().ending = ending;
    }

    /// Lets the next head drip, with this much time between two bytes.
    pub(crate) fn drip(&self, every: Duration) {
        self.state().drip = Some(every).filter(|every| !every.is_zero());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A head on its way out, byte by byte.
struct Drip {
    every: Duration,
    next: Pin<Box<Sleep>>,
    /// How many bytes of the head's end have been sent in a row.
    matched: usize,
}

impl Drip {
    fn new(every: Duration) -> Self {
        Self { every, next: Box::pin(sleep_until(Instant::now())), matched: 0 }
    }

    /// Notes a byte that was sent; whether the head is out.
    fn sent(&mut self, byte: u8) -> bool {
        self.matched = match HEAD_END.get(self.matched) {
            Some(expected) if *expected == byte => self.matched + 1,
            _ => usize::from(byte == HEAD_END[0]),
        };
        self.next.as_mut().reset(Instant::now() + self.every);
        self.matched == HEAD_END.len()
    }
}

/// A connection accepted by the simulator.
pub(crate) struct Socket {
    stream: TcpStream,
    wire: Wire,
    drip: Option<Drip>,
    shut_down: bool,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        // Tokens are small writes: without this they would wait for each other.
        stream.set_nodelay(true)?;
        Ok(Self { stream, wire: Wire::default(), drip: None, shut_down: false })
    }

    /// What can be asked of it from afar.
    pub(crate) fn wire(&self) -> Wire {
        self.wire.clone()
    }

    /// Writes one byte when its time has come.
    fn poll_drip(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let (Some(drip), Some(byte)) = (&mut self.drip, bytes.first()) else {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        };
        ready!(drip.next.as_mut().poll(cx));
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &[*byte]))?;
        if written > 0 && drip.sent(*byte) {
            self.drip = None;
        }
        Poll::Ready(Ok(written))
    }

    fn begin_to_drip(&mut self) {
        if let Some(every) = self.wire.state().drip.take() {
            self.drip = Some(Drip::new(every));
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.shut_down {
            return;
        }
        let ending = self.wire.state().ending;
        let ended = match ending {
            Ending::Reset => self.stream.set_zero_linger(),
            Ending::Close => Ok(()),
            Ending::Saying(bytes) => self.stream.try_write(bytes).map(drop),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, ?ending, "the connection ends otherwise");
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.begin_to_drip();
        self.poll_drip(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin_to_drip();
        if self.drip.is_some() {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_drip(cx, first.map_or(&[], |slice| slice));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut_down = true;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
