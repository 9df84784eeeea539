//! The settings of webhooks and hooks.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use starling_settings::{DAY_SECONDS, elements, parsed, seconds, settings};
use starling_webhooks::Networks;

settings! {
    /// What an operator can set about webhooks and hooks.
    pub struct WebhookSettings {
        /// Addresses (`10.0.0.1`) and networks (`10.0.0.0/8`, `fd00::/8`), comma-separated, that webhooks and hooks may go to besides
        /// the public Internet; there also without TLS. Whoever may set webhooks can make the nodes send requests there.
        setting allowed_networks: AllowedNetworks = { Webhooks "webhook_allowed_networks" parsed("LIST", AllowedNetworks::parse) }
        /// How long one attempt to deliver an event to a webhook may take.
        setting timeout: Duration = { Webhooks "webhook_timeout_seconds" seconds(10, 1..=60) }
        /// A webhook whose attempts have all failed for this long is paused.
        setting pause_after: Duration = { Webhooks "webhook_pause_after_seconds" seconds(86_400, 1..=30 * DAY_SECONDS) }
    }
}

/// The networks that requests may go to besides the public Internet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedNetworks(Vec<IpNet>);

impl AllowedNetworks {
    /// Reads a list of addresses and networks with commas between them.
    fn parse(text: &str) -> Result<Self, String> {
        let network = |entry: &str| match entry.parse::<IpAddr>() {
            Ok(address) => Ok(IpNet::from(address.to_canonical())),
            Err(_) => entry
                .parse()
                .map_err(|_| format!("`{entry}` is neither an address nor a network such as 10.0.0.0/8")),
        };
        elements(text).map(network).collect::<Result<_, _>>().map(Self)
    }

    /// Returns all addresses that requests may go to.
    pub(crate) fn networks(&self) -> Networks {
        Networks::new(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_are_allowed_and_nothing_else_is_read() {
        let allowed =
            AllowedNetworks::parse(" 127.0.0.1, ::ffff:10.0.0.1,192.168.0.0/16 ,fd00::/8,").unwrap();
        let networks = allowed.networks();
        for address in ["127.0.0.1", "10.0.0.1", "192.168.3.4", "fd00::1", "1.1.1.1"] {
            assert!(networks.check(address.parse().unwrap()).is_ok(), "{address}");
        }
        for address in ["127.0.0.2", "10.0.0.2", "::1"] {
            assert!(networks.check(address.parse().unwrap()).is_err(), "{address}");
        }
        assert_eq!(AllowedNetworks::parse(""), Ok(AllowedNetworks::default()));
        for wrong in ["localhost", "10.0.0.0/33", "*", "10.0.0.1:80"] {
            assert!(AllowedNetworks::parse(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
    }
}
