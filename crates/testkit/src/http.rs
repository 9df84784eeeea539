//! An HTTP/1.1 client for tests: one request per connection, without redirects, decompression or retries.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest time for a request.
const LIMIT: Duration = Duration::from_secs(20);
/// The largest response, in bytes.
const ANSWER_MAX: usize = 64 << 20;

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as received, compressed if the server compressed it.
    pub body: Vec<u8>,
}

/// `GET`.
///
/// # Errors
/// As [`Request::send`].
pub async fn get(url: &str) -> Result<Response> {
    Request::new("GET", url).send().await
}

impl Request {
    /// A request to a URL `http://HOST:PORT/PATH?QUERY`.
    pub fn new(method: &str, url: &str) -> Self {
        Self { method: method.to_owned(), url: url.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds `Authorization: Bearer TOKEN`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Sets a body of JSON.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Sets a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it, and reads the response.
    ///
    /// # Errors
    /// When the server can't be reached, takes longer than twenty seconds, or answers with something that is not HTTP.
    pub async fn send(&self) -> Result<Response> {
        let exchange = timeout(LIMIT, self.exchange()).await.context("no answer in time");
        exchange.and_then(|answer| answer).with_context(|| format!("{} {}", self.method, self.url))
    }

    async fn exchange(&self) -> Result<Response> {
        let (host, path) = split(&self.url, "http")?;
        let mut stream = TcpStream::connect(host).await.context("connect")?;
        let mut head = format!("{} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n", self.method);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() || self.method != "GET" {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        let message = [head.as_bytes(), &self.body].concat();
        // A server may refuse a body unread. Its response counts, not the failed write.
        let sent = stream.write_all(&message).await;
        let mut answer = Vec::new();
        let read = (&mut stream).take(ANSWER_MAX as u64).read_to_end(&mut answer).await;
        if answer.is_empty() {
            sent.context("send")?;
            read.context("read")?;
        }
        parse(&answer)
    }
}

impl Response {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not JSON; the message shows the body.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("status {}: no JSON: {}", self.status, self.text()))
    }
}

/// Splits `SCHEME://HOST:PORT/PATH` into `HOST:PORT` and the path with its slash.
pub(crate) fn split<'a>(url: &'a str, scheme: &str) -> Result<(&'a str, &'a str)> {
    let rest = url.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
    let rest = rest.with_context(|| format!("{url} does not begin with {scheme}://"))?;
    Ok(rest.find('/').map_or((rest, "/"), |at| rest.split_at(at)))
}

fn parse(answer: &[u8]) -> Result<Response> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(answer).context("an answer that is not HTTP")? else {
        bail!("the connection ended within the head of the answer ({} bytes)", answer.len());
    };
    let mut response =
        Response { status: head.code.unwrap_or_default(), headers: Vec::new(), body: Vec::new() };
    for header in head.headers {
        let value = String::from_utf8_lossy(header.value).into_owned();
        response.headers.push((header.name.to_ascii_lowercase(), value));
    }
    let body = &answer[length..];
    response.body = if response.header("transfer-encoding") == Some("chunked") {
        unchunk(body)?
    } else if let Some(length) = response.header("content-length") {
        let length: usize = length.parse().context("content-length")?;
        ensure!(
            body.len() >= length,
            "the connection ended within the body: {} of {length} bytes",
            body.len()
        );
        body[..length].to_vec()
    } else {
        body.to_vec()
    };
    Ok(response)
}

fn unchunk(mut body: &[u8]) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((head, length))) = httparse::parse_chunk_size(body) else {
            bail!("the connection ended within the body, or a chunk has no size");
        };
        let length = usize::try_from(length)?;
        if length == 0 {
            return Ok(whole);
        }
        let end = head.checked_add(length).filter(|end| *end <= body.len()).context("a chunk ends early")?;
        whole.extend_from_slice(&body[head..end]);
        body = body.get(end + 2..).context("a chunk ends early")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_bodies_by_length_by_chunks_and_to_the_end() {
        let sized = parse(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nX-A: b\r\n\r\nokMORE").unwrap();
        assert_eq!((sized.status, sized.header("x-a"), sized.text().as_str()), (201, Some("b"), "ok"));
        let chunked =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap().text(), "abcde");
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n{\"a\":1}").unwrap().json().unwrap()["a"], 1);
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        for cut in [
            "HTTP/1.1 200 OK\r\ncontent-le",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok",
            "garbage\r\n\r\n",
        ] {
            parse(cut.as_bytes()).unwrap_err();
        }
        parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc").unwrap_err();
    }
}
