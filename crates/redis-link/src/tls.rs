use std::sync::Arc;

use fred::types::config::{TlsConfig, TlsConnector};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

use crate::Error;

/// Returns the configuration of TLS. It trusts the system's authorities, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
pub(crate) fn config() -> Result<TlsConfig, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // The system's store often contains some that can't be read.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        return Err(Error::Address(format!("no certificate authority can be read, and TLS needs one{why}")));
    }
    // With a provider of its own, so that none need be installed for the whole process.
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Address(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(config).into())
}
