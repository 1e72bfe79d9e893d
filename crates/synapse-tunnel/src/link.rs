//! A WebSocket as a stream of bytes. What the stream's owner drops comes back, so that the connection
//! can still be closed with a reason.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Sink, Stream, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Error as WsError, Message,
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};

use crate::protocol::{Close, LAST_WORDS, MAX_MESSAGE, MESSAGE, code};

/// What is read from the socket at once.
const READ: usize = 32 * 1024;

/// The limits of a WebSocket, whichever end it is.
pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ)
        .write_buffer_size(MESSAGE)
        .max_write_buffer_size(4 * MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

/// The byte stream.
pub(crate) struct Link<S> {
    socket: Option<WebSocketStream<S>>,
    unread: Bytes,
    shared: Arc<Shared>,
    back: Option<oneshot::Sender<WebSocketStream<S>>>,
}

/// How it ended, and whether the peer lives.
struct Shared {
    began: Instant,
    /// When the peer was last heard, in milliseconds since `began`.
    heard_ms: AtomicU64,
    /// The peer's close.
    theirs: OnceLock<Close>,
    /// What the peer did wrong.
    fault: OnceLock<Close>,
}

/// Tells whether the peer is heard. Every byte is a sign of life: a ping's answer may stand behind
/// megabytes of somebody's upload, on the wire or in a proxy.
#[derive(Clone)]
pub(crate) struct Pulse(Arc<Shared>);

impl Pulse {
    /// Resolves once nothing was heard for so long.
    pub(crate) async fn stops(&self, limit: Duration) {
        loop {
            let heard = Duration::from_millis(self.0.heard_ms.load(Ordering::Relaxed));
            let due = self.0.began + heard + limit;
            if Instant::now() >= due {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// What remains with whoever opened the link.
pub(crate) struct Remains<S> {
    shared: Arc<Shared>,
    back: oneshot::Receiver<WebSocketStream<S>>,
    socket: Option<WebSocketStream<S>>,
}

/// A link over a connection that was upgraded on the gateway's side.
pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(io: S) -> (Link<S>, Remains<S>) {
    open(WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await)
}

/// A link over a WebSocket.
pub(crate) fn open<S>(socket: WebSocketStream<S>) -> (Link<S>, Remains<S>) {
    let shared = Arc::new(Shared {
        began: Instant::now(),
        heard_ms: AtomicU64::new(0),
        theirs: OnceLock::new(),
        fault: OnceLock::new(),
    });
    let (back, returned) = oneshot::channel();
    let link =
        Link { socket: Some(socket), unread: Bytes::new(), shared: Arc::clone(&shared), back: Some(back) };
    (link, Remains { shared, back: returned, socket: None })
}

impl<S> Remains<S> {
    /// Waits until the link's owner has dropped it.
    pub(crate) async fn gone(&mut self) {
        if self.socket.is_none() {
            self.socket = (&mut self.back).await.ok();
        }
    }

    /// Whether the peer is heard.
    pub(crate) fn pulse(&self) -> Pulse {
        Pulse(Arc::clone(&self.shared))
    }

    /// How the peer has closed it.
    pub(crate) fn theirs(&self) -> Option<&Close> {
        self.shared.theirs.get()
    }

    /// What the peer did wrong, as a reason to close it.
    pub(crate) fn fault(&self) -> Option<&Close> {
        self.shared.fault.get()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Remains<S> {
    /// Closes the connection, and lets the peer read why. The link must have been dropped, or be about
    /// to be.
    pub(crate) async fn close(mut self, close: &Close) {
        let farewell = async {
            self.gone().await;
            let Some(socket) = &mut self.socket else { return };
            let frame = CloseFrame { code: close.code.into(), reason: close.reason.as_str().into() };
            if socket.close(Some(frame)).await.is_ok() {
                // Closing a socket with unread bytes in it would take our last words from the peer.
                while let Some(Ok(_)) = socket.next().await {}
            }
        };
        let _in_time = tokio::time::timeout(LAST_WORDS, farewell).await;
    }
}

impl<S> Drop for Link<S> {
    fn drop(&mut self) {
        if let (Some(back), Some(socket)) = (self.back.take(), self.socket.take()) {
            // Nobody may want it any more.
            let _unwanted = back.send(socket);
        }
    }
}

fn broken(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        error => io::Error::other(error),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    fn socket(&mut self) -> io::Result<Pin<&mut WebSocketStream<S>>> {
        // Only `drop` takes it out.
        self.socket.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn blame(&self, code: u16, reason: &str) -> io::Error {
        let _first = self.shared.fault.set(Close::new(code, reason));
        io::Error::new(io::ErrorKind::InvalidData, reason)
    }

    /// Waits for bytes to read; none are the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            let message = ready!(self.socket()?.poll_next(cx));
            if matches!(message, Some(Ok(_))) {
                let passed = self.shared.began.elapsed().as_millis() as u64;
                self.shared.heard_ms.store(passed, Ordering::Relaxed);
            }
            match message {
                None => break,
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(
                        self.blame(code::UNSUPPORTED, "a tunnel has no messages of text")
                    ));
                }
                Some(Ok(Message::Close(frame))) => {
                    let close = frame.map_or_else(
                        || Close::new(code::DONE, ""),
                        |frame| Close::new(frame.code.into(), frame.reason.as_str()),
                    );
                    let _first = self.shared.theirs.set(close);
                }
                Some(Err(WsError::Capacity(_))) => {
                    return Poll::Ready(Err(self.blame(code::TOO_BIG, "a message is longer than 1 MiB")));
                }
                // A connection that just breaks is no fault of the peer's.
                Some(Err(WsError::Protocol(
                    tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
                ))) => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Some(Err(WsError::Io(error))) => return Poll::Ready(Err(error)),
                Some(Err(_)) => {
                    return Poll::Ready(Err(self.blame(code::PROTOCOL, "these bytes are no WebSocket")));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Link<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_fill(cx))?;
        let count = self.unread.len().min(into.remaining());
        into.put_slice(&self.unread[..count]);
        self.unread.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Link<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.socket()?.poll_ready(cx)).map_err(broken)?;
        // The head of a frame and its payload in one message.
        let all: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut message = BytesMut::with_capacity(all.min(MESSAGE));
        for slice in slices {
            let room = MESSAGE - message.len();
            message.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let count = message.len();
        if count > 0 {
            self.socket()?.start_send(Message::Binary(message.freeze())).map_err(broken)?;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_flush(cx).map_err(broken)
    }

    /// The owner of the remains closes the connection.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
