//! The certificate of the public port.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use starling_gateway::Certificate;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::examination::Examination;
use crate::config::Config;

/// How long before its end a certificate deserves a look: automatic renewals are then overdue.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// Examines the certificate, where the node speaks TLS.
pub fn examine(examination: &mut Examination, config: &Config) {
    examination.section("certificate");
    // One without the other was found with the configuration.
    let Ok(Some(files)) = config.gateway.tls() else {
        let local = config.gateway.listen.ip().is_loopback();
        let found =
            if local { "none is needed on loopback" } else { "none: TLS has to end at the load balancer" };
        return examination.good("tls_certificate_file", found);
    };
    let certificate = match Certificate::read(&files) {
        Ok(certificate) => certificate,
        Err(error) => {
            let advice = "both files must be PEM, readable to this user, and belong together";
            return examination.problem("tls_certificate_file", error.to_string(), advice);
        }
    };
    let Some(leaf) = certificate.leaf() else { return };
    match X509Certificate::from_der(&leaf) {
        Ok((_, leaf)) => examine_leaf(examination, &leaf),
        Err(error) => {
            examination.skipped(
                "tls_certificate_file",
                format!("the end of the certificate can't be read: {error}"),
            );
        }
    }
}

fn examine_leaf(examination: &mut Examination, leaf: &X509Certificate<'_>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = |timestamp: i64| Duration::from_secs(u64::try_from(timestamp).unwrap_or_default());
    let (begin, end) = (leaf.validity().not_before, leaf.validity().not_after);
    let renew = "renew it, and send the node SIGHUP: new connections then see the new one";
    let left = seconds(end.timestamp()).checked_sub(now);
    let days = |time: Duration| match time.as_secs() / 86_400 {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    };
    match left {
        None => examination.problem("end", format!("the certificate ended on {end}"), renew),
        Some(left) if left < SOON => {
            examination.warning("end", format!("the certificate ends in {}, on {end}", days(left)), renew);
        }
        Some(left) => examination.good("end", format!("in {}, on {end}", days(left))),
    }
    if seconds(begin.timestamp()) > now {
        examination.problem(
            "begin",
            format!("the certificate begins on {begin}"),
            "look at this machine's clock",
        );
    }
    match names(leaf) {
        names if names.is_empty() => examination.problem(
            "names",
            "the certificate names no host as a subject alternative name, so clients refuse it",
            "have one issued with the host's name",
        ),
        names => examination.good("names", names.join(", ")),
    }
}

/// The hosts that a certificate names.
fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress([a, b, c, d]) => Some(std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string()),
        GeneralName::IPAddress(bytes) => {
            <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string())
        }
        _ => None,
    };
    names.value.general_names.iter().filter_map(name).collect()
}
