//! Nodes and workers that die.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use starling_testkit::node::{Cluster, Node, SECRET};
use starling_testkit::token::Token;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::place::{Caller, SOON, json_of};

/// A worker that takes a job for five seconds, says so, works for a second, reports, and says what the answer was.
const WORKER: &str = r#"
import json, sys, time, urllib.error, urllib.request
node, token, queue = sys.argv[1:]
def call(path, body):
    request = urllib.request.Request(node + path, json.dumps(body).encode(), {"authorization": "Bearer " + token})
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, None
job = call("/v1/queues/" + queue + "/take", {"wait_seconds": 30, "lease_seconds": 5})[1]["jobs"][0]
print("taken", flush=True)
time.sleep(1)
print(call("/v1/jobs/" + job["job"] + "/done", {"lease": job["lease"], "result": "late"})[0], flush=True)
"#;

/// A worker in a process of its own.
struct Worker {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start(caller: &Caller, queue: &str) -> Worker {
        let mut command = Command::new("python3");
        command
            .args(["-c", WORKER, caller.url(), caller.token(), queue])
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut process = command.spawn().expect("python3 is needed");
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Worker { process, lines }
    }

    async fn says(&mut self) -> String {
        timeout(SOON, self.lines.next_line()).await.expect("in time").unwrap().expect("a line")
    }

    async fn signal(&self, signal: &str) {
        let pid = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
    }
}

/// Freezes a worker for longer than its lease, gives its job to another worker, and thaws it while that one works. Returns the status of the
/// late report.
async fn report_of_a_frozen_worker(ada: &Caller) -> String {
    let id = ada.add("mail", json!({})).await;
    let mut frozen = Worker::start(ada, "mail");
    assert_eq!(frozen.says().await, "taken");
    frozen.signal("-STOP").await;
    let second = ada.take_one("mail").await;
    assert_eq!((&second["job"], &second["attempt"]), (&json!(id), &json!(2)));
    frozen.signal("-CONT").await;
    let late = frozen.says().await;
    json_of(&ada.report(&second, "done", json!({"result": "second"})).await, 200);
    late
}

#[tokio::test]
async fn a_frozen_worker_finishes_nothing_that_another_has_and_without_the_fence_this_is_noticed() {
    let cluster = Cluster::builder(1).unlimited().start().await.unwrap();
    let ada = caller(cluster.node(0));
    assert_eq!(report_of_a_frozen_worker(&ada).await, "409");
    let jobs = json_of(&ada.get("/v1/jobs").await, 200);
    assert_eq!(jobs["jobs"][0]["result"], "second");
    assert_eq!(jobs["jobs"][0]["attempts"][0]["outcome"], "lost");
    // The control: a completion that is not fenced.
    let (postgres, function) = (cluster.postgres().unwrap(), "'starling_jobs_finish_6'::regproc");
    let name = cluster.database_url().rsplit('/').next().unwrap().split('?').next().unwrap();
    let fenced = postgres.psql_in(name, &format!("SELECT pg_get_functiondef({function})")).await.unwrap();
    let unfenced = fenced.replace("r.generation = g.generation AND", "");
    assert_ne!(unfenced, fenced);
    postgres.psql_in(name, &unfenced).await.unwrap();
    assert_eq!(
        report_of_a_frozen_worker(&ada).await,
        "200",
        "the fence was off, and the late worker was believed"
    );
}

#[tokio::test]
async fn a_killed_worker_loses_its_job_to_another_when_its_lease_is_over() {
    let node = Node::builder().unlimited().start().await.unwrap();
    let ada = caller(&node);
    let id = ada.add("mail", json!({})).await;
    let mut killed = Worker::start(&ada, "mail");
    assert_eq!(killed.says().await, "taken");
    killed.signal("-KILL").await;
    let began = Instant::now();
    let second = ada.take_one("mail").await;
    assert_eq!((&second["job"], &second["attempt"]), (&json!(id), &json!(2)));
    assert!(began.elapsed() > Duration::from_secs(3), "the lease was not over: {:?}", began.elapsed());
    json_of(&ada.report(&second, "done", json!({})).await, 200);
    assert_eq!(ada.job(&id).await["state"], "done");
}

fn caller(node: &Node) -> Caller {
    Caller::new(node, Token::of("ada").scope("jobs:*").sign(SECRET))
}

#[tokio::test]
async fn a_killed_node_takes_no_job_along() {
    let cluster = Cluster::builder(2).unlimited().start().await.unwrap();
    let (ada, worker) = (caller(cluster.node(0)), caller(cluster.node(1)));
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(ada.add("mail", json!({})).await);
    }
    let taken = worker.take("mail", json!({"max": 4})).await;
    assert_eq!(taken.len(), 4);
    cluster.node(1).kill().await.unwrap();
    // The worker goes on through the other node, with the leases that it has.
    for job in &taken {
        json_of(&ada.report(job, "done", json!({})).await, 200);
    }
    let rest = ada.take("mail", json!({"max": 100})).await;
    assert_eq!(rest.len(), 6);
    for job in &rest {
        json_of(&ada.report(job, "done", json!({})).await, 200);
    }
    for id in &ids {
        let job = ada.job(id).await;
        let attempts = job["attempts"].as_array().unwrap();
        assert_eq!((&job["state"], attempts.len()), (&json!("done"), 1), "{job}");
    }
}

#[tokio::test]
async fn jobs_survive_a_killed_single_node() {
    let node = Node::builder().unlimited().start().await.unwrap();
    let ada = caller(&node);
    let (ready, running) = (ada.add("later", json!({})).await, ada.add("mail", json!({})).await);
    let taken = ada.take_one("mail").await;
    node.kill().await.unwrap();
    node.start_again().await.unwrap();
    let ada = caller(&node);
    assert_eq!(ada.take_one("later").await["job"], json!(ready));
    json_of(&ada.report(&taken, "done", json!({})).await, 200);
    assert_eq!(ada.job(&running).await["state"], "done");
}

#[tokio::test]
async fn a_drain_does_not_wait_for_workers_that_wait() {
    let node = Node::builder().unlimited().env("STARLING_DRAIN_SECONDS", "25").start().await.unwrap();
    let ada = caller(&node);
    let wait = async {
        let jobs = ada.take("mail", json!({"wait_seconds": 30})).await;
        (jobs, Instant::now())
    };
    let end = async {
        sleep(Duration::from_millis(500)).await;
        let began = Instant::now();
        node.begin_termination().unwrap();
        began
    };
    let ((jobs, answered), began) = tokio::join!(wait, end);
    assert!(jobs.is_empty());
    assert!(answered.saturating_duration_since(began) < Duration::from_secs(10), "{:?}", answered - began);
}
