//! TLS on the public port.

use std::net::TcpListener;
use std::ops::Deref;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use starling_testkit::client::{Encoding, Message};
use starling_testkit::node::{Node, NodeBuilder};
use starling_testkit::process::Signal;
use starling_testkit::tls;
use starling_testkit::wait::until_true;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::{BAD, SOON, finished};

/// The certificates of a node that does TLS by itself.
pub struct Certificates(tls::Certificates);

impl Deref for Certificates {
    type Target = tls::Certificates;

    fn deref(&self) -> &tls::Certificates {
        &self.0
    }
}

impl Certificates {
    pub async fn make() -> Self {
        Self(tls::Certificates::make().await.unwrap())
    }

    /// Starts a node with the certificate.
    pub fn node(&self) -> NodeBuilder {
        Node::builder()
            .file("server.crt", &self.certificate)
            .file("server.key", &self.key)
            .env("STARLING_TLS_CERTIFICATE_FILE", "server.crt")
            .env("STARLING_TLS_KEY_FILE", "server.key")
    }

    /// Returns a TLS client configuration that only trusts this authority.
    fn client(&self) -> Arc<ClientConfig> {
        self.0.client().unwrap()
    }

    /// Runs curl; returns its exit status and output.
    async fn curl(&self, url: &str) -> (bool, String) {
        let authority = self.folder.join("ca.crt");
        let mut command = tokio::process::Command::new("curl");
        let output = command.args(["-sS", "--cacert"]).arg(authority).arg(url).output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}

/// WebSocket over TLS.
struct Secure(WebSocketStream<TlsStream<TcpStream>>);

impl Secure {
    async fn open(node: &Node, config: Arc<ClientConfig>) -> Self {
        let stream = TcpStream::connect(node.address()).await.unwrap();
        let name = ServerName::from(node.address().ip());
        let stream = TlsConnector::from(config).connect(name, stream).await.unwrap();
        let url = node.ws_url().replace("ws://", "wss://");
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", Encoding::Json.subprotocol().parse().unwrap());
        Self(client_async(request, stream).await.unwrap().0)
    }

    async fn send(&mut self, command: Value) {
        self.0.send(Message::text(command.to_string())).await.unwrap();
    }

    /// Returns the first reply or event that satisfies `wanted`.
    async fn first(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let search = async {
            loop {
                let frame = self.0.next().await.expect("an open socket").unwrap();
                if let Message::Text(text) = frame {
                    let value: Value = serde_json::from_str(&text).unwrap();
                    assert!(value.get("error").is_none(), "{value}");
                    if wanted(&value) {
                        return value;
                    }
                }
            }
        };
        timeout(SOON, search).await.expect("no such frame in time")
    }

    async fn ask(&mut self, command: Value) -> Value {
        let id = command["id"].clone();
        self.send(command).await;
        self.first(|frame| frame["id"] == id).await
    }
}

/// Returns the status of an upgrade over TLS from a page of this origin.
async fn upgrade_status(node: &Node, config: &Arc<ClientConfig>, host: &str, origin: &str) -> String {
    let stream = TcpStream::connect(node.address()).await.unwrap();
    let name = ServerName::from(node.address().ip());
    let mut stream = TlsConnector::from(config.clone()).connect(name, stream).await.unwrap();
    let head = format!(
        "GET /v1/ws HTTP/1.1\r\nhost: {host}\r\norigin: {origin}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    timeout(SOON, stream.read_exact(&mut status)).await.expect("in time").unwrap();
    String::from_utf8_lossy(&status).into_owned()
}

#[tokio::test]
async fn where_tls_ends_here_a_page_of_the_same_host_without_tls_is_another() {
    let certificates = Certificates::make().await;
    let node = certificates.node().without_waiting().start().await.unwrap();
    let ready = format!("https://{}/ready", node.address());
    until_true(SOON, "TLS", async || Ok(certificates.curl(&ready).await.0)).await.unwrap();
    let config = certificates.client();
    for (host, origin) in
        [("chat.example", "https://chat.example"), ("chat.example:443", "https://chat.example")]
    {
        assert_eq!(upgrade_status(&node, &config, host, origin).await, "HTTP/1.1 101", "{origin} at {host}");
    }
    for (host, origin) in
        [("chat.example", "http://chat.example"), ("chat.example:80", "http://chat.example")]
    {
        assert_eq!(upgrade_status(&node, &config, host, origin).await, "HTTP/1.1 403", "{origin} at {host}");
    }
}

#[tokio::test]
async fn http_and_websockets_are_served_over_tls_and_nothing_in_the_clear() {
    let certificates = Certificates::make().await;
    let node = certificates.node().without_waiting().start().await.unwrap();
    let url = node.http_url().replace("http://", "https://");
    let ready = async || {
        anyhow::ensure!(node.is_running(), "the node has ended: {}", node.log());
        Ok(certificates.curl(&format!("{url}/ready")).await.0)
    };
    until_true(SOON, "TLS", ready).await.unwrap();
    let (ok, health) = certificates.curl(&format!("{url}/health")).await;
    assert!(ok, "{health}");
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!((&health["status"], &health["node"]), (&json!("ok"), &json!(node.name())));

    let mut ada = Secure::open(&node, certificates.client()).await;
    let welcome = ada.ask(json!({"id": 1, "op": "connect", "token": node.token("ada")})).await;
    assert_eq!(welcome["ok"]["user"], "ada", "{welcome}");
    ada.ask(json!({"id": 2, "op": "create", "conversation": "tea"})).await;
    ada.ask(json!({"id": 3, "op": "join", "conversation": "tea"})).await;
    // Longer than a TLS record.
    let content = "leaf ".repeat(8_000);
    ada.send(json!({"id": 4, "op": "send", "conversation": "tea", "key": "k", "content": content})).await;
    let message = ada.first(|frame| frame["ev"] == "message").await;
    assert_eq!((&message["seq"], &message["content"]), (&json!(1), &json!(content)));

    // A plain-text client gets no response and disturbs nobody.
    let error = node.get("/health").await.expect_err("plain HTTP was answered");
    assert!(!format!("{error:#}").contains("refused"), "{error:#}");
    until_true(SOON, "the refusal to be counted", async || {
        Ok(node.metric("starling_handshakes_refused_total", "reason=\"tls\"").await? >= 1.0)
    })
    .await
    .unwrap();
    ada.ask(json!({"id": 5, "op": "ping"})).await;
    assert!(certificates.curl(&format!("{url}/health")).await.0);
}

#[tokio::test]
async fn what_is_wrong_with_certificate_or_key_is_named_before_the_port_is_bound() {
    let certificates = Certificates::make().await;
    let other = Certificates::make().await;
    // A node that got as far as binding the port would exit with 1.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let node = || certificates.node().file("words.pem", "no PEM\n").file("other.key", &other.key);
    const CERTIFICATE: &str = "STARLING_TLS_CERTIFICATE_FILE";
    const KEY: &str = "STARLING_TLS_KEY_FILE";
    for (variable, value, named) in [
        (CERTIFICATE, "not-there.crt", "tls_certificate_file"),
        (KEY, "not-there.key", "tls_key_file"),
        // A folder cannot be read as a file, not even by root.
        (CERTIFICATE, ".", "tls_certificate_file"),
        (KEY, ".", "tls_key_file"),
        (CERTIFICATE, "words.pem", "tls_certificate_file"),
        (KEY, "words.pem", "tls_key_file"),
        (CERTIFICATE, "server.key", "tls_certificate_file"),
        (KEY, "server.crt", "tls_key_file"),
        // A key of another certificate.
        (KEY, "other.key", "tls_certificate_file"),
        // A certificate without a key, and the reverse.
        (CERTIFICATE, "", "tls_certificate_file"),
        (KEY, "", "tls_key_file"),
    ] {
        let (status, log) = finished(node().env("STARLING_LISTEN", &taken).env(variable, value)).await;
        assert_eq!(status, BAD, "{variable}={value}: {log}");
        assert!(log.contains(named), "{variable}={value} does not name {named}: {log}");
        assert!(!log.contains(&taken) && !log.contains("panicked"), "{variable}={value}: {log}");
    }
}

#[tokio::test]
async fn after_sighup_new_connections_see_the_new_certificate_and_old_ones_go_on() {
    let (old, new) = (Certificates::make().await, Certificates::make().await);
    let node = old.node().without_waiting().start().await.unwrap();
    until_true(SOON, "the start", async || Ok(node.log().contains("serving"))).await.unwrap();
    let mut ada = Secure::open(&node, old.client()).await;
    ada.ask(json!({"id": 1, "op": "connect", "token": node.token("ada")})).await;

    // A key that does not match: nothing changes, and the log says why.
    std::fs::write(node.folder().join("server.key"), &new.key).unwrap();
    node.signal(Signal::HUP).unwrap();
    until_true(SOON, "the refusal", async || Ok(node.log().contains("nothing was changed"))).await.unwrap();
    assert!(node.log().contains("tls_certificate_file: "), "{}", node.log());
    Secure::open(&node, old.client()).await;

    std::fs::write(node.folder().join("server.crt"), &new.certificate).unwrap();
    node.signal(Signal::HUP).unwrap();
    let changed = "\"certificate_changed\":true";
    until_true(SOON, "the new certificate", async || Ok(node.log().contains(changed))).await.unwrap();
    Secure::open(&node, new.client()).await;
    ada.ask(json!({"id": 2, "op": "ping"})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_with_too_many_connections_is_not_answered_in_plain_text() {
    let certificates = Certificates::make().await;
    let node = certificates.node().env("STARLING_LIMIT_ADDRESS_CONNECTIONS", "2");
    let node = node.without_waiting().start().await.unwrap();
    let mut held = Vec::new();
    let holds_two = async || {
        held.push(TcpStream::connect(node.address()).await?);
        Ok(held.len() == 2)
    };
    until_true(SOON, "connections", holds_two).await.unwrap();
    let mut refused = TcpStream::connect(node.address()).await.unwrap();
    // The response to clients that send something; the connection may have ended before.
    let _ = refused.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = timeout(SOON, refused.read_to_end(&mut answer)).await.expect("it ends");
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
}
