//! Connections to places outside that are no backends: webhooks, buckets, log servers. HTTP takes one connection for
//! each exchange, to an address that was looked at first. Redirects are not followed.

mod guard;

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use synapse_core::config::snapshot::OutsideUrl;
use synapse_gateway::backend::http::TlsSetup;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long an exchange may take, from the look-up of the name to the answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long an address may take while there are others to try.
const NEXT_ADDRESS: Duration = Duration::from_secs(2);
/// What an answer's head may take.
const MOST_HEAD: usize = 16 * 1024;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// A byte stream, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Empty where nobody asked for it.
    pub(crate) body: Bytes,
}

/// Makes the connections; what they have in common is trust.
#[derive(Default)]
pub(crate) struct Outside {
    tls: TlsSetup,
}

impl Outside {
    /// Sends a request over HTTP/1.1. Of the answer's body, so many bytes are read; an answer with more is an error,
    /// but for 0: then nothing is read.
    ///
    /// # Errors
    /// Why there is no answer, on one line.
    pub(crate) async fn send(
        &self,
        url: &OutsideUrl,
        allow_private: bool,
        request: Request<Full<Bytes>>,
        most: usize,
    ) -> Result<Answer, String> {
        match tokio::time::timeout(PATIENCE, self.exchange(url, allow_private, request, most)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(describe(&*error)),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn exchange(
        &self,
        url: &OutsideUrl,
        allow_private: bool,
        request: Request<Full<Bytes>>,
        most: usize,
    ) -> Result<Answer, Error> {
        let tcp = self.connect(&url.host, url.port, allow_private).await?;
        let stream: Box<dyn Stream> = if url.https {
            Box::new(self.encrypt(&url.host, tcp, &[b"http/1.1"]).await?)
        } else {
            Box::new(tcp)
        };
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(MOST_HEAD).handshake(TokioIo::new(stream)).await?;
        let answer = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status().as_u16();
            let body = match most {
                0 => Bytes::new(),
                most => Limited::new(answer.into_body(), most).collect().await?.to_bytes(),
            };
            Ok(Answer { status, body })
        };
        let (mut connection, mut answer) = (Box::pin(connection), Box::pin(answer));
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // It may end as soon as it has brought the answer.
            _ended = &mut connection => answer.await,
        }
    }

    /// Looks a name up once, and connects to what was found then and to nothing else.
    pub(crate) async fn connect(
        &self,
        host: &str,
        port: u16,
        allow_private: bool,
    ) -> Result<TcpStream, Error> {
        let addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
        guard::check(&addresses, allow_private)?;
        let tcp = dial(&addresses).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    /// Speaks TLS with a host of this name, and within it one of these protocols.
    pub(crate) async fn encrypt(
        &self,
        host: &str,
        tcp: TcpStream,
        protocols: &[&[u8]],
    ) -> Result<TlsStream<TcpStream>, Error> {
        let mut config = self.tls.config(None)?;
        std::sync::Arc::make_mut(&mut config).alpn_protocols =
            protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from(host.to_owned())?;
        Ok(TlsConnector::from(config).connect(name, tcp).await?)
    }
}

/// An error and what is behind it, on one line.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

async fn dial(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (at, address) in addresses.iter().enumerate() {
        let patience = if at + 1 < addresses.len() { NEXT_ADDRESS } else { PATIENCE };
        match tokio::time::timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(late) => last = late.into(),
        }
    }
    Err(last)
}
