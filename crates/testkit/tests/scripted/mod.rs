//! A node out of a few lines, with one conversation `c` in memory, that misbehaves when told to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use starling_testkit::client::{Encoding, Message};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// What a node does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Does not show message 3.
    Loses,
    /// Shows message 3 twice.
    Doubles,
    /// Shows message 3 after message 4.
    Swaps,
    /// Takes the next message in, and cuts the connection instead of saying so.
    SwallowsReply,
    /// Does not take sessions up.
    Forgets,
}

/// The log, common to all nodes of a test.
#[derive(Debug)]
pub struct Log {
    messages: Mutex<Vec<Value>>,
    keys: Mutex<HashMap<String, u64>>,
    live: broadcast::Sender<Value>,
    fault: Mutex<Fault>,
    /// How many messages a replay holds at most.
    replay_limit: usize,
}

impl Log {
    pub fn new(replay_limit: usize) -> Arc<Self> {
        let live = broadcast::Sender::new(10_000);
        Arc::new(Self {
            messages: Mutex::default(),
            keys: Mutex::default(),
            live,
            fault: Mutex::default(),
            replay_limit,
        })
    }

    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    pub fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    pub fn messages(&self) -> Vec<Value> {
        self.messages.lock().unwrap().clone()
    }

    /// Returns the number, and whether the key was known.
    fn append(&self, frame: &Value) -> (u64, bool) {
        let key = frame["key"].as_str().unwrap().to_owned();
        let (mut keys, mut messages) = (self.keys.lock().unwrap(), self.messages.lock().unwrap());
        if let Some(seq) = keys.get(&key) {
            return (*seq, true);
        }
        let seq = messages.len() as u64 + 1;
        let event = json!({"ev": "message", "conversation": "c", "seq": seq, "id": format!("m{seq}"),
            "sender": "ada", "role": "user", "content": frame["content"], "at": "2026-01-01T00:00:00.000Z"});
        keys.insert(key, seq);
        messages.push(event.clone());
        let _ = self.live.send(event);
        (seq, false)
    }

    fn after(&self, after: u64) -> Vec<Value> {
        self.messages().into_iter().filter(|message| message["seq"].as_u64().unwrap() > after).collect()
    }
}

/// Starts a node; returns its WebSocket URL.
pub async fn node(log: &Arc<Log>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let log = Arc::clone(log);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&log)));
        }
    });
    format!("ws://{address}/v1/ws")
}

struct Connection {
    socket: WebSocketStream<TcpStream>,
    encoding: Encoding,
    joined: bool,
    /// The highest number shown.
    shown: u64,
    /// Held back to be shown late.
    late: Option<Value>,
}

async fn serve(stream: TcpStream, log: Arc<Log>) {
    let mut encoding = Encoding::Json;
    // The shape of this callback is tungstenite's.
    #[expect(clippy::result_large_err, reason = "tungstenite's signature")]
    let choose = |request: &Request, mut response: Response| {
        if let Some(offer) = request.headers().get("sec-websocket-protocol") {
            encoding = if offer == "starling.v1.msgpack" { Encoding::MessagePack } else { Encoding::Json };
            response.headers_mut().insert("sec-websocket-protocol", offer.clone());
        }
        Ok(response)
    };
    let socket = accept_hdr_async(stream, choose).await.unwrap();
    let mut live = log.live.subscribe();
    let mut connection = Connection { socket, encoding, joined: false, shown: 0, late: None };
    loop {
        tokio::select! {
            message = connection.socket.next() => {
                let Some(Ok(message)) = message else { return };
                let Ok(Some(frame)) = encoding.decode(&message) else { return };
                if connection.command(&log, &frame).await.is_none() { return; }
            }
            Ok(event) = live.recv() => connection.show(&log, event).await,
        }
    }
}

impl Connection {
    /// None ends the connection.
    async fn command(&mut self, log: &Log, frame: &Value) -> Option<()> {
        let op = frame["op"].as_str().unwrap();
        let ok = match op {
            "connect" if frame["token"] == "bad" => {
                self.put(&json!({"id": frame["id"], "error": {"code": "unauthorized", "message": "no"}}))
                    .await;
                let close = CloseFrame { code: 4401.into(), reason: "no".into() };
                let _ = self.socket.send(Message::Close(Some(close))).await;
                return None;
            }
            "connect" => {
                let resumed = frame.get("resume").is_some() && log.fault() != Fault::Forgets;
                let mut ok = json!({"session": "s", "ticket": "t", "user": "ada", "resumed": resumed});
                if let Some(after) = frame["resume"]["cursors"]["c"].as_u64().filter(|_| resumed) {
                    ok["conversations"] = json!({ "c": self.replay_state(log, after) });
                    self.reply_then_replay(log, frame, ok, after).await;
                    return Some(());
                }
                ok
            }
            "join" => {
                let head = log.messages().len() as u64;
                let after = frame["after"].as_u64().unwrap_or(head);
                let state = self.replay_state(log, after);
                self.reply_then_replay(log, frame, state, after).await;
                return Some(());
            }
            "history" => {
                let page =
                    log.after(frame["after"].as_u64().unwrap()).into_iter().take(2).collect::<Vec<_>>();
                json!({ "messages": page, "more": true })
            }
            "send" => {
                let (seq, duplicate) = log.append(frame);
                if log.fault() == Fault::SwallowsReply {
                    log.set(Fault::None);
                    return None;
                }
                json!({"seq": seq, "id": format!("m{seq}"), "at": "", "duplicate": duplicate})
            }
            "echo" => frame["value"].clone(),
            "silence" => return Some(()),
            _ => {
                let error = json!({"code": "rate_limited", "message": "slowly", "retry_after_ms": 7});
                self.put(&json!({"id": frame["id"], "error": error})).await;
                return Some(());
            }
        };
        self.put(&json!({ "id": frame["id"], "ok": ok })).await;
        Some(())
    }

    fn replay_state(&self, log: &Log, after: u64) -> Value {
        let missed = log.after(after).len();
        let replayed = missed.min(log.replay_limit);
        json!({"head": log.messages().len(), "replayed": replayed, "truncated": missed > replayed})
    }

    async fn reply_then_replay(&mut self, log: &Log, frame: &Value, ok: Value, after: u64) {
        let missed = log.after(after);
        self.put(&json!({ "id": frame["id"], "ok": ok })).await;
        self.joined = true;
        self.shown = after;
        for event in missed.iter().skip(missed.len().saturating_sub(log.replay_limit)) {
            self.show(log, event.clone()).await;
        }
    }

    async fn show(&mut self, log: &Log, event: Value) {
        let seq = event["seq"].as_u64().unwrap();
        if !self.joined || seq <= self.shown {
            return;
        }
        self.shown = seq;
        match (log.fault(), seq) {
            (Fault::Loses, 3) => return,
            (Fault::Swaps, 3) => {
                self.late = Some(event);
                return;
            }
            (Fault::Doubles, 3) => self.put(&event).await,
            _ => {}
        }
        self.put(&event).await;
        if let Some(late) = self.late.take() {
            self.put(&late).await;
        }
    }

    async fn put(&mut self, value: &Value) {
        // A client that is gone shows on the next read.
        let _ = self.socket.send(self.encoding.encode(value).unwrap()).await;
    }
}
