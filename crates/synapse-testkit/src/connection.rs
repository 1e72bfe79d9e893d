//! One connection to a gateway, in any of the protocols it speaks. Dropped, it closes at once.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::HOST};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};

use crate::{answer::Answer, certificate::Authority, wait::within};

/// How a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; in the clear with prior knowledge.
    Http2,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// An open connection.
pub struct Connection {
    sender: Sender,
    driver: JoinSet<()>,
}

impl Connection {
    /// Connects in the clear.
    ///
    /// # Errors
    /// When nobody listens, or not in that protocol.
    pub async fn open(address: SocketAddr, protocol: Protocol) -> Result<Self, Failure> {
        Self::speak(TcpStream::connect(address).await?, protocol).await
    }

    /// Connects with TLS, trusting `authority` alone.
    ///
    /// # Errors
    /// When the certificate is another, or the protocol is not agreed on.
    pub async fn open_tls(
        address: SocketAddr,
        protocol: Protocol,
        authority: &Authority,
    ) -> Result<Self, Failure> {
        let offered: &[u8] = if protocol == Protocol::Http1 { b"http/1.1" } else { b"h2" };
        let name = ServerName::try_from("localhost")?;
        let tcp = TcpStream::connect(address).await?;
        let stream = Box::pin(authority.connector(&[offered]).connect(name, tcp)).await?;
        if stream.get_ref().1.alpn_protocol() != Some(offered) {
            return Err("another protocol was agreed on".into());
        }
        Self::speak(stream, protocol).await
    }

    async fn speak<S>(stream: S, protocol: Protocol) -> Result<Self, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        let mut driver = JoinSet::new();
        let sender = match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                driver.spawn(async move { drop(connection.await) });
                Sender::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                driver.spawn(async move { drop(connection.await) });
                Sender::Http2(sender)
            }
        };
        Ok(Self { sender, driver })
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// When the connection breaks first.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                Ok(sender.send_request(in_http1(request)).await?)
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let answered = async { Ok(read(self.send(request).await?).await) };
        within("an answer", answered).await
    }

    /// Waits until the other side has closed it.
    pub async fn closed(&mut self) {
        within("the connection to be closed", self.driver.join_next()).await;
    }
}

/// HTTP/1 names the host in a header, not in the target.
fn in_http1(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    let uri = request.uri();
    let host = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let target = uri.path_and_query().map_or("/", |path| path.as_str()).parse();
    if let (Some(host), Ok(target)) = (host, target) {
        request.headers_mut().entry(HOST).or_insert(host);
        *request.uri_mut() = target;
    }
    request
}

/// Why there is no answer.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Reads an answer to its end.
pub(crate) async fn read(response: Response<Incoming>) -> Answer {
    let (head, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    let mut broken = false;
    while let Some(frame) = incoming.frame().await {
        match frame {
            Ok(frame) => body.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(_) => {
                broken = true;
                break;
            }
        }
    }
    Answer { status: head.status.as_u16(), headers: head.headers, body: body.into(), broken }
}
