//! The HTTP client: one POST to one backend, with limits on everything.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Extensions, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as PooledClient;
use hyper_util::client::legacy::Error as PooledError;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};

use crate::connector::{Connector, Used};
use crate::retry_after;
use crate::{Endpoint, Failure, Networks, Resolver, Secret, SignedHeaders};

/// How long a connection stays open without a request. Node's servers close theirs after 5 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// The most connections to one backend that stay open without a request.
const IDLE_PER_HOST_MAX: usize = 32;
/// The longest head of an answer, bytes.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// The most headers of an answer.
const HEADERS_MAX: usize = 100;
/// What requests call their sender.
const AGENT: &str = concat!("Starling/", env!("CARGO_PKG_VERSION"));

/// Sends requests to backends. It never follows a redirect, uses no proxy, and connects only to addresses that [`Networks`] lets it use.
#[derive(Clone)]
pub struct Client {
    client: PooledClient<Connector, Full<Bytes>>,
}

/// How [`Client`] connects.
pub struct ClientConfiguration {
    /// The addresses that it may use.
    pub networks: Networks,
    /// Looks up names.
    pub resolver: Arc<dyn Resolver>,
    /// Whom it trusts.
    pub tls: ClientConfig,
    /// The time to look a name up, connect, and agree on TLS.
    pub connect_timeout: Duration,
}

/// A request.
pub(crate) struct Post<'a> {
    pub endpoint: &'a Endpoint,
    /// See [`SignedHeaders::id`].
    pub id: &'a str,
    /// It is signed with all of them.
    pub secrets: &'a [Secret],
    /// The body, a JSON text.
    pub body: Bytes,
    /// The time until the whole answer is there.
    pub limit: Duration,
    /// The most of the answer's body that is read, bytes.
    pub answer_bytes_max: usize,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    /// How long the backend asks to wait.
    pub retry_after: Option<Duration>,
    /// What was read of the body.
    pub body: Bytes,
    /// Why that is not all of the body.
    pub incomplete: Option<Failure>,
}

impl Client {
    /// Makes a client. Connects to nothing yet.
    #[must_use]
    pub fn new(configuration: ClientConfiguration) -> Self {
        let ClientConfiguration { networks, resolver, tls, connect_timeout } = configuration;
        let client = PooledClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .http1_max_headers(HEADERS_MAX)
            .build(Connector::new(networks, resolver, tls, connect_timeout));
        Self { client }
    }

    /// Sends a request, and returns its answer, whatever its status.
    pub(crate) async fn post(&self, post: &Post<'_>) -> Result<Answer, Failure> {
        let deadline = Instant::now() + post.limit;
        let mut sent = timeout_at(deadline, self.client.request(request(post)?)).await;
        // A backend may close a connection just when the next request is sent on it. An answer that did not come on a fresh connection is another
        // matter.
        if let Ok(Err(error)) = &sent
            && !error.is_connect()
            && error.connect_info().is_some_and(|info| was_used(|extensions| info.get_extras(extensions)))
        {
            sent = timeout_at(deadline, self.client.request(request(post)?)).await;
        }
        let response = sent.map_err(|_| Failure::Timeout)?.map_err(|error| failure(&error))?;
        if let Some(used) = response.extensions().get::<Used>() {
            used.note();
        }
        Ok(read(response, post.answer_bytes_max, deadline).await)
    }
}

fn request(post: &Post<'_>) -> Result<Request<Full<Bytes>>, Failure> {
    let signed = SignedHeaders::sign(post.secrets, post.id, SystemTime::now(), &post.body);
    let header = |name: &'static str| HeaderName::from_static(name);
    Request::post(post.endpoint.uri().clone())
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header(USER_AGENT, HeaderValue::from_static(AGENT))
        .header(header(SignedHeaders::ID), signed.id)
        .header(header(SignedHeaders::TIMESTAMP), signed.timestamp)
        .header(header(SignedHeaders::SIGNATURE), signed.signature)
        .body(Full::new(post.body.clone()))
        .map_err(|error| Failure::Answer(error.to_string()))
}

fn was_used(extras: impl FnOnce(&mut Extensions)) -> bool {
    let mut extensions = Extensions::new();
    extras(&mut extensions);
    extensions.get::<Used>().is_some_and(Used::get)
}

/// Reads the body, until it ends, is too long, or takes too long. The connection is closed if something is left of it.
async fn read(response: Response<Incoming>, bytes_max: usize, deadline: Instant) -> Answer {
    let (head, mut rest) = response.into_parts();
    let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let mut body = BytesMut::new();
    let incomplete = loop {
        let frame = match timeout_at(deadline, rest.frame()).await {
            Err(_) => break Some(Failure::Timeout),
            Ok(None) => break None,
            Ok(Some(Err(error))) => break Some(Failure::Answer(chain(&error))),
            Ok(Some(Ok(frame))) => frame,
        };
        // Trailers say nothing.
        let Ok(data) = frame.into_data() else { continue };
        let room = bytes_max - body.len();
        body.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            break Some(Failure::TooLong(bytes_max));
        }
    };
    Answer {
        status: head.status.as_u16(),
        retry_after: retry_after.and_then(|value| retry_after::parse(value, SystemTime::now())),
        body: body.freeze(),
        incomplete,
    }
}

/// Finds the connector's own failure among the causes, or describes them.
fn failure(error: &PooledError) -> Failure {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return failure.clone();
        }
        cause = error.source();
    }
    Failure::Answer(error.source().map_or_else(|| error.to_string(), chain))
}

/// Returns the text of an error with all its causes.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
