//! The authorities that vouch for backends.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

/// The variables that replace the system's authorities in OpenSSL and many other programs.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// No TLS with backends is possible. The operator has to act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("TLS: {0}")]
pub struct TlsError(String);

/// Returns a configuration that trusts the authorities of the system and of browsers, or only those that `SSL_CERT_FILE` or `SSL_CERT_DIR` names.
///
/// # Errors
/// [`TlsError`] if a variable names authorities that can't be read.
pub fn system_tls() -> Result<ClientConfig, TlsError> {
    let named =
        VARIABLES.into_iter().find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // The system's store often contains some that can't be read.
    roots.add_parsable_certificates(found.certs);
    match named {
        Some(name) if roots.is_empty() => {
            return Err(TlsError(format!("{name} names no certificate that can be read")));
        }
        Some(_) => {}
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
