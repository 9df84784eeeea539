//! Where RabbitMQ is, and how to get there.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use lapin::uri::{AMQPScheme, AMQPUri};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use starling_settings::Url;
use starling_trust::{Authorities, Trust, client_config};

/// How often both sides say that they are alive, seconds. One that is silent for twice that time is taken for gone.
const HEARTBEAT_SECONDS: u16 = 10;
/// The largest frame, bytes. Larger messages come in several. The connection keeps 32 frames in each direction.
const FRAME_BYTES_MAX: u32 = 32 << 10;

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
                Some((Arc::new(tls(ca_file)?), name))
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

/// Returns the configuration of TLS: the certificate must be for the server's name, and of an authority in the file, if there is one.
fn tls(ca_file: Option<&Path>) -> Result<ClientConfig, (&'static str, String)> {
    let key = if ca_file.is_some() { "rabbitmq_ca_file" } else { "rabbitmq_url" };
    let trust = Trust::AuthorityAndName(Authorities::in_file_or_system(ca_file));
    client_config(trust).map_err(|error| (key, error.to_string()))
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
        assert!(key == "rabbitmq_ca_file" && why.contains("/missing.pem: "), "{why}");
    }
}
