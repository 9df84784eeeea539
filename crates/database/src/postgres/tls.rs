//! TLS to the server, with rustls.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

use super::tls_stream::Tls;
use super::trust::Trust;
use crate::Error;

/// Returns a connector that verifies servers as `trust` requires.
///
/// # Errors
/// [`Error::Address`] if the file with the authorities can't be read.
pub(super) fn connector(trust: Trust, ca_file: Option<&Path>) -> Result<Tls, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Address(error.to_string()))?;
    let config = match trust {
        Trust::AuthorityAndName => {
            builder.with_root_certificates(authorities(ca_file)?).with_no_client_auth()
        }
        Trust::Authority => {
            let roots = Arc::new(authorities(ca_file)?);
            let strict = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| Error::Address(error.to_string()))?;
            let verifier = Lenient { strict: Some(strict), provider };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
        }
        Trust::Plain | Trust::AnyCertificate => {
            let verifier = Lenient { strict: None, provider };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
        }
    };
    Ok(Tls::new(config))
}

/// The value of `sslrootcert` that means the system's authorities, as in libpq.
const SYSTEM: &str = "system";
/// The variables that replace the system's authorities in OpenSSL and many other programs.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Returns the authorities in the file. Without a file, returns only those that the variables name if they are set, and otherwise those of the
/// system and of browsers.
fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca_file.filter(|path| *path != Path::new(SYSTEM)) else {
        let named =
            VARIABLES.into_iter().find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
        let found = rustls_native_certs::load_native_certs();
        // The system's store often contains some that can't be read.
        roots.add_parsable_certificates(found.certs);
        if let Some(name) = named {
            if roots.is_empty() {
                let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
                return Err(Error::Address(format!("{name} names no certificate that can be read{why}")));
            }
        } else {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        return Ok(roots);
    };
    let unusable = |why: String| Error::Address(format!("the file of authorities {}: {why}", path.display()));
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))? {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("holds no certificate".into()));
    }
    Ok(roots)
}

/// A verifier that requires less than usual, as `sslmode` does in all clients of PostgreSQL: `require` accepts any certificate, `verify-ca` a
/// certificate for any name.
#[derive(Debug)]
struct Lenient {
    /// The verifier of the chain, if the chain is verified.
    strict: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(strict) = &self.strict else {
            return Ok(ServerCertVerified::assertion());
        };
        // rustls verifies the name last, so the chain is good here.
        match strict.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_trust_makes_a_connector() {
        for trust in [Trust::AnyCertificate, Trust::Authority, Trust::AuthorityAndName] {
            assert!(connector(trust, None).is_ok(), "{trust:?}");
        }
    }

    #[test]
    fn a_missing_or_empty_file_of_authorities_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        for path in [empty, folder.path().join("missing.pem")] {
            let Err(error) = connector(Trust::AuthorityAndName, Some(&path)) else {
                panic!("{} was taken", path.display());
            };
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
    }
}
