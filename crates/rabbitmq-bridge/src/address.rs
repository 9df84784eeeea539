//! Where RabbitMQ is, and how to get there.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use lapin::uri::{AMQPScheme, AMQPUri};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use starling_settings::Url;

/// How often both sides say that they are alive, seconds. One that is silent for twice that time is taken for gone.
const HEARTBEAT_SECONDS: u16 = 10;
/// The largest frame, bytes. Larger messages come in several. The connection keeps 32 frames in each direction.
const FRAME_BYTES_MAX: u32 = 32 << 10;
/// The variables that replace the system's authorities in OpenSSL and many other programs.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Where RabbitMQ is. `Debug` shows no password.
#[derive(Clone)]
pub(crate) struct Address {
    /// The credentials, the virtual host and the parameters. Its host is not used.
    pub uri: AMQPUri,
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    /// How the server is verified. `None`: it speaks no TLS.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    /// The key that is wrong, and why. Never a password.
    pub fn parse(url: &Url, ca_file: Option<&Path>) -> Result<Self, (&'static str, String)> {
        let bad = |why: &str| ("rabbitmq_url", why.to_owned());
        let mut uri: AMQPUri = url
            .expose()
            .parse()
            .map_err(|_| bad("is not an address such as amqp://USER:PASSWORD@HOST:PORT/VHOST"))?;
        // The parser of the client takes an IPv6 address for `localhost`.
        let parsed = url::Url::parse(url.expose()).map_err(|_| bad("is not a URL"))?;
        let host = parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad("has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        // Without a path the client takes the virtual host with the empty name.
        if parsed.path().is_empty() || parsed.path() == "/" {
            "/".clone_into(&mut uri.vhost);
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        uri.query.frame_max.get_or_insert(FRAME_BYTES_MAX);
        let tls = match uri.scheme {
            AMQPScheme::AMQP => None,
            AMQPScheme::AMQPS => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| bad("has a host that no certificate can name"))?;
                Some((Arc::new(trust(ca_file)?), name))
            }
        };
        Ok(Self { port: uri.authority.port, uri, host, tls })
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "amqps" } else { "amqp" };
        write!(f, "{scheme}://{}:{}/{}", self.host, self.port, self.uri.vhost)
    }
}

/// How the certificate of the server is checked.
fn trust(ca_file: Option<&Path>) -> Result<ClientConfig, (&'static str, String)> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ("rabbitmq_url", error.to_string()))?;
    let roots = match ca_file {
        Some(path) => authorities_in(path).map_err(|why| ("rabbitmq_ca_file", why))?,
        None => authorities(),
    };
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The authorities of the system and of browsers, or those that the variables name.
fn authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // The system's store often holds some that can't be read.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if !VARIABLES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

fn authorities_in(path: &Path) -> Result<RootCertStore, String> {
    let unusable = |why: String| format!("{}: {why}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))? {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() { Err(unusable("holds no certificate".into())) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, (&'static str, String)> {
        Address::parse(&Url::new(url), None)
    }

    #[test]
    fn host_port_and_virtual_host_are_read() {
        for (url, shown) in [
            ("amqp://h", "amqp://h:5672//"),
            ("amqp://u:p@h:1/", "amqp://h:1//"),
            ("amqp://u:p@h:1/%2f", "amqp://h:1//"),
            ("amqps://u:p@mq.example/v", "amqps://mq.example:5671/v"),
            ("amqp://[fd00::1]:7/v", "amqp://fd00::1:7/v"),
            ("amqps://10.0.0.1/v", "amqps://10.0.0.1:5671/v"),
        ] {
            assert_eq!(format!("{:?}", parse(url).unwrap()), shown, "{url}");
        }
        let uri = parse("amqp://ann:p%40ss@h").unwrap().uri;
        assert_eq!((uri.authority.userinfo.username.as_str(), uri.query.heartbeat), ("ann", Some(10)));
        assert_eq!(parse("amqp://h?heartbeat=3").unwrap().uri.query.heartbeat, Some(3));
    }

    #[test]
    fn a_bad_url_is_named_without_its_password() {
        for url in [
            "http://ann:hush@h",
            "amqp://ann:hush@h:port",
            "amqp://ann:hush@",
            "amqp://ann:hush@h?heartbeat=x",
        ] {
            let (key, why) = parse(url).map(|_| ()).unwrap_err();
            assert!(key == "rabbitmq_url" && !why.contains("hush"), "{url}: {why}");
        }
        assert!(!format!("{:?}", parse("amqp://ann:hush@h").unwrap()).contains("hush"));
    }

    #[test]
    fn a_file_without_authorities_is_named() {
        let (key, why) =
            Address::parse(&Url::new("amqps://h"), Some(Path::new("/missing.pem"))).map(|_| ()).unwrap_err();
        assert!(key == "rabbitmq_ca_file" && why.starts_with("/missing.pem: "), "{why}");
    }
}
