//! Reading a `postgres://` URL. The parameters of TLS are read here, all others by tokio-postgres.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Host, SslMode};

use super::error::chain;
use super::hosts::HOSTS_MAX;
use super::ssl_mode::Demand;
use super::tls;
use super::tls_stream::Tls;
use crate::Error;

/// A parsed URL.
#[derive(Debug)]
pub(super) struct Dsn {
    pub(super) config: tokio_postgres::Config,
    pub(super) demand: Demand,
    /// The URL's `sslrootcert`.
    pub(super) ca_file: Option<PathBuf>,
}

impl Dsn {
    /// # Errors
    /// [`Error::Address`], without repeating the URL.
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        // Files and variables often end with a line end.
        let url = url.trim();
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut ssl_mode, mut ca_file, mut rest) = (None, None, Vec::<&str>::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => ssl_mode = Some(value),
                Some(("sslrootcert", value)) => ca_file = Some(percent_decoded(value)?.into()),
                _ => rest.push(pair),
            }
        }
        // As in libpq: with all authorities of the system, the host's name must be verified.
        let of_the_system = ca_file.as_ref().is_some_and(|file: &PathBuf| file.as_os_str() == "system");
        let ssl_mode = match ssl_mode {
            None if of_the_system => "verify-full",
            Some(mode) if of_the_system && mode != "verify-full" => {
                return Err(Error::Address("sslrootcert=system needs sslmode=verify-full".into()));
            }
            mode => mode.unwrap_or("prefer"),
        };
        let mut known = base.to_owned();
        if !rest.is_empty() {
            known.push('?');
            known.push_str(&rest.join("&"));
        }
        let mut config =
            tokio_postgres::Config::from_str(&known).map_err(|error| Error::Address(chain(&error)))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(Error::Address("names no host".into()));
        }
        let (hosts, ports) =
            (config.get_hosts().len().max(config.get_hostaddrs().len()), config.get_ports().len());
        if hosts > HOSTS_MAX {
            return Err(Error::Address(format!("names {hosts} hosts; {HOSTS_MAX} are the most")));
        }
        if ports > 1 && ports != hosts {
            return Err(Error::Address(format!("names {hosts} hosts and {ports} ports")));
        }
        if config.get_application_name().is_none() {
            config.application_name("starling");
        }

        let only_sockets = config.get_hostaddrs().is_empty()
            && config.get_hosts().iter().all(|host| !matches!(host, Host::Tcp(_)));
        let (mode, mut demand) = match ssl_mode {
            "disable" => (SslMode::Disable, Demand::Plain),
            "allow" | "prefer" => (SslMode::Prefer, Demand::AnyCertificate),
            // As in libpq: if the URL names an authority, the chain is verified.
            "require" if ca_file.is_some() => (SslMode::Require, Demand::Authority),
            "require" => (SslMode::Require, Demand::AnyCertificate),
            "verify-ca" => (SslMode::Require, Demand::Authority),
            "verify-full" => (SslMode::Require, Demand::AuthorityAndName),
            other => return Err(Error::Address(format!("sslmode={other} is unknown"))),
        };
        if only_sockets && mode == SslMode::Require {
            return Err(Error::Address(format!("sslmode={ssl_mode} does not go with a Unix socket")));
        }
        config.ssl_mode(if only_sockets { SslMode::Disable } else { mode });
        if only_sockets {
            demand = Demand::Plain;
        }
        Ok(Self { config, demand, ca_file })
    }

    /// Returns the connector for the URL's `sslmode`; `None` without TLS. `ca_file` applies if the URL names no file of authorities.
    ///
    /// # Errors
    /// [`Error::Address`] if the file can't be used.
    pub(super) fn tls(&self, ca_file: Option<&Path>) -> Result<Option<Tls>, Error> {
        tls::connector(self.demand, self.ca_file.as_deref().or(ca_file))
    }
}

/// Checks that a URL and the file of authorities that it names can be used. Connects to nothing.
///
/// # Errors
/// [`Error::Address`] if they can't.
pub fn check_url(url: &str, ca_file: Option<&Path>) -> Result<(), Error> {
    Dsn::parse(url)?.tls(ca_file).map(drop)
}

/// Decodes `%2F` and the like.
fn percent_decoded(text: &str) -> Result<String, Error> {
    let bad = || Error::Address("sslrootcert is not properly percent-encoded".into());
    let is_byte = |rest: &str| {
        rest.as_bytes().first_chunk::<2>().is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_byte) {
        return Err(bad());
    }
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssl_modes_say_what_is_demanded() {
        for (query, demand, mode) in [
            ("", Demand::AnyCertificate, SslMode::Prefer),
            ("?sslmode=disable", Demand::Plain, SslMode::Disable),
            ("?sslmode=require", Demand::AnyCertificate, SslMode::Require),
            ("?sslmode=require&sslrootcert=%2Fca.pem", Demand::Authority, SslMode::Require),
            ("?sslrootcert=system", Demand::AuthorityAndName, SslMode::Require),
            ("?sslrootcert=system&sslmode=verify-full", Demand::AuthorityAndName, SslMode::Require),
            ("?sslmode=verify-ca", Demand::Authority, SslMode::Require),
            ("?connect_timeout=9&sslmode=verify-full", Demand::AuthorityAndName, SslMode::Require),
        ] {
            let dsn = Dsn::parse(&format!("postgres://u:p@db.example:6432/d{query}")).unwrap();
            assert_eq!((dsn.demand, dsn.config.get_ssl_mode()), (demand, mode), "{query}");
        }
        let dsn = Dsn::parse("postgres://u@h/d?sslrootcert=/a%20b.pem&sslmode=verify-full").unwrap();
        assert_eq!(dsn.ca_file, Some("/a b.pem".into()));
    }

    #[test]
    fn white_space_around_the_url_is_not_part_of_it() {
        let dsn = Dsn::parse(" postgres://u@h/data\r\n").unwrap();
        assert_eq!(dsn.config.get_dbname(), Some("data"));
    }

    #[test]
    fn a_unix_socket_needs_no_tls() {
        let dsn = Dsn::parse("postgres:///d?host=/run/postgresql&user=u").unwrap();
        assert_eq!((dsn.demand, dsn.config.get_ssl_mode()), (Demand::Plain, SslMode::Disable));
        let error = Dsn::parse("postgres:///d?host=/run/postgresql&sslmode=require").unwrap_err();
        assert!(error.to_string().contains("Unix socket"), "{error}");
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_the_password() {
        for url in [
            "postgres://u:hunter2@h:notaport/d",
            "postgres://u:hunter2@h/d?sslmode=maybe",
            "postgres://u:hunter2@h/d?unknown=1",
            "postgres://u:hunter2@h/d?sslrootcert=%zz",
            "postgres://u:hunter2@h/d?sslrootcert=system&sslmode=require",
            "postgres://u:hunter2@h/d?channel_binding=maybe",
            "postgres://u:hunter2@a,b,c/d?port=1,2",
            "postgres:///d",
        ] {
            let error = Dsn::parse(url).unwrap_err();
            assert!(matches!(error, Error::Address(_)), "{url}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
