//! Export of traces in batches over OTLP (HTTP, protobuf).

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;
use url::Url;

use crate::error::TelemetryError;

/// Target of spans that are exported as traces: handshakes, commands and batches, but never single frames.
pub const TRACE_TARGET: &str = "starling::trace";

/// Timeout of one export.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Sets up the export to a collector. Spans wait in a bounded queue and are exported in batches; if the queue is full, they are
/// dropped. Sampling, batch sizes, headers and further attributes follow the standard `OTEL_…` variables.
pub(crate) fn provider(
    endpoint: &str,
    node: &str,
    version: &str,
) -> Result<SdkTracerProvider, TelemetryError> {
    let url = traces_url(endpoint)?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(RuntimeClient::new()?)
        .with_endpoint(url)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| TelemetryError::Exporter(error.to_string()))?;
    let mut resource = Resource::builder().with_attributes([
        KeyValue::new("service.instance.id", node.to_owned()),
        KeyValue::new("service.version", version.to_owned()),
    ]);
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("starling");
    }
    Ok(SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build())
}

/// Creates the tracer for Starling's own spans.
pub(crate) fn tracer(provider: &SdkTracerProvider) -> SdkTracer {
    provider.tracer("starling")
}

/// Derives the URL for traces from the endpoint, a base URL with one path per kind of signal. Errors do not contain the URL, because
/// it may contain a password.
fn traces_url(endpoint: &str) -> Result<String, TelemetryError> {
    let problem = |problem: String| TelemetryError::Endpoint { problem };
    let url = Url::parse(endpoint).map_err(|error| problem(format!("is not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        let why = format!("{}:// is not http:// or https:// (OTLP over gRPC is not supported)", url.scheme());
        return Err(problem(why));
    }
    // The parsed form: the exporter is stricter about percent-encoding, and its errors repeat the URL that it refuses.
    let url = format!("{}/v1/traces", url.as_str().trim_end_matches('/'));
    url.parse::<http::Uri>().map_err(|error| problem(format!("is not a URL: {error}")))?;
    Ok(url)
}

/// HTTP client that works on any thread. Batches are exported by a separate thread without a runtime, but the
/// client needs one. So requests run on the runtime that was current at the start.
#[derive(Debug)]
struct RuntimeClient {
    client: reqwest::Client,
    runtime: Handle,
}

impl RuntimeClient {
    fn new() -> Result<RuntimeClient, TelemetryError> {
        let runtime = Handle::try_current().map_err(|error| TelemetryError::Exporter(error.to_string()))?;
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(TelemetryError::Exporter("this process has no TLS provider installed".to_owned()));
        }
        let client = reqwest::Client::builder()
            .timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| TelemetryError::Exporter(error.to_string()))?;
        Ok(RuntimeClient { client, runtime })
    }
}

#[async_trait]
impl HttpClient for RuntimeClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(async move { send(&client, request).await }).await?
    }
}

/// Most bytes of a response that are read. A response only contains a message about rejected spans.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Sends a request. The exporter logs errors, so they do not contain the URL, which may contain a password.
async fn send(client: &reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let mut answer = client.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err("the collector's response is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    *response.body_mut() = body.into();
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_have_a_path_below_the_endpoint() {
        for (endpoint, url) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("https://collector/a/", "https://collector/a/v1/traces"),
            ("http://ann:pass@collector/a b", "http://ann:pass@collector/a%20b/v1/traces"),
        ] {
            assert_eq!(traces_url(endpoint).unwrap(), url);
        }
    }
}
