//! One HTTP request on a connection of its own.

use anyhow::{Context, anyhow};
use http::header::{AUTHORIZATION, HOST};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::stream::Stream;

/// Bytes of an answer at most. What a node says of itself has some hundred.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// One HTTP request.
#[derive(Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The host and port.
    pub authority: &'a str,
    /// The path.
    pub path: &'a str,
    /// A token, if the request needs one.
    pub token: Option<&'a str>,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
}

impl Request<'_> {
    /// Sends it on this connection, and reads the answer.
    pub async fn send(&self, stream: Box<dyn Stream>) -> anyhow::Result<Answer> {
        let mut request =
            http::Request::builder().method(self.method.clone()).uri(self.path).header(HOST, self.authority);
        if let Some(token) = self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::<Bytes>::new()).context("the request can't be sent")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async {
            let answer = sender.send_request(request).await.context("there was no answer")?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| anyhow!("the answer can't be read: {error}"))?.to_bytes();
            Ok(Answer { status, body })
        };
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            // A connection may end at the moment of the answer, which the exchange then knows.
            _ = connection => exchange.await,
        }
    }
}
