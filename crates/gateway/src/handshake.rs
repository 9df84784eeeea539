//! The first moments of a connection: TLS, HTTP, and its way into a shard once it is a WebSocket.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use http::header::ORIGIN;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use starling_hub::CommandError;
use starling_telemetry::{TRACE_TARGET, set_parent};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tracing::Instrument;

use crate::accepted::Accepted;
use crate::addresses::AddressGuard;
use crate::http::error::ApiError;
use crate::http::service::HttpService;
use crate::listener;
use crate::metrics::{HandshakeRefusal, METRICS};
use crate::requests::ConnectionAllowance;
use crate::shard::{ConnTask, Opening, Shard, Socket, spawn_guarded};
use crate::upgrade::{self, Agreed, Gate, Upgrade};

/// The path of the WebSocket.
const WEBSOCKET_PATH: &str = "/v1/ws";
/// Limit on TLS, and on the head of each request.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Limit on a request's head, bytes.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Upgrades connections to WebSockets and answers other HTTP requests.
pub(crate) struct ConnectionService {
    pub gate: Gate,
    pub tls: Option<TlsAcceptor>,
    /// Answers requests for other paths than the WebSocket's. `None`: every path is the WebSocket's.
    pub http: Option<HttpService>,
}

/// A connection that is not yet a WebSocket.
struct Handshake {
    connections: Arc<ConnectionService>,
    shard: Rc<Shard>,
    peer: IpAddr,
    /// The connection's allowance of HTTP requests.
    allowance: ConnectionAllowance,
    agreed: RefCell<Option<Agreed>>,
    /// How long the connection waited for its first turn. Only its first request is judged by that.
    waited: Cell<Duration>,
}

/// Serves a connection from its first byte until it is a WebSocket or over.
pub(crate) async fn serve(shard: Rc<Shard>, connections: Arc<ConnectionService>, accepted: Accepted) {
    let began = Instant::now();
    let Accepted { stream, peer, guard, at } = accepted;
    let Some(socket) = secure(&connections, stream).await else { return };
    let handshake = Rc::new(Handshake {
        connections,
        shard: shard.clone(),
        peer,
        allowance: ConnectionAllowance::default(),
        agreed: RefCell::default(),
        waited: Cell::new(at.elapsed()),
    });
    let Some((socket, read_ahead)) = serve_http(&handshake, socket).await else { return };
    let Some(agreed) = handshake.agreed.borrow_mut().take() else { return };
    METRICS.handshake_seconds.record(began.elapsed());
    if let Some(stream) = socket.tcp() {
        listener::limit_waiting(stream, None);
    }
    // A task of its own, since this one is as large as a handshake.
    spawn_guarded(ConnTask::open(shard, opening(socket, agreed, guard, read_ahead)));
}

fn opening(socket: Socket, agreed: Agreed, peer: Option<AddressGuard>, early: Bytes) -> Opening {
    let Agreed { encoding, deflate, identity, client, traceparent } = agreed;
    Opening { socket, encoding, deflate, identity, traceparent, address: client.or(peer), early }
}

async fn secure(connections: &ConnectionService, stream: std::net::TcpStream) -> Option<Socket> {
    let stream = tokio::net::TcpStream::from_std(stream).ok()?;
    let Some(acceptor) = &connections.tls else { return Some(Socket::Plain(stream)) };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(Socket::Tls(Box::new(stream))),
        _ => {
            METRICS.refused(HandshakeRefusal::Tls);
            None
        }
    }
}

/// Answers HTTP requests until the connection is over, or upgraded: then returns the socket and what was read beyond the handshake.
async fn serve_http(handshake: &Rc<Handshake>, socket: Socket) -> Option<(Socket, Bytes)> {
    let service = {
        let handshake = handshake.clone();
        service_fn(move |request| {
            let handshake = handshake.clone();
            async move { Ok::<_, Infallible>(handshake.answer_traced(request).await) }
        })
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service);
    let parts = Box::pin(connection.without_shutdown()).await.ok()?;
    // Even empty, what hyper read into keeps its 8 KB.
    let read_ahead = if parts.read_buf.is_empty() { Bytes::new() } else { parts.read_buf };
    Some((parts.io.into_inner(), read_ahead))
}

impl Handshake {
    async fn answer_traced(&self, request: Request<Incoming>) -> Response<Body> {
        let span = tracing::info_span!(target: TRACE_TARGET, "request", path = request.uri().path());
        if let Some(traceparent) = request.headers().get("traceparent").and_then(|value| value.to_str().ok())
        {
            set_parent(&span, traceparent);
        }
        self.answer(request).instrument(span).await
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let waited = self.waited.take();
        let access = &self.connections.gate.access;
        // For the echo, which has no HTTP, every path is the WebSocket's.
        let http = self.connections.http.as_ref().filter(|_| request.uri().path() != WEBSOCKET_PATH);
        let target = access.target(self.peer, &request);
        let page = access.pages.page(request.headers(), target.unwrap_or_default());
        access.pages.log_refused(page, request.headers(), target.unwrap_or_default(), http.is_none());
        let origin = request.headers().get(ORIGIN).cloned();
        let mut response = match (target, http) {
            (Err(bad), _) => {
                if http.is_none() {
                    METRICS.refused(HandshakeRefusal::Upgrade);
                }
                ApiError::from(CommandError::bad_request(bad.to_string())).into_response()
            }
            (Ok(_), Some(http)) => http.answer(self.peer, &self.allowance, page, request).await,
            (Ok(target), None) => {
                let upgrade = Upgrade { request: &request, peer: self.peer, target, page, waited };
                match upgrade::agree(&self.connections.gate, &self.shard.env, &upgrade).await {
                    Ok((agreed, response)) => {
                        *self.agreed.borrow_mut() = Some(agreed);
                        return response;
                    }
                    Err(refused) => refused.into_response(),
                }
            }
        };
        access.pages.share(page, origin.as_ref(), response.headers_mut());
        response
    }
}
