//! TLS to the server, as the URL's `sslmode` demands it.

use std::path::Path;

use starling_trust::{Authorities, Trust, client_config};

use super::ssl_mode::Demand;
use super::tls_stream::Tls;
use crate::Error;

/// The value of `sslrootcert` that means the system's authorities, as in libpq.
const SYSTEM: &str = "system";

/// Returns a connector that verifies servers as the URL demands; `None` without TLS.
///
/// # Errors
/// [`Error::Address`] if the authorities can't be read.
pub(super) fn connector(demand: Demand, ca_file: Option<&Path>) -> Result<Option<Tls>, Error> {
    let authorities = Authorities::in_file_or_system(ca_file.filter(|path| *path != Path::new(SYSTEM)));
    let trust = match demand {
        Demand::Plain => return Ok(None),
        Demand::AnyCertificate => Trust::AnyCertificate,
        Demand::Authority => Trust::Authority(authorities),
        Demand::AuthorityAndName => Trust::AuthorityAndName(authorities),
    };
    let config = client_config(trust).map_err(|error| Error::Address(error.to_string()))?;
    Ok(Some(Tls::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_of_authorities_is_named_where_it_is_needed() {
        let missing = Path::new("/missing.pem");
        for demand in [Demand::Authority, Demand::AuthorityAndName] {
            let Err(error) = connector(demand, Some(missing)) else { panic!("{demand:?} does without") };
            let expected = "database_url: the file of authorities /missing.pem: ";
            assert!(error.to_string().starts_with(expected), "{error}");
        }
        assert!(matches!(connector(Demand::AnyCertificate, Some(missing)), Ok(Some(_))));
        assert!(matches!(connector(Demand::Plain, Some(missing)), Ok(None)));
    }

    #[test]
    fn system_is_not_the_name_of_a_file() {
        assert!(matches!(connector(Demand::AuthorityAndName, Some(Path::new(SYSTEM))), Ok(Some(_))));
    }
}
