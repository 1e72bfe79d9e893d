//! Opening connections: name look-up, TCP, TLS with the system's and the operator's authorities.

use std::{
    error::Error,
    future::Future,
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use synapse_core::config::snapshot::{BackendSpec, Locality};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;

use super::inline::Inline;
use crate::backend::{BackendError, FailedAt, UpstreamBody};

/// How long an address may take while there are others to try.
const NEXT_ADDRESS: Duration = Duration::from_secs(1);

type Failure = Box<dyn Error + Send + Sync>;

/// A byte stream to a backend, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

type Io = TokioIo<Box<dyn Stream>>;

/// An open connection, driven by whoever holds it.
pub(super) struct Connection {
    pub(super) sender: SendRequest<UpstreamBody>,
    driver: Option<Box<http1::Connection<Io, UpstreamBody>>>,
    pub(super) inline: Inline,
}

impl Connection {
    /// Drives the connection; `Ready` once it has ended.
    pub(super) fn poll_driver(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(driver) = &mut self.driver else { return Poll::Ready(()) };
        // Its error reaches whoever waits for the head or the body.
        if Pin::new(driver.as_mut()).poll(cx).is_ready() {
            self.driver = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// The trust that upstream connections are checked against; loaded when first needed, since most
/// fleets have no TLS inside.
#[derive(Default)]
pub struct TlsSetup {
    system: OnceLock<Arc<ClientConfig>>,
}

impl TlsSetup {
    /// How to speak TLS when the authorities in `ca_file` are trusted besides the system's.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn config(&self, ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, Failure> {
        match ca_file {
            None => Ok(Arc::clone(self.system.get_or_init(|| client_config(system_roots())))),
            Some(path) => {
                let mut roots = system_roots();
                let mut added = 0;
                for certificate in CertificateDer::pem_file_iter(path).map_err(|e| describe(path, &e))? {
                    roots.add(certificate.map_err(|e| describe(path, &e))?)?;
                    added += 1;
                }
                if added == 0 {
                    return Err(format!("{} has no certificate in PEM form", path.display()).into());
                }
                Ok(client_config(roots))
            }
        }
    }
}

fn describe(path: &Path, error: &dyn Error) -> Failure {
    format!("{} cannot be read as PEM: {error}", path.display()).into()
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate of the system's trust store cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}

fn client_config(roots: RootCertStore) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// The name of a backend that must be in the house leads to an address that is not.
#[derive(Debug, thiserror::Error)]
#[error("the name leads to a public address; say `locality: cloud` or `on_prem` for the backend")]
pub struct LeadsOutside;

impl LeadsOutside {
    /// Whether that is why a call failed.
    pub fn is_why(error: &BackendError) -> bool {
        let io = error.detail.downcast_ref::<io::Error>();
        io.and_then(io::Error::get_ref).is_some_and(|inner| inner.is::<Self>())
    }
}

/// Opens connections to one backend.
pub(super) struct Connector {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    stays_in_house: bool,
    /// Where the latest connection led to.
    reached: AtomicU8,
}

const NOWHERE: u8 = 0;
const IN_HOUSE: u8 = 1;
const OUTSIDE: u8 = 2;

impl Connector {
    pub(super) fn new(spec: &BackendSpec, setup: &TlsSetup) -> Result<Self, Failure> {
        let tls = if spec.url.https {
            let name = ServerName::try_from(spec.url.host.clone())?;
            Some((
                TlsConnector::from(setup.config(spec.ca_file.as_ref().map(|file| file.path.as_path()))?),
                name,
            ))
        } else {
            None
        };
        Ok(Self {
            host: spec.url.host.clone(),
            port: spec.url.port,
            tls,
            stays_in_house: spec.is_confined,
            reached: AtomicU8::new(NOWHERE),
        })
    }

    /// Connects to no public address from now on.
    pub(super) fn stay_in_house(&mut self) {
        self.stays_in_house = true;
    }

    /// Where the latest connection led to.
    pub(super) fn reached(&self) -> Option<Locality> {
        match self.reached.load(Ordering::Relaxed) {
            IN_HOUSE => Some(Locality::OnPrem),
            OUTSIDE => Some(Locality::Cloud),
            _ => None,
        }
    }

    /// A new connection. Until it stands, nothing of a request has left the house.
    pub(super) async fn connect(&self) -> Result<Connection, BackendError> {
        self.open().await.map_err(|e| BackendError::new(FailedAt::Connect, e))
    }

    async fn open(&self) -> Result<Connection, Failure> {
        let tcp = self.tcp().await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some((connector, name)) => Box::new(connector.connect(name.clone(), tcp).await?),
        };
        let (sender, driver) =
            http1::Builder::new().max_buf_size(64 * 1024).handshake(TokioIo::new(stream)).await?;
        Ok(Connection { sender, driver: Some(Box::new(driver)), inline: Inline::new() })
    }

    /// Tries the name's addresses in turn; one that swallows packets must not hide the others.
    async fn tcp(&self) -> io::Result<TcpStream> {
        let mut addresses: Vec<SocketAddr> = lookup_host((self.host.as_str(), self.port)).await?.collect();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        if self.stays_in_house {
            // Here and not before: a name may lead elsewhere at any time.
            let found = addresses.len();
            addresses.retain(|address| Locality::of_address(address.ip()) == Locality::OnPrem);
            if addresses.len() < found {
                last = io::Error::new(io::ErrorKind::PermissionDenied, LeadsOutside);
            }
        }
        for (at, address) in addresses.iter().enumerate() {
            let connecting = TcpStream::connect(address);
            let connected = if at + 1 < addresses.len() {
                tokio::time::timeout(NEXT_ADDRESS, connecting).await.unwrap_or_else(|late| Err(late.into()))
            } else {
                connecting.await
            };
            match connected {
                Ok(stream) => {
                    let outside = Locality::of_address(address.ip()) == Locality::Cloud;
                    self.reached.store(if outside { OUTSIDE } else { IN_HOUSE }, Ordering::Relaxed);
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use synapse_core::config::snapshot::{BaseUrl, EngineKind, Timeouts};
    use tokio::net::TcpListener;

    use super::*;

    fn connector(host: &str, port: u16) -> Connector {
        let spec = BackendSpec {
            id: "b".into(),
            groups: Vec::new(),
            is_worker: false,
            kind: EngineKind::OpenAi,
            url: BaseUrl { https: false, host: host.into(), port, path: String::new() },
            api_key: None,
            locality: Locality::OnPrem,
            is_confined: false,
            timeouts: Timeouts::default(),
            max_in_flight: None,
            ca_file: None,
        };
        let mut connector = Connector::new(&spec, &TlsSetup::default()).expect("a connector");
        connector.stay_in_house();
        connector
    }

    #[tokio::test]
    async fn what_stays_in_the_house_does_not_even_try_a_public_address() {
        // An address for documentation, which nobody has.
        let connector = connector("203.0.113.1", 80);
        let refused = connector.tcp().await.expect_err("a refusal");
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(connector.reached(), None);
    }

    #[tokio::test]
    async fn why_no_connection_was_tried_can_be_told() {
        let refused = connector("203.0.113.1", 80).connect().await.map(drop).expect_err("a refusal");
        assert!(LeadsOutside::is_why(&refused));
        let closed = connector("127.0.0.1", 1).connect().await.map(drop).expect_err("nobody listens");
        assert!(!LeadsOutside::is_why(&closed));
    }

    #[tokio::test]
    async fn where_a_connection_led_is_known() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let connector = connector("localhost", listener.local_addr().expect("an address").port());
        connector.tcp().await.expect("a connection");
        assert_eq!(connector.reached(), Some(Locality::OnPrem));
    }
}
