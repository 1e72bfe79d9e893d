//! Certificates for `localhost`, made on the spot and trusted by nobody else.

use std::{fs, path::Path, sync::Arc};

use rcgen::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A self-signed certificate with its key.
pub struct Authority {
    certificate: CertifiedKey<rcgen::KeyPair>,
}

impl Authority {
    /// A fresh one.
    ///
    /// # Panics
    /// When there is no randomness for a key.
    pub fn new() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        Self { certificate: rcgen::generate_simple_self_signed(names).expect("a certificate") }
    }

    /// Writes `tls.crt` and `tls.key` into `folder`.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn write_to(&self, folder: &Path) {
        fs::write(folder.join("tls.key"), self.certificate.signing_key.serialize_pem()).expect("a key");
        fs::write(folder.join("tls.crt"), self.certificate.cert.pem()).expect("a certificate");
    }

    /// The certificate.
    pub(crate) fn pem(&self) -> String {
        self.certificate.cert.pem()
    }

    /// What a client knows that trusts this certificate alone and offers these protocols.
    ///
    /// # Panics
    /// When the certificate cannot be trusted.
    pub fn client_config(&self, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.cert.der().clone()).expect("a certificate to trust");
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }

    /// A connector of such a client.
    pub(crate) fn connector(&self, protocols: &[&[u8]]) -> TlsConnector {
        TlsConnector::from(self.client_config(protocols))
    }

    /// What takes TLS off connections with this certificate.
    ///
    /// # Panics
    /// When the certificate does not fit its key.
    pub fn acceptor(&self) -> TlsAcceptor {
        let key = PrivatePkcs8KeyDer::from(self.certificate.signing_key.serialize_der());
        let chain = vec![self.certificate.cert.der().clone()];
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key.into());
        TlsAcceptor::from(Arc::new(config.expect("a certificate with its key")))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
