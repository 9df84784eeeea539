//! What a client demands of a server's certificate, as rustls takes it.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

use crate::unnamed::Unnamed;
use crate::{Authorities, Error};

/// What a client demands of a server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust<'a> {
    /// Nothing: the connection is encrypted, but the server is not verified.
    AnyCertificate,
    /// That one of these authorities has signed it, for whatever name.
    Authority(Authorities<'a>),
    /// That one of these authorities has signed it, for the server's name.
    AuthorityAndName(Authorities<'a>),
}

/// Returns the configuration of a client with this trust. It presents no certificate of its own, and works without a provider of the process.
///
/// # Errors
/// [`Error`] if the authorities can't be read.
pub fn client_config(trust: Trust<'_>) -> Result<ClientConfig, Error> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Configuration(error.to_string()))?;
    let verifier = match trust {
        Trust::AuthorityAndName(authorities) => {
            return Ok(builder.with_root_certificates(authorities.read()?).with_no_client_auth());
        }
        Trust::Authority(authorities) => Unnamed::signed_by(authorities.read()?, provider)?,
        Trust::AnyCertificate => Unnamed::signed_by_anybody(provider),
    };
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// Gives the process the provider of cryptography that all its TLS uses, for libraries that bring none.
pub fn install_provider() {
    // An error means that one is installed already, which is as good.
    let _ = aws_lc_rs::default_provider().install_default();
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
