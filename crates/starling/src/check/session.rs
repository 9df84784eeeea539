//! One WebSocket connection of a check.

use std::collections::VecDeque;

use anyhow::{Context, anyhow};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::progress::Wrong;
use crate::outbound::{NodeAddress, Stream};

/// The sub-protocol.
const SUBPROTOCOL: &str = "starling.v1.json";
/// Bytes of a frame at most. Those of a check are far smaller.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// Events that are kept at most while a reply is awaited.
const EVENTS_MAX: usize = 256;

/// One WebSocket connection.
pub struct Session {
    socket: WebSocketStream<Box<dyn Stream>>,
    next_id: u64,
    /// Events that came before a reply.
    events: VecDeque<Value>,
}

impl Session {
    /// Upgrades a connection.
    pub async fn upgrade(stream: Box<dyn Stream>, address: &NodeAddress) -> Result<Session, Wrong> {
        let mut request = address.socket_url().into_client_request().context("the request can't be made")?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        let mut config = WebSocketConfig::default();
        (config.max_message_size, config.max_frame_size) = (Some(FRAME_BYTES_MAX), Some(FRAME_BYTES_MAX));
        match client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, _)) => Ok(Session { socket, next_id: 1, events: VecDeque::new() }),
            Err(tungstenite::Error::Http(answer)) => {
                let (status, body) = (answer.status().as_u16(), answer.body().as_deref().unwrap_or_default());
                Err(not_upgraded(status, &String::from_utf8_lossy(body)))
            }
            Err(error) => Err(Wrong::new(error.to_string(), "something other than a node answered")),
        }
    }

    /// Sends a command, and returns what its reply says.
    pub async fn command(&mut self, op: &str, fields: Value) -> Result<Value, Wrong> {
        let id = self.next_id;
        self.next_id += 1;
        let mut frame = Map::from_iter([("id".to_owned(), json!(id)), ("op".to_owned(), json!(op))]);
        if let Value::Object(fields) = fields {
            frame.extend(fields);
        }
        let frame = Message::text(Value::Object(frame).to_string());
        self.socket.send(frame).await.context("the connection has ended")?;
        loop {
            let mut frame = self.frame().await?;
            if frame["id"] == id {
                return if frame["error"].is_object() {
                    Err(refused(&frame["error"]))
                } else {
                    Ok(frame["ok"].take())
                };
            }
            if self.events.len() < EVENTS_MAX {
                self.events.push_back(frame);
            }
        }
    }

    /// Waits for the event that carries this message.
    pub async fn message(&mut self, id: &Value) -> Result<Value, Wrong> {
        loop {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None => self.frame().await?,
            };
            if event["ev"] == "message" && event["id"] == *id {
                return Ok(event);
            }
        }
    }

    /// Closes the connection as a client does.
    pub async fn close(mut self) {
        // The node notices in any case.
        let _ = self.socket.close(None).await;
    }

    /// The next frame of the protocol.
    async fn frame(&mut self) -> Result<Value, Wrong> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text)
                        .map_err(|error| anyhow!("a frame is no JSON: {error}").into());
                }
                Some(Ok(Message::Close(frame))) => return Err(closed(frame.as_ref())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(anyhow!("the connection broke: {error}").into()),
                None => return Err(anyhow!("the connection ended").into()),
            }
        }
    }
}

/// Why there is no WebSocket.
fn not_upgraded(status: u16, body: &str) -> Wrong {
    let advice = match status {
        400 | 426 => {
            "the load balancer must pass `Connection: Upgrade` and `Upgrade: websocket` on, over HTTP/1.1"
        }
        401 => "the node refuses the token",
        403 => "a node refuses pages of other origins; a program sends none, so something in between refuses",
        404 => "no node answers at this path: the load balancer must pass /v1/ws on",
        429 => {
            "this address has too many connections or handshakes: limit_address_connections, trusted_proxies"
        }
        502..=504 => "the load balancer has no node that is ready: ask the nodes for /ready",
        200..=299 => "something answered that is no WebSocket: the load balancer does not lead to a node",
        300..=399 => "the load balancer redirects: give the URL that it redirects to",
        _ => "see the node's log",
    };
    let body: String = body.lines().next().unwrap_or_default().chars().take(120).collect();
    let body = if body.is_empty() { body } else { format!(": {body}") };
    Wrong::new(format!("the answer was HTTP {status}{body}"), advice)
}

/// What an error of the protocol means.
fn refused(error: &Value) -> Wrong {
    let (code, message) =
        (error["code"].as_str().unwrap_or("?"), error["message"].as_str().unwrap_or_default());
    let advice = match code {
        "unauthorized" => "the nodes check tokens with another secret or key than this token was signed with",
        "forbidden" => "the token needs the scope conversations:create",
        "rate_limited" => "a limit was reached; docs/operating/sizing.md lists them",
        "unavailable" => "the node can't reach its database, or is full: ask it for /health",
        _ => return Wrong { what: format!("{code}: {message}"), advice: None },
    };
    Wrong::new(format!("{code}: {message}"), advice)
}

/// What a close frame means.
fn closed(frame: Option<&CloseFrame>) -> Wrong {
    let Some(frame) = frame else { return anyhow!("the node closed the connection").into() };
    let code = u16::from(frame.code);
    let what = format!("the node closed the connection with {code} {}", frame.reason);
    match code {
        1012 => Wrong::new(what, "the node drains; check again"),
        4401 => Wrong::new(
            what,
            "the nodes check tokens with another secret or key than this token was signed with",
        ),
        4429 => Wrong::new(what, "a limit was reached; docs/operating/sizing.md lists them"),
        _ => Wrong { what, advice: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_in_place_of_a_websocket_has_its_advice() {
        for (status, advice) in
            [(404, "/v1/ws"), (503, "/ready"), (200, "no WebSocket"), (426, "Upgrade"), (301, "redirects")]
        {
            let wrong = not_upgraded(status, "first\nsecond");
            assert!(wrong.advice.as_deref().is_some_and(|text| text.contains(advice)), "{status}: {wrong:?}");
            assert_eq!(wrong.what, format!("the answer was HTTP {status}: first"));
        }
    }
}
