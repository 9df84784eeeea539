//! From an HTTP request to a WebSocket (RFC 6455, section 4.2).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse;
use http::header::{ALLOW, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_VERSION};
use http::header::{SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use starling_auth::Identity;
use starling_hub::CommandError;
use starling_telemetry::current_traceparent;
use starling_wire::protocol::Encoding;
use starling_wire::websocket;
use starling_wire::websocket::deflate::{self, DeflateConfig, Params};

use crate::access::Access;
use crate::addresses::AddressGuard;
use crate::admission::Admission;
use crate::http::auth::{authenticate, bearer};
use crate::http::error::ApiError;
use crate::lifecycle::Lifecycle;
use crate::metrics::{HandshakeRefusal, METRICS};
use crate::pages::{Page, Target};
use crate::shard::{Env, Service};

/// A request for a WebSocket.
pub(crate) struct Upgrade<'a, B> {
    pub request: &'a Request<B>,
    /// The address of the other end.
    pub peer: IpAddr,
    pub target: Target<'a>,
    pub page: Page,
    /// How long its connection waited for its first turn.
    pub waited: Duration,
}

/// What a handshake agreed on.
pub(crate) struct Agreed {
    pub encoding: Encoding,
    pub deflate: Option<Params>,
    /// Who the token of the request says the client is.
    pub identity: Option<Identity>,
    /// Counts the client for which a load balancer forwards the handshake.
    pub client: Option<AddressGuard>,
    pub traceparent: Option<Box<str>>,
}

/// A handshake that is refused.
pub(crate) struct Refused {
    reason: HandshakeRefusal,
    /// The status, where it is not the usual one of the error's code.
    status: Option<StatusCode>,
    error: CommandError,
}

/// The checks that every handshake must pass: address, origin, load, drain.
pub(crate) struct Gate {
    /// Addresses and origins that may connect.
    pub access: Arc<Access>,
    /// The limit on handshakes per second, and the wait for it.
    pub admission: Arc<Admission>,
    /// Whether the node drains, and so accepts no new clients.
    pub lifecycle: Arc<Lifecycle>,
}

/// Agrees to a WebSocket, or refuses it. Returns what was agreed on, and the response that says so.
pub(crate) async fn agree<B>(
    gate: &Gate,
    env: &Env,
    upgrade: &Upgrade<'_, B>,
) -> Result<(Agreed, Response<Body>), Refused> {
    let headers = upgrade.request.headers();
    let accept = check_request(upgrade)?;
    let client = gate.admit(upgrade)?;
    let chosen = choose_encoding(&env.service, headers)?;
    let identity = identify(&env.service, headers).await?;
    let mut response = switching_protocols(&accept, chosen);
    let deflate = negotiate_deflate(env.settings.deflate, headers, response.headers_mut());
    let encoding = chosen.unwrap_or(Encoding::Json);
    let traceparent = current_traceparent().map(Into::into);
    Ok((Agreed { encoding, deflate, identity, client, traceparent }, response))
}

/// Checks that a request asks for a WebSocket as section 4.2.1 wants it. Returns the value of `Sec-WebSocket-Accept`.
fn check_request<B>(upgrade: &Upgrade<'_, B>) -> Result<String, Refused> {
    let Upgrade { request, target, .. } = upgrade;
    if request.method() != Method::GET {
        let error = CommandError::bad_request("a WebSocket begins with GET");
        return Err(Refused::new(HandshakeRefusal::Method, error).with_status(StatusCode::METHOD_NOT_ALLOWED));
    }
    // A proxy that speaks HTTP/1.0 to its servers would not pass on what follows, either.
    if request.version() < Version::HTTP_11 {
        return Err(Refused::bad_request("a WebSocket begins with a request by HTTP/1.1 or later"));
    }
    if target.authority.is_none() {
        return Err(Refused::bad_request("the header `Host` is empty"));
    }
    websocket::validate_upgrade(request.headers())
        .map_err(|error| Refused::bad_request(error.to_string()).with_status(error.status()))
}

impl Gate {
    /// Applies the limits to a handshake. Returns what counts the client for which a load balancer forwards it.
    fn admit<B>(&self, upgrade: &Upgrade<'_, B>) -> Result<Option<AddressGuard>, Refused> {
        if self.lifecycle.is_closed() {
            let error = CommandError::unavailable("this node is stopping; connect again");
            return Err(Refused::new(HandshakeRefusal::Draining, error));
        }
        // What is limited for one client alone comes first, so that nobody uses up what the node takes of all.
        let client =
            self.access.enter_client(upgrade.peer, upgrade.request.headers()).map_err(|refusal| {
                refusal.count();
                let error = CommandError::rate_limited(refusal.message(), refusal.retry_after_ms());
                Refused::new(HandshakeRefusal::Address, error)
            })?;
        check_page(upgrade.page)?;
        self.admission.handshake(upgrade.waited).map_err(|away| {
            let error = CommandError::unavailable("too many clients come at once");
            Refused::new(HandshakeRefusal::Storm, error.retry_after(away))
        })?;
        Ok(client)
    }
}

/// Checks that a page may connect: a page of another site must not use a person's token. Programs send no origin.
fn check_page(page: Page) -> Result<(), Refused> {
    if page.may_connect() {
        return Ok(());
    }
    let error = match page {
        Page::Several => CommandError::bad_request("there is more than one `Origin` header"),
        _ => CommandError::forbidden("pages of this origin may not connect (allowed_origins)"),
    };
    Err(Refused::new(HandshakeRefusal::Origin, error))
}

/// Chooses among the sub-protocols that the client offers. `None`: it offers none.
fn choose_encoding(service: &Service, headers: &HeaderMap) -> Result<Option<Encoding>, Refused> {
    if matches!(service, Service::Echo) {
        return Ok(None);
    }
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let offered = offered.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty());
    websocket::choose_subprotocol(offered).ok_or_else(|| {
        let message = "unknown sub-protocols; offer starling.v1.json or starling.v1.msgpack, or none";
        Refused::new(HandshakeRefusal::Subprotocol, CommandError::bad_request(message))
    })
}

/// Who the request's token says the client is, if there is a token.
async fn identify(service: &Service, headers: &HeaderMap) -> Result<Option<Identity>, Refused> {
    let (Service::Hub(hub), Some(token)) = (service, bearer(headers)) else { return Ok(None) };
    let refused = |error| Refused::new(HandshakeRefusal::Token, error);
    authenticate(hub, token).await.map(Some).map_err(refused)
}

fn switching_protocols(accept: &str, encoding: Option<Encoding>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(encoding) = encoding {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(encoding.subprotocol()));
    }
    response
}

/// Negotiates permessage-deflate, if this node and the client both want it, and says so in the response's headers.
fn negotiate_deflate(
    config: Option<DeflateConfig>,
    asked: &HeaderMap,
    response: &mut HeaderMap,
) -> Option<Params> {
    let offers = asked.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().filter_map(|value| value.to_str().ok());
    let (params, header) = deflate::negotiate(&offers.collect::<Vec<_>>().join(", "), config?)?;
    response.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_str(&header).ok()?);
    Some(params)
}

impl Refused {
    fn new(reason: HandshakeRefusal, error: CommandError) -> Refused {
        Refused { reason, status: None, error }
    }

    /// Refuses a request that does not ask for a WebSocket, or not correctly.
    fn bad_request(message: impl Into<String>) -> Refused {
        Refused::new(HandshakeRefusal::Upgrade, CommandError::bad_request(message))
    }

    fn with_status(self, status: StatusCode) -> Refused {
        Refused { status: Some(status), ..self }
    }
}

impl IntoResponse for Refused {
    /// Counts the refusal and makes its HTTP response.
    fn into_response(self) -> Response<Body> {
        METRICS.refused(self.reason);
        let error = match self.status {
            Some(status) => ApiError::with_status(status, self.error),
            None => ApiError::from(self.error),
        };
        let mut response = error.into_response();
        let status = response.status();
        let headers = response.headers_mut();
        if status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}
