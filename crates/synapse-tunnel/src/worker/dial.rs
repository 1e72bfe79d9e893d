//! Dialling a gateway: TCP, TLS where the URL says so, and the upgrade to a WebSocket.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Request, StatusCode, header};
use rustls_pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Error as WsError, handshake::client::generate_key},
};

use super::{ServerUrl, WorkerOptions};
use crate::{
    link,
    protocol::{HANDSHAKE, SUBPROTOCOL, VERSION_HEADER},
};

/// How long a connection may take to be there.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest wait that a gateway can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// A byte stream to a gateway, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A WebSocket to a gateway.
pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("no connection: {0}")]
    Unreachable(io::Error),
    #[error("no answer within {} s", HANDSHAKE.as_secs())]
    TimedOut,
    #[error("the key is not accepted ({0})")]
    Unauthorized(StatusCode),
    #[error("the gateway is busy")]
    Busy(Option<Duration>),
    #[error("the gateway answered {0}: is this its address for workers?")]
    Refused(StatusCode),
    #[error("what answers speaks no WebSocket with `{SUBPROTOCOL}`: {0}")]
    NotATunnel(WsError),
}

/// A WebSocket to the gateway at this one of its addresses.
pub(super) async fn dial(
    options: &WorkerOptions,
    server: &ServerUrl,
    address: SocketAddr,
) -> Result<Socket, DialError> {
    let connected = timeout(CONNECT, connect(options, server, address)).await;
    let stream = connected.unwrap_or_else(|late| Err(late.into())).map_err(DialError::Unreachable)?;
    let request =
        request(options, server).map_err(|error| DialError::Unreachable(io::Error::other(error)))?;
    let upgrade = client_async_with_config(request, stream, Some(link::config()));
    match timeout(HANDSHAKE, upgrade).await {
        Err(_) => Err(DialError::TimedOut),
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(WsError::Http(reply))) => Err(refusal(reply.status(), reply.headers())),
        Ok(Err(WsError::Io(error))) => Err(DialError::Unreachable(error)),
        Ok(Err(error)) => Err(DialError::NotATunnel(error)),
    }
}

async fn connect(
    options: &WorkerOptions,
    server: &ServerUrl,
    address: SocketAddr,
) -> io::Result<Box<dyn Stream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    if let Err(error) = crate::socket::keep_unsent_small(&tcp) {
        tracing::debug!(%error, "the system does not bound what is unsent");
    }
    if !server.tls {
        return Ok(Box::new(tcp));
    }
    let name = ServerName::try_from(server.host.clone()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::clone(&options.tls));
    Ok(Box::new(Box::pin(connector.connect(name, tcp)).await?))
}

fn request(options: &WorkerOptions, server: &ServerUrl) -> Result<Request<()>, http::Error> {
    Request::get(server.to_string())
        .header(header::HOST, server.authority())
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key())
        .header(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
        .header(header::AUTHORIZATION, bearer(&options.key)?)
        .header(VERSION_HEADER, options.version.as_str())
        .body(())
}

fn bearer(key: &SecretString) -> Result<HeaderValue, http::Error> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn refusal(status: StatusCode, headers: &http::HeaderMap) -> DialError {
    let retry_after = || {
        let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
    };
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => DialError::Unauthorized(status),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => DialError::Busy(retry_after()),
        status => DialError::Refused(status),
    }
}
