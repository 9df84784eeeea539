//! The authorities that may sign a server's certificate.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_native_certs::{CertificateResult, load_native_certs};

use crate::Error;

/// The variables that replace the system's authorities in OpenSSL and many other programs.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The authorities that may sign a server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorities<'a> {
    /// Those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. If neither is set, those of the system and of browsers: an image without any still
    /// has the latter.
    System,
    /// Those in this PEM file, and no others.
    File(&'a Path),
}

impl<'a> Authorities<'a> {
    /// Those in the file, or the system's without one.
    #[must_use]
    pub fn in_file_or_system(file: Option<&'a Path>) -> Self {
        file.map_or(Self::System, Self::File)
    }

    /// Reads their certificates.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Variable`] if nobody can be trusted.
    pub(crate) fn read(self) -> Result<RootCertStore, Error> {
        match self {
            Self::System => {
                let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
                of_system(VARIABLES.into_iter().find(is_set), load_native_certs())
            }
            Self::File(path) => in_file(path),
        }
    }
}

/// Returns the authorities that were found. `variable` is the one that names them, if one does.
fn of_system(variable: Option<&'static str>, found: CertificateResult) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    // The system's store often contains some that can't be read.
    roots.add_parsable_certificates(found.certs);
    match variable {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(variable) if roots.is_empty() => {
            let reason = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
            return Err(Error::Variable { variable, reason });
        }
        Some(_) => {}
    }
    Ok(roots)
}

fn in_file(path: &Path) -> Result<RootCertStore, Error> {
    let unusable = |reason: String| Error::File { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))? {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("holds no certificate".into()));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use rustls_native_certs::load_certs_from_paths;

    use super::*;

    const BAD_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn a_file_without_a_good_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, bad) = (folder.path().join("empty.pem"), folder.path().join("bad.pem"));
        std::fs::write(&empty, "").unwrap();
        std::fs::write(&bad, BAD_CERTIFICATE).unwrap();
        for path in [empty, bad, folder.path().join("missing.pem"), folder.path().to_owned()] {
            let error = Authorities::File(&path).read().unwrap_err();
            assert!(matches!(&error, Error::File { path: named, .. } if *named == path), "{error:?}");
            let text = format!("the file of authorities {}: ", path.display());
            assert!(error.to_string().starts_with(&text), "{error}");
        }
    }

    #[test]
    fn without_a_variable_browsers_authorities_are_trusted_even_if_the_system_has_none() {
        let roots = of_system(None, CertificateResult::default()).unwrap();
        assert_eq!(roots.len(), webpki_roots::TLS_SERVER_ROOTS.len());
    }

    #[test]
    fn a_variable_that_names_no_certificate_is_named_with_the_reason() {
        let missing = load_certs_from_paths(Some(Path::new("/missing.pem")), None);
        let error = of_system(Some("SSL_CERT_FILE"), missing).unwrap_err().to_string();
        assert!(error.starts_with("SSL_CERT_FILE names no certificate that can be read: "), "{error}");
        assert!(error.contains("/missing.pem"), "{error}");
        let error = of_system(Some("SSL_CERT_DIR"), CertificateResult::default()).unwrap_err().to_string();
        assert_eq!(error, "SSL_CERT_DIR names no certificate that can be read");
    }
}
