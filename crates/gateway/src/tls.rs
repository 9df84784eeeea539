//! TLS on the public port, for those who end it nowhere else.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::Error;
use crate::config::TlsConfig;

/// Reads certificate and key.
pub(crate) fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, Error> {
    let unreadable = |key: &'static str, error: &dyn std::fmt::Display| Error::Tls(format!("{key}: {error}"));
    let chain = CertificateDer::pem_file_iter(&config.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable("tls_certificate_file", &error))?;
    let key =
        PrivateKeyDer::from_pem_file(&config.key).map_err(|error| unreadable("tls_key_file", &error))?;
    let mut tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| unreadable("tls_certificate_file", &error))?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}
