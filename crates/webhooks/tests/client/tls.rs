//! Backends with TLS.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use starling_testkit::tls::Certificates;
use starling_webhooks::{Client, Outcome};
use tokio_rustls::TlsAcceptor;

use crate::backend::{Backend, Names, answer_all, client_with, deliver, local_client, system_tls};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

async fn backend(certificates: &Certificates) -> Result<Backend> {
    let certificate = CertificateDer::from_pem_slice(certificates.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(certificates.key.as_bytes())?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Backend::start(move |stream| {
        let acceptor = acceptor.clone();
        async move { answer_all(acceptor.accept(stream).await?, OK).await }
    })
    .await
}

async fn reason(client: &Client, url: &str) -> Result<String> {
    match deliver(client, url).await?.outcome {
        Outcome::Failed { reason, .. } => Ok(reason),
        outcome => anyhow::bail!("{url}: {outcome:?}"),
    }
}

#[tokio::test]
async fn a_backend_must_have_a_certificate_for_its_name_by_a_known_authority() -> Result<()> {
    let certificates = Certificates::make().await?;
    let backend = backend(&certificates).await?;
    let (port, names) = (backend.address.port(), Arc::new(Names::default()));
    names.set("other.test", &[&["127.0.0.1"]]);
    let tls = Arc::into_inner(certificates.client()?).context("a configuration")?;
    let client = client_with(&["127.0.0.0/8"], names, tls);
    let url = format!("https://127.0.0.1:{port}/");
    ensure!(deliver(&client, &url).await?.outcome == Outcome::Delivered);
    let wrong_name = reason(&client, &format!("https://other.test:{port}/")).await?;
    ensure!(wrong_name.starts_with("TLS:"), "{wrong_name}");
    let unknown = reason(&local_client(), &url).await?;
    ensure!(unknown.starts_with("TLS:"), "{unknown}");
    Ok(())
}

#[tokio::test]
async fn a_backend_without_tls_behind_https_is_a_failure() -> Result<()> {
    let backend = Backend::answering(OK).await?;
    let client = client_with(&["127.0.0.0/8"], Arc::new(Names::default()), system_tls()?);
    let reason = reason(&client, &format!("https://{}/", backend.address)).await?;
    ensure!(reason.starts_with("TLS:"), "{reason}");
    Ok(())
}
