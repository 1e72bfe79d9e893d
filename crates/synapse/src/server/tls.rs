//! The listener's certificate: read from files, and read again when they change.

use std::{fmt, path::PathBuf, sync::Arc, time::SystemTime};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use synapse_core::config::snapshot::TlsFiles;
use tokio_rustls::TlsAcceptor;

/// The certificate that is current.
pub(crate) struct Certificates {
    files: TlsFiles,
    current: Arc<Current>,
    acceptor: TlsAcceptor,
    first_stamp: Stamp,
}

/// When the files were last changed.
pub(crate) type Stamp = [Option<SystemTime>; 2];

struct Current(ArcSwap<CertifiedKey>);

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current(…)")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Certificates {
    /// Reads the files.
    pub(crate) fn load(files: &TlsFiles) -> anyhow::Result<Self> {
        // Before reading: a change in between is then noticed as one.
        let first_stamp = stamp(files);
        let current = Arc::new(Current(ArcSwap::from_pointee(read(files)?)));
        let mut config =
            ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::clone(&current) as Arc<_>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { files: files.clone(), current, acceptor: TlsAcceptor::from(Arc::new(config)), first_stamp })
    }

    /// Reads the files again; connections from now on get what they hold.
    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        self.current.0.store(Arc::new(read(&self.files)?));
        Ok(())
    }

    /// When the files were last changed before they were first read.
    pub(crate) fn first_stamp(&self) -> Stamp {
        self.first_stamp
    }

    /// When the files were last changed, to notice that they were.
    pub(crate) fn stamp(&self) -> Stamp {
        stamp(&self.files)
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    let changed = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    [changed(&files.cert), changed(&files.key)]
}

fn read(files: &TlsFiles) -> anyhow::Result<CertifiedKey> {
    let describe = |path: &PathBuf| format!("{} cannot be read as PEM", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect)
        .with_context(|| describe(&files.cert))?;
    if chain.is_empty() {
        bail!("{} has no certificate", files.cert.display());
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).with_context(|| describe(&files.key))?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
        .with_context(|| format!("{} holds a key of a kind that is not supported", files.key.display()))?;
    let certified = CertifiedKey::new(chain, key);
    certified
        .keys_match()
        .with_context(|| format!("{} does not belong to {}", files.key.display(), files.cert.display()))?;
    Ok(certified)
}
