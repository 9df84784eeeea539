//! Nodes that all scenarios share. Each scenario uses its own tenant.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use starling_testkit::backend::{Backend, Received};
use starling_testkit::client::{Client, Encoding, ErrorReply, Failure};
use starling_testkit::http::{Request, Response};
use starling_testkit::node::{Cluster, Node, SECRET};
use starling_testkit::token::Token;
use starling_webhooks::{Secret, SignedHeaders};
use tokio::runtime::Builder;
use tokio::sync::OnceCell;

/// Longer than anything takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// Where a scenario runs.
#[derive(Clone)]
pub struct Place {
    tenant: String,
    encoding: Encoding,
    /// The same node twice, for a single node.
    nodes: [&'static Node; 2],
}

/// Runs a scenario in both places at the same time, each on a thread named after the place.
pub fn everywhere(scenario: impl AsyncFn(&Place) + Sync) {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let scenario = &scenario;
    thread::scope(|scope| {
        let run = |(name, encoding): (&'static str, Encoding)| {
            let run = move || {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let nodes = if name == "sqlite" { alone().await } else { cluster().await };
                    scenario(&Place { tenant: format!("tenant-{number}"), encoding, nodes }).await;
                });
            };
            (name, thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, run).unwrap())
        };
        let runs = [("sqlite", Encoding::Json), ("postgres", Encoding::MessagePack)].map(run);
        let failed: Vec<&str> =
            runs.into_iter().filter_map(|(name, run)| run.join().is_err().then_some(name)).collect();
        assert!(failed.is_empty(), "failed in {}", failed.join(", "));
    });
}

async fn alone() -> [&'static Node; 2] {
    static ALONE: OnceCell<Node> = OnceCell::const_new();
    let start = || Node::builder().unlimited().env(ALLOWED.0, ALLOWED.1).start();
    [ALONE.get_or_try_init(start).await.unwrap(); 2]
}

async fn cluster() -> [&'static Node; 2] {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let start = || Cluster::builder(2).unlimited().env(ALLOWED.0, ALLOWED.1).start();
    let cluster = CLUSTER.get_or_try_init(start).await.unwrap();
    [cluster.node(0), cluster.node(1)]
}

/// The setting that lets nodes ask backends of the loopback.
pub const ALLOWED: (&str, &str) = ("STARLING_WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8");

/// Somebody who calls a node with a token.
#[derive(Clone)]
pub struct Caller {
    url: String,
    token: String,
}

impl Place {
    /// The tenant of this scenario.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The application of the tenant, at a node: 0, or 1 for the other one if there are two.
    pub fn application(&self, node: usize) -> Caller {
        self.caller(node, "backend", "webhooks")
    }

    /// Somebody with this scope.
    pub fn caller(&self, node: usize, user: &str, scope: &str) -> Caller {
        self.caller_of(node, &self.tenant, user, scope)
    }

    /// Somebody of another tenant.
    pub fn stranger(&self, user: &str, scope: &str) -> Caller {
        self.caller_of(0, &format!("{}-other", self.tenant), user, scope)
    }

    fn caller_of(&self, node: usize, tenant: &str, user: &str, scope: &str) -> Caller {
        Caller::at(self.nodes[node], tenant, user, scope)
    }

    /// A user's connection to a node.
    pub async fn connect(&self, node: usize, user: &str) -> Client {
        self.try_connect(node, user).await.unwrap()
    }

    /// A user's connection to a node, if it may connect.
    pub async fn try_connect(&self, node: usize, user: &str) -> Result<Client, Failure> {
        let token = Token::of(user).tenant(&self.tenant).sign(SECRET);
        Client::connect(&self.nodes[node].ws_url(), &token, self.encoding).await
    }

    /// A connection of a user of another tenant.
    pub async fn connect_stranger(&self, user: &str) -> Client {
        let token = Token::of(user).tenant(&format!("{}-other", self.tenant)).sign(SECRET);
        Client::connect(&self.nodes[0].ws_url(), &token, self.encoding).await.unwrap()
    }

    /// Sets a hook through the first node, where it holds at once. Returns the secret that signs its requests.
    ///
    /// The time is the longest one, so that a busy machine is not taken for a slow backend.
    pub async fn set(&self, point: &str, backend: &Backend) -> Secret {
        self.set_with(point, json!({"url": backend.url("/"), "timeout_ms": 5000})).await
    }

    /// Sets a hook that is new, with these fields.
    pub async fn set_with(&self, point: &str, fields: Value) -> Secret {
        let set = self.application(0).put(&format!("/v1/hooks/{point}"), &fields).await;
        Secret::parse(json_of(&set, 201)["secret"].as_str().unwrap()).unwrap()
    }
}

impl Caller {
    /// Somebody with this scope, at a node.
    pub fn at(node: &Node, tenant: &str, user: &str, scope: &str) -> Self {
        let token = Token::of(user).tenant(tenant).scope(scope).sign(SECRET);
        Self { url: node.http_url(), token }
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request("GET", path).send().await.unwrap()
    }

    pub async fn delete(&self, path: &str) -> Response {
        self.request("DELETE", path).send().await.unwrap()
    }

    pub async fn put(&self, path: &str, body: &Value) -> Response {
        self.request("PUT", path).json(body).send().await.unwrap()
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Response {
        self.request("PATCH", path).json(body).send().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.request("POST", path).json(body).send().await.unwrap()
    }

    fn request(&self, method: &str, path: &str) -> Request {
        Request::new(method, &format!("{}{path}", self.url)).bearer(&self.token)
    }
}

/// Short functions for scenarios. They panic on failure.
pub trait Talk {
    /// Sends a command that must succeed, and returns its `ok`.
    async fn ask(&mut self, op: &str, fields: Value) -> Value;
    /// Sends a command that must fail, and returns its error.
    async fn refusal(&mut self, op: &str, fields: Value) -> ErrorReply;
    /// Returns the content and metadata of the next message.
    async fn hears(&mut self) -> (Value, Value);
}

impl Talk for Client {
    async fn ask(&mut self, op: &str, fields: Value) -> Value {
        let answer = self.command(op, fields.clone()).await;
        answer.unwrap_or_else(|failure| panic!("{op} {fields}: {failure}"))
    }

    async fn refusal(&mut self, op: &str, fields: Value) -> ErrorReply {
        match self.command(op, fields.clone()).await {
            Err(Failure::Refused(reply)) => reply,
            other => panic!("{op} {fields} was not refused: {other:?}"),
        }
    }

    async fn hears(&mut self) -> (Value, Value) {
        let event = self.wait_for_event("message").await.unwrap();
        (event["content"].clone(), event["metadata"].clone())
    }
}

/// A `send` with a key of its own.
pub fn message(conversation: &str, content: &str) -> Value {
    let key = format!("{:032x}", rand::random::<u128>());
    json!({"conversation": conversation, "key": key, "content": content})
}

/// Checks that a request of a backend was signed with this secret.
#[track_caller]
pub fn assert_signed(request: &Received, secret: &Secret) {
    let [id, timestamp, signature] = request.signed.clone();
    let signed = SignedHeaders { id, timestamp: timestamp.parse().expect("seconds"), signature };
    signed.verify(secret, SystemTime::now(), request.text.as_bytes()).expect("a signature");
}

/// Returns the JSON of a response, which must have this status.
#[track_caller]
pub fn json_of(response: &Response, status: u16) -> Value {
    assert_eq!(response.status, status, "{}", response.text());
    response.json().expect("JSON")
}

/// Checks that a call was refused, and returns the message.
#[track_caller]
pub fn refused(response: &Response, status: u16, code: &str) -> String {
    let body = json_of(response, status);
    assert_eq!(body["error"]["code"], code, "{body}");
    body["error"]["message"].as_str().expect("a message").to_owned()
}
