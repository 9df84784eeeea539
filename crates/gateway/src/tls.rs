//! TLS on the public port, for operators who terminate it nowhere else.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsConfig;
use crate::error::Error;

/// The certificate that is presented to new connections. It can be replaced while the port serves; open connections keep theirs.
#[derive(Debug)]
pub struct Certificate {
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// Reads the certificate and its key from their files.
    ///
    /// # Errors
    /// [`Error::Tls`] if the files can't be read or do not belong together.
    pub fn read(config: &TlsConfig) -> Result<Arc<Certificate>, Error> {
        Ok(Arc::new(Certificate { current: RwLock::new(read(config)?) }))
    }

    /// Reads both files and presents their certificate to new connections from now on. Returns whether it has changed.
    ///
    /// # Errors
    /// [`Error::Tls`] if the files can't be read or do not belong together. Then the earlier certificate stays.
    pub fn replace(&self, config: &TlsConfig) -> Result<bool, Error> {
        let new = read(config)?;
        let old = std::mem::replace(&mut *self.current.write(), new.clone());
        Ok(old.cert != new.cert)
    }

    /// Returns the certificate of the node itself, without those of its authorities.
    pub fn leaf(&self) -> Option<CertificateDer<'static>> {
        self.current.read().cert.first().cloned()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().clone())
    }
}

/// Returns an acceptor that presents this certificate.
pub(crate) fn acceptor(certificate: Arc<Certificate>) -> TlsAcceptor {
    let mut tls = ServerConfig::builder().with_no_client_auth().with_cert_resolver(certificate);
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(tls))
}

fn read(config: &TlsConfig) -> Result<Arc<CertifiedKey>, Error> {
    let unreadable = |key: &'static str, error: &dyn std::fmt::Display| Error::Tls(format!("{key}: {error}"));
    let chain = CertificateDer::pem_file_iter(&config.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable("tls_certificate_file", &error))?;
    let key =
        PrivateKeyDer::from_pem_file(&config.key).map_err(|error| unreadable("tls_key_file", &error))?;
    let provider = CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(default_provider()));
    let certified = CertifiedKey::from_der(chain, key, &provider);
    certified.map(Arc::new).map_err(|error| unreadable("tls_certificate_file", &error))
}
