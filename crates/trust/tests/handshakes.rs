//! Handshakes between a client with each kind of trust and a server, in memory.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConnection, Connection, ServerConfig, ServerConnection};
use starling_testkit::tls::Certificates;
use starling_trust::{Authorities, Trust, client_config, install_provider};

/// The flights of a handshake are fewer.
const FLIGHTS_MAX: usize = 10;
/// The name in the certificates.
const NAME: &str = "127.0.0.1";
const OTHER_NAME: &str = "other.test";

/// Shakes hands with the server under this name.
fn handshake(trust: Trust<'_>, server: &Certificates, name: &'static str) -> Result<()> {
    install_provider();
    let certificate = CertificateDer::from_pem_slice(server.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes())?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
    let mut server = Connection::from(ServerConnection::new(Arc::new(config))?);
    let name = ServerName::try_from(name)?;
    let mut client = Connection::from(ClientConnection::new(Arc::new(client_config(trust)?), name)?);
    for _ in 0..FLIGHTS_MAX {
        pass(&mut client, &mut server)?;
        pass(&mut server, &mut client)?;
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
    }
    bail!("the handshake does not end")
}

/// Passes what one side has written to the other.
fn pass(from: &mut Connection, to: &mut Connection) -> Result<()> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes)?;
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest)?;
        to.process_new_packets()?;
    }
    Ok(())
}

/// Shakes hands, which must fail, and returns what is wrong with the certificate.
fn refusal(trust: Trust<'_>, server: &Certificates, name: &'static str) -> Result<CertificateError> {
    let Err(error) = handshake(trust, server, name) else {
        bail!("{trust:?} accepts the certificate for {name}");
    };
    match error.downcast::<rustls::Error>().context("not an error of TLS")? {
        rustls::Error::InvalidCertificate(error) => Ok(error),
        other => bail!("{other}"),
    }
}

#[tokio::test]
async fn each_kind_of_trust_demands_what_it_says() -> Result<()> {
    let (known, stranger) = tokio::try_join!(Certificates::make(), Certificates::make())?;
    let file = known.folder.join("ca.crt");
    let authorities = Authorities::File(&file);

    handshake(Trust::AuthorityAndName(authorities), &known, NAME)?;
    let error = refusal(Trust::AuthorityAndName(authorities), &known, OTHER_NAME)?;
    ensure!(
        matches!(error, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
        "{error:?}"
    );
    handshake(Trust::Authority(authorities), &known, OTHER_NAME)?;
    handshake(Trust::AnyCertificate, &stranger, OTHER_NAME)?;

    // All have the same name, so it is the key that differs.
    for trust in [Trust::AuthorityAndName(authorities), Trust::Authority(authorities)] {
        ensure!(refusal(trust, &stranger, NAME).is_ok(), "{trust:?}");
    }
    for trust in [Trust::AuthorityAndName(Authorities::System), Trust::Authority(Authorities::System)] {
        ensure!(refusal(trust, &stranger, NAME)? == CertificateError::UnknownIssuer, "{trust:?}");
    }
    Ok(())
}
