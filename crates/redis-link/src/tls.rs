use fred::types::config::{TlsConfig, TlsConnector};
use starling_trust::{Authorities, Trust, client_config};

use crate::Error;

/// Returns the configuration of TLS: the server's certificate must be for its name, and of an authority of the system or of browsers.
pub(crate) fn config() -> Result<TlsConfig, Error> {
    let config = client_config(Trust::AuthorityAndName(Authorities::System));
    Ok(TlsConnector::from(config.map_err(|error| Error::Address(error.to_string()))?).into())
}
