//! A collector of traces in the place of Jaeger or Tempo. It receives OTLP over HTTP and keeps every span.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span as WireSpan;
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::wait::until;

/// How many spans are kept; an export beyond that is refused.
const SPANS_MAX: usize = 1_000_000;

/// A running collector on a free port of the loopback. It ends with this value.
#[derive(Debug)]
pub struct Collector {
    spans: Spans,
    address: SocketAddr,
    server: AbortHandle,
}

type Spans = Arc<Mutex<Vec<Span>>>;

/// A span as it was exported. Ids are in hexadecimal, as in a `traceparent`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its name: `command`, `append` and so on.
    pub name: String,
    /// The trace that it belongs to.
    pub trace: String,
    /// Its id.
    pub id: String,
    /// Its parent; empty for the root of a trace.
    pub parent: String,
    /// The spans that it is linked to.
    pub links: Vec<Link>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Attributes of the program that exported it: `service.name`, `service.instance.id` and so on.
    pub resource: BTreeMap<String, String>,
}

/// A span that another one is linked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its trace.
    pub trace: String,
    /// Its id.
    pub id: String,
}

impl Collector {
    /// Starts one on the runtime of the caller.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for traces")?;
        let address = listener.local_addr().context("the collector's address")?;
        let spans = Spans::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(spans.clone());
        let server = tokio::spawn(async move {
            // It serves until it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { spans, address, server: server.abort_handle() })
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` has to be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans so far, in the order of their arrival.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().clone()
    }

    /// Waits for a span that `wanted` accepts.
    ///
    /// # Errors
    /// When none has come within `limit`: `what`, and the names of those that came.
    pub async fn wait_for(
        &self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&Span) -> bool,
    ) -> Result<Span> {
        let found =
            until(limit, what, async || Ok(self.spans.lock().iter().find(|span| wanted(span)).cloned()));
        found.await.with_context(|| format!("these spans came: {}", self.summary()))
    }

    /// How many spans of which name came from which node.
    fn summary(&self) -> String {
        let mut counts = BTreeMap::<String, usize>::new();
        for span in self.spans.lock().iter() {
            *counts.entry(format!("{} of {}", span.name, span.node())).or_default() += 1;
        }
        format!("{counts:?}")
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Span {
    /// The node that it came from: its `service.instance.id`.
    pub fn node(&self) -> &str {
        self.resource.get("service.instance.id").map_or("", String::as_str)
    }

    /// Whether it is part of that span.
    pub fn is_child_of(&self, other: &Span) -> bool {
        self.trace == other.trace && self.parent == other.id
    }

    /// Whether it is linked to that span.
    pub fn is_linked_to(&self, other: &Span) -> bool {
        self.links.iter().any(|link| link.trace == other.trace && link.id == other.id)
    }

    fn from_wire(span: WireSpan, resource: &BTreeMap<String, String>) -> Self {
        let link = |link: opentelemetry_proto::tonic::trace::v1::span::Link| Link {
            trace: hexadecimal(&link.trace_id),
            id: hexadecimal(&link.span_id),
        };
        Self {
            name: span.name,
            trace: hexadecimal(&span.trace_id),
            id: hexadecimal(&span.span_id),
            parent: hexadecimal(&span.parent_span_id),
            links: span.links.into_iter().map(link).collect(),
            attributes: attributes(span.attributes),
            resource: resource.clone(),
        }
    }
}

async fn take(State(spans): State<Spans>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/x-protobuf") {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    let mut spans = spans.lock();
    for part in request.resource_spans {
        let resource = part.resource.map(|resource| attributes(resource.attributes)).unwrap_or_default();
        let came = part.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.extend(came.map(|span| Span::from_wire(span, &resource)));
    }
    if spans.len() > SPANS_MAX {
        spans.truncate(SPANS_MAX);
        return StatusCode::INSUFFICIENT_STORAGE;
    }
    StatusCode::OK
}

fn attributes(list: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::BoolValue(value) => value.to_string(),
        Value::IntValue(value) => value.to_string(),
        Value::DoubleValue(value) => value.to_string(),
        other => format!("{other:?}"),
    };
    let value =
        |pair: KeyValue| (pair.key, pair.value.and_then(|any| any.value).map(text).unwrap_or_default());
    list.into_iter().map(value).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a `String` can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
