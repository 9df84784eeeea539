//! Nodes that all scenarios share. Each scenario uses its own tenant.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use starling_testkit::http::{Request, Response};
use starling_testkit::node::{Cluster, Node, SECRET};
use starling_testkit::token::Token;
use starling_testkit::wait;
use tokio::runtime::Builder;
use tokio::sync::OnceCell;

/// Longer than anything takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// Where a scenario runs.
#[derive(Clone)]
pub struct Place {
    tenant: String,
    /// The same node twice, for a single node.
    nodes: [&'static Node; 2],
}

/// Runs a scenario in both places at the same time, each on a thread named after the place.
pub fn everywhere(scenario: impl AsyncFn(&Place) + Sync) {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let scenario = &scenario;
    thread::scope(|scope| {
        let run = |name: &'static str| {
            let run = move || {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let nodes = if name == "sqlite" { alone().await } else { cluster().await };
                    scenario(&Place { tenant: format!("tenant-{number}"), nodes }).await;
                });
            };
            (name, thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, run).unwrap())
        };
        let runs = ["sqlite", "postgres"].map(run);
        let failed: Vec<&str> =
            runs.into_iter().filter_map(|(name, run)| run.join().is_err().then_some(name)).collect();
        assert!(failed.is_empty(), "failed in {}", failed.join(", "));
    });
}

async fn alone() -> [&'static Node; 2] {
    static ALONE: OnceCell<Node> = OnceCell::const_new();
    [ALONE.get_or_try_init(|| Node::builder().unlimited().start()).await.unwrap(); 2]
}

async fn cluster() -> [&'static Node; 2] {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let cluster = CLUSTER.get_or_try_init(|| Cluster::builder(2).unlimited().start()).await.unwrap();
    [cluster.node(0), cluster.node(1)]
}

/// Somebody who calls a node with a token.
#[derive(Clone)]
pub struct Caller {
    url: String,
    token: String,
}

impl Place {
    /// A caller of the first node whose token covers every queue.
    pub fn caller(&self) -> Caller {
        self.caller_with(0, "jobs:*")
    }

    /// A caller of the other node, if there are two, whose token covers every queue.
    pub fn other_caller(&self) -> Caller {
        self.caller_with(1, "jobs:*")
    }

    /// A caller of a node with this scope.
    pub fn caller_with(&self, node: usize, scope: &str) -> Caller {
        self.caller_of(node, &self.tenant, scope)
    }

    /// A caller of another tenant.
    pub fn stranger(&self) -> Caller {
        self.caller_of(0, &format!("{}-other", self.tenant), "jobs:* operate")
    }

    fn caller_of(&self, node: usize, tenant: &str, scope: &str) -> Caller {
        let token = Token::of("ada").tenant(tenant).scope(scope).sign(SECRET);
        Caller::new(self.nodes[node], token)
    }
}

impl Caller {
    pub fn new(node: &Node, token: String) -> Self {
        Self { url: node.http_url(), token }
    }

    /// The token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The node's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request("GET", path).send().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.request("POST", path).json(body).send().await.unwrap()
    }

    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::new(method, &format!("{}{path}", self.url)).bearer(&self.token)
    }

    /// Adds a job to a queue, with further fields, and returns its id.
    pub async fn add(&self, queue: &str, fields: Value) -> String {
        let mut body = json!({"queue": queue, "payload": {"n": 1}});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let added = json_of(&self.post("/v1/jobs", &body).await, 201);
        assert_eq!(added["created"], true, "{added}");
        added["job"].as_str().unwrap().to_owned()
    }

    /// Takes jobs, with these fields.
    pub async fn take(&self, queue: &str, fields: Value) -> Vec<Value> {
        let taken = json_of(&self.post(&format!("/v1/queues/{queue}/take"), &fields).await, 200);
        taken["jobs"].as_array().unwrap().clone()
    }

    /// Takes one job, which may have to become ready first.
    pub async fn take_one(&self, queue: &str) -> Value {
        let mut jobs = self.take(queue, json!({"wait_seconds": 30})).await;
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        jobs.remove(0)
    }

    /// Reports `done`, `fail` or `extend` for a job that was taken.
    pub async fn report(&self, taken: &Value, what: &str, fields: Value) -> Response {
        let mut body = json!({"lease": taken["lease"]});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.post(&format!("/v1/jobs/{}/{what}", taken["job"].as_str().unwrap()), &body).await
    }

    /// Returns a job.
    pub async fn job(&self, id: &str) -> Value {
        json_of(&self.get(&format!("/v1/jobs/{id}")).await, 200)
    }

    /// Waits until a job has this state.
    pub async fn until(&self, id: &str, state: &str) -> Value {
        let what = format!("job {id} to be {state}");
        wait::until_true(SOON, &what, async || Ok(self.job(id).await["state"] == state)).await.unwrap();
        self.job(id).await
    }

    /// Returns the names of the queues that the caller is shown. An operator is also shown the queues that other scenarios have limited.
    pub async fn queue_names(&self) -> Vec<String> {
        let page = json_of(&self.get("/v1/queues?limit=100").await, 200);
        assert_eq!(page["next"], Value::Null, "one page has them all");
        let queues = page["queues"].as_array().unwrap().iter();
        queues.map(|queue| queue["queue"].as_str().unwrap().to_owned()).collect()
    }

    /// Returns the ids of the jobs that a query finds, over all pages.
    pub async fn list(&self, query: &str) -> Vec<String> {
        let (mut ids, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = json_of(&self.get(&format!("/v1/jobs?cursor={cursor}&{query}")).await, 200);
            ids.extend(
                page["jobs"].as_array().unwrap().iter().map(|job| job["job"].as_str().unwrap().to_owned()),
            );
            match page["next"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => return ids,
            }
        }
    }
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
