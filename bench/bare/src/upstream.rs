//! Connections to the upstream. Each is driven by whoever waits for its reply, inside the reply's
//! body, so that an event costs no switch between tasks.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::{HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Idle connections that are kept.
const MAX_IDLE: usize = 64;
/// What is ready goes out in one write, up to this many bytes.
const MAX_WRITE: usize = 32 * 1024;

/// The upstream, and the connections to it that one runtime may use.
pub(crate) struct Upstream {
    address: SocketAddr,
    host: HeaderValue,
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    sender: SendRequest<Incoming>,
    /// None once the connection has ended.
    driver: Option<http1::Connection<TokioIo<TcpStream>, Incoming>>,
}

impl Upstream {
    pub(crate) fn new(address: SocketAddr) -> anyhow::Result<Arc<Self>> {
        let host = HeaderValue::from_str(&address.to_string())?;
        Ok(Arc::new(Self { address, host, idle: Mutex::default() }))
    }

    /// Sends `request` and waits for the head of its reply; the body follows as it is polled.
    pub(crate) async fn call(
        self: Arc<Self>,
        mut request: Request<Incoming>,
    ) -> anyhow::Result<Response<ReplyBody>> {
        request.headers_mut().insert(HOST, self.host.clone());
        let mut connection = match self.checkout() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let response = connection.exchange(request).await?;
        Ok(response.map(|incoming| ReplyBody {
            incoming,
            connection: Some(connection),
            home: self,
            ended: false,
            held: None,
        }))
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let (sender, driver) = http1::handshake(TokioIo::new(socket)).await?;
        Ok(Connection { sender, driver: Some(driver) })
    }

    fn checkout(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut connection) = idle.pop() {
            if connection.is_fit() {
                return Some(connection);
            }
        }
        None
    }

    fn put_back(&self, mut connection: Connection) {
        if !connection.is_fit() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }
}

impl Connection {
    async fn exchange(&mut self, request: Request<Incoming>) -> hyper::Result<Response<Incoming>> {
        let Self { sender, driver } = self;
        let mut sending = pin!(sender.send_request(request));
        poll_fn(|cx| {
            if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
                return Poll::Ready(sent);
            }
            // If the connection ends, `sending` is told.
            drive(driver, cx);
            sending.as_mut().poll(cx)
        })
        .await
    }

    /// Whether another request may go out. Nobody polls an idle connection, so this is also where
    /// a reply's end is taken in and a closed connection noticed.
    fn is_fit(&mut self) -> bool {
        drive(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

fn drive<D: Future + Unpin>(driver: &mut Option<D>, cx: &mut Context<'_>) {
    if let Some(running) = driver
        && Pin::new(running).poll(cx).is_ready()
    {
        *driver = None;
    }
}

/// A reply's body, which owns and drives its connection.
pub(crate) struct ReplyBody {
    incoming: Incoming,
    connection: Option<Connection>,
    home: Arc<Upstream>,
    ended: bool,
    /// What came behind collected data and has to wait for the next poll.
    held: Option<Polled>,
}

type Polled = Option<hyper::Result<Frame<Bytes>>>;

impl ReplyBody {
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        self.ended |= matches!(polled, Poll::Ready(None));
        polled
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        if let Some(held) = self.held.take() {
            return Poll::Ready(held);
        }
        if let ready @ Poll::Ready(_) = self.poll_incoming(cx) {
            return ready;
        }
        if let Some(connection) = &mut self.connection {
            drive(&mut connection.driver, cx);
        }
        self.poll_incoming(cx)
    }

    /// Appends to `first` what is ready already.
    fn collect(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        let mut collected: Option<BytesMut> = None;
        let mut len = first.len();
        while len < MAX_WRITE && !self.incoming.is_end_stream() {
            match self.poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                    let data = frame.into_data().unwrap_or_default();
                    len += data.len();
                    collected.get_or_insert_with(|| BytesMut::from(&first[..])).extend_from_slice(&data);
                }
                Poll::Ready(end) => {
                    self.held = Some(end);
                    break;
                }
            }
        }
        collected.map_or(first, BytesMut::freeze)
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled> {
        let this = self.get_mut();
        let polled = this.poll_next(cx);
        let Poll::Ready(Some(Ok(frame))) = polled else { return polled };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) => Frame::data(this.collect(data, cx)),
            Err(trailers) => trailers,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for ReplyBody {
    fn drop(&mut self) {
        // hyper may not poll a body of known length to its end. A connection with anything left to
        // read is closed instead.
        if (self.ended || self.incoming.is_end_stream())
            && let Some(connection) = self.connection.take()
        {
            self.home.put_back(connection);
        }
    }
}
