//! Who may come in by the public port: rules that the listener, WebSocket handshakes and HTTP requests share.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Request};

use crate::addresses::{AddressGuard, Addresses, Refusal};
use crate::config::GatewayConfig;
use crate::host::{self, BadHost};
use crate::pages::{Pages, Target};
use crate::proxies::Proxies;

/// Who may come in by the public port.
pub(crate) struct Access {
    /// What pages of browsers may do.
    pub pages: Pages,
    /// Limits of one address.
    pub addresses: Arc<Addresses>,
    /// The load balancers that speak for their clients.
    pub proxies: Proxies,
    /// Whether the public port speaks TLS.
    uses_tls: bool,
}

impl Access {
    /// The rules of a configuration.
    pub fn new(config: &GatewayConfig) -> Access {
        Access {
            pages: Pages::new(config.origins.clone()),
            addresses: Addresses::new(config.address_limits),
            proxies: config.trusted_proxies.clone(),
            uses_tls: config.tls_certificate.is_some(),
        }
    }

    /// Whether the public port speaks TLS.
    pub fn uses_tls(&self) -> bool {
        self.uses_tls
    }

    /// Counts in the peer of a new connection. A trusted load balancer is not counted: its clients are.
    pub fn enter_peer(&self, peer: IpAddr) -> Result<Option<AddressGuard>, Refusal> {
        if self.proxies.trusts(peer) { Ok(None) } else { self.addresses.enter(peer) }
    }

    /// Counts in the client that a trusted load balancer speaks for.
    pub fn enter_client(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Option<AddressGuard>, Refusal> {
        self.proxies.client(peer, headers).map_or(Ok(None), |client| self.addresses.enter(client))
    }

    /// The host that a request was sent to, as its client sees it.
    pub fn target<'a, B>(&self, peer: IpAddr, request: &'a Request<B>) -> Result<Target<'a>, BadHost> {
        let authority = host::requested(request.version(), request.uri(), request.headers())?;
        let by_proxy = self.proxies.client_used_tls(peer, request.headers());
        Ok(Target { authority, secure: by_proxy.unwrap_or(self.uses_tls) })
    }
}
