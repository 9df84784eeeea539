//! The first moments of a connection: TLS, HTTP, and the way from an HTTP request to a WebSocket.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use http::header::{CONNECTION, ORIGIN, SEC_WEBSOCKET_ACCEPT};
use http::header::{SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use starling_auth::Identity;
use starling_hub::{CommandError, Hub};
use starling_telemetry::{TRACE_TARGET, current_traceparent, set_parent};
use starling_wire::protocol::Encoding;
use starling_wire::websocket::deflate::{self, Deflater, Params};
use starling_wire::websocket::{self, Decoder, DecoderConfig};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tracing::Instrument;

use crate::addresses::{AddressGuard, Addresses};
use crate::admission::Admission;
use crate::host;
use crate::http::auth::{authenticate, bearer};
use crate::http::error::ApiError;
use crate::listener::{self, Accepted};
use crate::metrics::{HandshakeRefusal, METRICS};
use crate::pages::{Page, Pages, Target};
use crate::proxies::Proxies;
use crate::requests::{self, ConnectionAllowance, Requests};
use crate::shard::{Asked, Conn, ConnTask, Pace, Phase, Service, Shard, Socket};

/// How long TLS, and each request's head, may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer over HTTP may wait for a client that takes nothing of it: what it holds is as much as a page of history. Over
/// WebSocket there is a bound for what waits, and the heartbeat.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a request's head may be.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// The compression level of permessage-deflate: fast, since it is paid per socket and frame.
const DEFLATE_LEVEL: u32 = 1;

/// What all shards need to know of the public port.
pub(crate) struct Front {
    pub pages: Pages,
    pub addresses: Arc<Addresses>,
    pub admission: Arc<Admission>,
    pub proxies: Proxies,
    pub tls: Option<TlsAcceptor>,
    /// Everything that is not the WebSocket.
    pub router: std::sync::OnceLock<Router>,
    /// New WebSockets are refused.
    pub closing: AtomicBool,
    /// The node is on its way out.
    pub draining: AtomicBool,
    /// HTTP requests that were taken.
    pub requests: Requests,
    /// Sessions that were asked lately to move to other nodes.
    pub asked: Arc<Asked>,
    pub started: Instant,
    pub hub: Option<Arc<Hub>>,
    /// The path of the WebSocket; any, for the echo.
    pub path: Option<&'static str>,
}

/// What a handshake agreed on.
struct Agreed {
    encoding: Encoding,
    deflate: Option<Params>,
    identity: Option<Identity>,
    guard: Option<AddressGuard>,
    traceparent: Option<Box<str>>,
}

impl Front {
    /// Whether the node is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Open WebSockets.
    pub fn connections(&self) -> u64 {
        self.hub.as_ref().map_or(0, |hub| hub.gauges().connections.load(Ordering::Relaxed))
    }

    /// HTTP requests under way.
    pub fn requests(&self) -> u64 {
        self.requests.under_way()
    }

    /// Where a request was sent to, as its client sees it.
    fn target<'a>(&self, peer: IpAddr, request: &'a Request<Incoming>) -> Result<Target<'a>, host::BadHost> {
        let authority = host::requested(request.version(), request.uri(), request.headers())?;
        let by_proxy = self.proxies.client_used_tls(peer, request.headers());
        Ok(Target { authority, secure: by_proxy.unwrap_or(self.tls.is_some()) })
    }

    /// Counts in the client that a trusted load balancer speaks for.
    fn enter_forwarded(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Option<AddressGuard>, Refused> {
        let Some(client) = self.proxies.client(peer, headers) else { return Ok(None) };
        self.addresses.enter(client).map_err(|refusal| {
            listener::count(refusal);
            Refused::new(
                HandshakeRefusal::Address,
                CommandError::rate_limited(refusal.message(), refusal.retry_after_ms()),
            )
        })
    }
}

/// Serves a connection from its first byte to its last.
pub(crate) async fn serve(shard: Rc<Shard>, front: Arc<Front>, accepted: Accepted) {
    let began = Instant::now();
    let Accepted { stream, peer, mut guard } = accepted;
    limit_waiting(&stream, Some(ANSWER_TIMEOUT));
    let Some(socket) = secure(&front, stream).await else { return };
    let agreed: Rc<RefCell<Option<Agreed>>> = Rc::default();
    let service = {
        let (shard, agreed, allowance) =
            (shard.clone(), agreed.clone(), Rc::<ConnectionAllowance>::default());
        service_fn(move |request: Request<Incoming>| {
            let (front, agreed, shard) = (front.clone(), agreed.clone(), shard.clone());
            let allowance = allowance.clone();
            async move {
                let span = tracing::info_span!(target: TRACE_TARGET, "request", path = request.uri().path());
                if let Some(traceparent) = request.headers().get("traceparent").and_then(|v| v.to_str().ok())
                {
                    set_parent(&span, traceparent);
                }
                let answer = answer(&front, &shard, peer, request, &agreed, &allowance);
                Ok::<_, Infallible>(answer.instrument(span).await)
            }
        })
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service);
    let Ok(parts) = Box::pin(connection.without_shutdown()).await else { return };
    let Some(agreed) = agreed.borrow_mut().take() else { return };
    METRICS.handshake_seconds.record(began.elapsed());
    let guard = agreed.guard.or_else(|| guard.take());
    let socket = parts.io.into_inner();
    if let Some(stream) = socket.tcp() {
        limit_waiting(stream, None);
    }
    let key = enter(&shard, socket, guard, agreed.encoding, agreed.deflate, agreed.identity);
    if let Some(conn) = shard.table.borrow_mut().conns.get_mut(key as usize) {
        conn.handshake = agreed.traceparent;
    }
    // Even empty, what hyper read into keeps its 8 KB; and so would this task, which is as large as a handshake.
    let early = if parts.read_buf.is_empty() { Bytes::new() } else { parts.read_buf };
    tokio::task::spawn_local(ConnTask::new(shard, key, early));
}

/// Has the kernel end the connection when what was written waits for the peer for so long; it knows best, and no timer runs here.
fn limit_waiting<'a>(stream: impl Into<SockRef<'a>>, limit: Option<Duration>) {
    // Only Linux and a few others know it. Elsewhere the limits per address have to do.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = stream.into().set_tcp_user_timeout(limit) {
        tracing::debug!(%error, "a connection takes no limit on waiting");
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (stream.into(), limit);
}

async fn secure(front: &Front, stream: std::net::TcpStream) -> Option<Socket> {
    let stream = tokio::net::TcpStream::from_std(stream).ok()?;
    let Some(acceptor) = &front.tls else { return Some(Socket::Plain(stream)) };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(Socket::Tls(Box::new(stream))),
        _ => {
            METRICS.refused(HandshakeRefusal::Tls);
            None
        }
    }
}

/// Enters a connection whose handshake is done into its shard's table.
pub(crate) fn enter(
    shard: &Rc<Shard>,
    socket: Socket,
    address: Option<AddressGuard>,
    encoding: Encoding,
    deflate: Option<Params>,
    identity: Option<Identity>,
) -> u32 {
    METRICS.opened.increment(1);
    METRICS.connections.increment(1.0);
    if let Some(gauges) = shard.gauges() {
        gauges.connections.fetch_add(1, Ordering::Relaxed);
    }
    let settings = &shard.settings;
    let limits = DecoderConfig {
        frame_bytes_max: settings.message_bytes_max,
        message_bytes_max: settings.message_bytes_max,
        deflate,
    };
    let mut table = shard.table.borrow_mut();
    let heard_at = table.tick;
    let make = |generation| Conn {
        socket,
        generation,
        decoder: Decoder::new(limits),
        deflater: deflate.map(|params| Box::new(Deflater::new(params, DEFLATE_LEVEL))),
        encoding,
        outbox: Default::default(),
        session: None,
        identity: identity.map(Box::new),
        handshake: None,
        subs: slab::Slab::new(),
        waker: None,
        awaited: 0,
        backlog: VecDeque::new(),
        busy: false,
        held: None,
        waiting: None,
        heard_at,
        deadlines: Default::default(),
        speed: Default::default(),
        discarded: 0,
        phase: Phase::Open,
        pace: Pace::default(),
        _address: address,
        behind: 0,
        early: None,
        dirty: false,
    };
    table.insert(make, settings)
}

async fn answer(
    front: &Front,
    shard: &Shard,
    peer: IpAddr,
    request: Request<Incoming>,
    agreed: &RefCell<Option<Agreed>>,
    allowance: &ConnectionAllowance,
) -> Response<Body> {
    let is_upgrade = front.path.is_none_or(|path| request.uri().path() == path);
    let target = front.target(peer, &request);
    let page = front.pages.page(request.headers(), target.unwrap_or_default());
    front.pages.log_refused(page, request.headers(), target.unwrap_or_default(), is_upgrade);
    let origin = request.headers().get(ORIGIN).cloned();
    let mut response = match (target, front.router.get()) {
        (Ok(target), _) if is_upgrade => match agree(front, shard, peer, &request, target, page).await {
            Ok((parts, response)) => {
                *agreed.borrow_mut() = Some(parts);
                return response;
            }
            Err(refused) => {
                METRICS.refused(refused.reason);
                refused.response()
            }
        },
        (Err(bad), _) => {
            if is_upgrade {
                METRICS.refused(HandshakeRefusal::Upgrade);
            }
            ApiError::from(CommandError::bad_request(bad.to_string())).into_response()
        }
        (Ok(_), Some(router)) => requests::answer(front, router, peer, allowance, page, request).await,
        (Ok(_), None) => ApiError::from(CommandError::unavailable("the node is starting")).into_response(),
    };
    front.pages.share(page, origin.as_ref(), response.headers_mut());
    response
}

/// Why an upgrade was refused.
pub(crate) struct Refused {
    reason: HandshakeRefusal,
    status: Option<StatusCode>,
    error: CommandError,
}

impl Refused {
    fn new(reason: HandshakeRefusal, error: CommandError) -> Refused {
        Refused { reason, status: None, error }
    }

    fn response(self) -> Response<Body> {
        let error = match self.status {
            Some(status) => ApiError::with_status(status, self.error),
            None => ApiError::from(self.error),
        };
        let mut response = error.into_response();
        let status = response.status();
        let headers = response.headers_mut();
        if status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(http::header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

async fn agree(
    front: &Front,
    shard: &Shard,
    peer: IpAddr,
    request: &Request<Incoming>,
    target: Target<'_>,
    page: Page,
) -> Result<(Agreed, Response<Body>), Refused> {
    let headers = request.headers();
    if request.method() != Method::GET {
        let error = CommandError::bad_request("a WebSocket begins with GET");
        return Err(Refused {
            reason: HandshakeRefusal::Method,
            status: Some(StatusCode::METHOD_NOT_ALLOWED),
            error,
        });
    }
    // RFC 6455, section 4.2.1. A proxy that speaks HTTP/1.0 to its servers would not pass on what follows, either.
    let unfit = match target.authority {
        _ if request.version() < Version::HTTP_11 => {
            Some("a WebSocket begins with a request by HTTP/1.1 or later")
        }
        None => Some("the header `Host` is empty"),
        Some(_) => None,
    };
    if let Some(why) = unfit {
        return Err(Refused::new(HandshakeRefusal::Upgrade, CommandError::bad_request(why)));
    }
    let accept = websocket::validate_upgrade(headers).map_err(|error| Refused {
        reason: HandshakeRefusal::Upgrade,
        status: Some(error.status()),
        error: CommandError::bad_request(error.to_string()),
    })?;
    if front.closing.load(Ordering::Relaxed) {
        return Err(Refused::new(
            HandshakeRefusal::Draining,
            CommandError::unavailable("this node is stopping; connect again"),
        ));
    }
    // What is limited for one client alone comes first, so that nobody uses up what the node takes of all.
    let guard = front.enter_forwarded(peer, headers)?;
    check_page(page)?;
    front.admission.handshake().map_err(|away| {
        let error = CommandError::unavailable("too many clients come at once");
        Refused::new(HandshakeRefusal::Storm, error.retry_after(away))
    })?;
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let offered = offered.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty());
    let chosen = match &shard.service {
        Service::Echo => None,
        Service::Hub(_) => websocket::choose_subprotocol(offered).ok_or_else(|| {
            let message = "unknown sub-protocols; offer starling.v1.json or starling.v1.msgpack, or none";
            Refused::new(HandshakeRefusal::Subprotocol, CommandError::bad_request(message))
        })?,
    };
    let no_identity = |error| Refused::new(HandshakeRefusal::Token, error);
    let identity = match (&shard.service, bearer(headers)) {
        (Service::Hub(hub), Some(token)) => Some(authenticate(hub, token).await.map_err(no_identity)?),
        _ => None,
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = response.headers_mut();
    out.insert(UPGRADE, HeaderValue::from_static("websocket"));
    out.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        out.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(encoding) = chosen {
        out.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(encoding.subprotocol()));
    }
    let mut deflate = None;
    if let Some(config) = shard.settings.deflate {
        let offers: Vec<&str> = headers
            .get_all(SEC_WEBSOCKET_EXTENSIONS)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        if let Some((params, header)) = deflate::negotiate(&offers.join(", "), config)
            && let Ok(header) = HeaderValue::from_str(&header)
        {
            out.insert(SEC_WEBSOCKET_EXTENSIONS, header);
            deflate = Some(params);
        }
    }
    let encoding = chosen.unwrap_or(Encoding::Json);
    let traceparent = current_traceparent().map(Into::into);
    Ok((Agreed { encoding, deflate, identity, guard, traceparent }, response))
}

/// A page of another site must not use a person's token; programs send no origin.
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
