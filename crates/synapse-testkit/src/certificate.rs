//! Certificates for `localhost`, made on the spot and trusted by nobody else.

use std::{fs, path::Path, sync::Arc};

use rcgen::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

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

    /// A connector that trusts this certificate alone and offers these protocols.
    ///
    /// # Panics
    /// When the certificate cannot be trusted.
    pub(crate) fn connector(&self, protocols: &[&[u8]]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.cert.der().clone()).expect("a certificate to trust");
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
