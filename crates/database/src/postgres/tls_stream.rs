//! TLS streams for tokio-postgres with channel binding.
//!
//! Channel binding of the type `tls-server-end-point` (RFC 5929, section 4.1) proves to both ends that there is no third party in between:
//! the proof of the password covers a digest of the server's certificate. URLs of hosted databases require it by
//! `channel_binding=require`.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

/// Makes TLS connections with one configuration.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

impl Tls {
    pub(super) fn new(mut config: ClientConfig) -> Self {
        // With `sslnegotiation=direct`, PostgreSQL refuses a TLS connection without it.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Self(Arc::new(config))
    }
}

impl<S> MakeTlsConnect<S> for Tls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type TlsConnect = Handshake;
    type Error = InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, InvalidDnsNameError> {
        let server = ServerName::try_from(host)?.to_owned();
        Ok(Handshake { connector: Arc::clone(&self.0).into(), server })
    }
}

/// A handshake with one server, not yet begun.
pub(super) struct Handshake {
    connector: TlsConnector,
    server: ServerName<'static>,
}

impl<S> TlsConnect<S> for Handshake
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { self.connector.connect(self.server, stream).await.map(Stream) })
    }
}

/// An encrypted connection.
pub(super) struct Stream<S>(tokio_rustls::client::TlsStream<S>);

impl<S> TlsStream for Stream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn channel_binding(&self) -> ChannelBinding {
        let certificates = self.0.get_ref().1.peer_certificates().unwrap_or_default();
        let certificate = certificates.first().map(|certificate| certificate.as_ref());
        match certificate.and_then(|bytes| Some((bytes, end_point_digest(bytes)?))) {
            Some((bytes, algorithm)) => {
                ChannelBinding::tls_server_end_point(digest(algorithm, bytes).as_ref().to_vec())
            }
            None => ChannelBinding::none(),
        }
    }
}

impl<S> AsyncRead for Stream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S> AsyncWrite for Stream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Returns the digest algorithm for the binding to a certificate: that of its signature, but SHA-256 in place of MD5 and SHA-1. `None` if
/// RFC 5929 defines none (Ed25519), and for bytes that are no certificate.
fn end_point_digest(certificate: &[u8]) -> Option<&'static Algorithm> {
    // Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signature }
    let (certificate, _) = element(SEQUENCE, certificate)?;
    let (_, rest) = element(SEQUENCE, certificate)?;
    let (algorithm, _) = element(SEQUENCE, rest)?;
    let (object, parameters) = element(OBJECT, algorithm)?;
    if object == RSA_PSS {
        // RSASSA-PSS-params ::= SEQUENCE { [0] hashAlgorithm DEFAULT sha1, … }
        let (parameters, _) = element(SEQUENCE, parameters)?;
        let Some((hash, _)) = element(CONTEXT_0, parameters) else { return Some(&SHA256) };
        let (hash, _) = element(SEQUENCE, hash)?;
        return digest_of(element(OBJECT, hash)?.0);
    }
    digest_of(object)
}

/// DER's tags.
const SEQUENCE: u8 = 0x30;
const OBJECT: u8 = 0x06;
const CONTEXT_0: u8 = 0xa0;

/// The contents of DER's object identifiers. RSA's are 1.2.840.113549.1.1.N, ECDSA's 1.2.840.10045.4.3.N, those of the SHA-2
/// family 2.16.840.1.101.3.4.2.N.
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
const DIGESTS: [(&[u8], &Algorithm); 13] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04], &SHA256), // md5WithRSAEncryption
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], &SHA256), // sha1WithRSAEncryption
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b], &SHA256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c], &SHA384),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d], &SHA512),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], &SHA256), // ecdsa-with-SHA1
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02], &SHA256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03], &SHA384),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04], &SHA512),
    (&[0x2b, 0x0e, 0x03, 0x02, 0x1a], &SHA256), // sha1
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01], &SHA256),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02], &SHA384),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03], &SHA512),
];

fn digest_of(object: &[u8]) -> Option<&'static Algorithm> {
    DIGESTS.iter().find(|(known, _)| *known == object).map(|(_, algorithm)| *algorithm)
}

/// Splits off the first element if it has this tag. Returns its content and the rest.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = bytes.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        // A length of up to four bytes.
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an element with this content.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82, length[0], length[1]], content].concat()
    }

    fn certificate(object: &[u8], parameters: &[u8]) -> Vec<u8> {
        let algorithm = der(SEQUENCE, &[der(OBJECT, object), parameters.to_vec()].concat());
        der(SEQUENCE, &[der(SEQUENCE, &[7; 300]), algorithm, der(0x03, &[0; 256])].concat())
    }

    #[test]
    fn a_certificate_is_bound_by_the_digest_of_its_signature() {
        for (object, algorithm) in DIGESTS {
            assert_eq!(end_point_digest(&certificate(object, &[])), Some(algorithm));
            let hash = der(CONTEXT_0, &der(SEQUENCE, &der(OBJECT, object)));
            let parameters = der(SEQUENCE, &hash);
            assert_eq!(end_point_digest(&certificate(RSA_PSS, &parameters)), Some(algorithm));
        }
        assert_eq!(end_point_digest(&certificate(RSA_PSS, &der(SEQUENCE, &[]))), Some(&SHA256));
        assert_eq!(end_point_digest(&certificate(&[0x2b, 0x65, 0x70], &[])), None, "Ed25519");
    }

    #[test]
    fn what_is_no_certificate_has_no_digest() {
        let whole = certificate(DIGESTS[2].0, &[]);
        // The signature itself is not read.
        for end in 0..whole.len() - 260 {
            assert_eq!(end_point_digest(&whole[..end]), None, "{end}");
        }
        for bytes in [&[0x30, 0x85, 1, 1, 1, 1, 1][..], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30]] {
            assert_eq!(end_point_digest(bytes), None);
        }
    }
}
