//! The workers in `clients/jobs`.

use std::process::Stdio;

use serde_json::json;
use tokio::process::{Child, Command};

use crate::place::{Caller, everywhere};

fn start(program: &str, file: &str, caller: &Caller, queue: &str) -> Child {
    let path = format!("{}/../../clients/jobs/{file}", env!("CARGO_MANIFEST_DIR"));
    let mut worker = Command::new(program);
    worker.args([&path, caller.url(), caller.token(), queue]).stdout(Stdio::null()).kill_on_drop(true);
    worker.spawn().unwrap_or_else(|error| panic!("{program} is needed: {error}"))
}

#[test]
fn the_workers_in_python_and_node_do_jobs_and_report_what_went_wrong() {
    everywhere(async |place| {
        let ada = place.caller();
        for (program, file) in [("python3", "worker.py"), ("node", "worker.mjs")] {
            let _worker = start(program, file, &place.other_caller(), program);
            let sum = ada.add(program, json!({"kind": "add", "payload": [1, 2, 39]})).await;
            let unknown = ada.add(program, json!({"kind": "subtract", "attempts": 1})).await;
            assert_eq!(ada.until(&sum, "done").await["result"], json!({"sum": 42}));
            let failed = ada.until(&unknown, "failed").await;
            let error = failed["attempts"][0]["error"].as_str().unwrap();
            assert!(error.contains("no worker knows how to do subtract"), "{error}");
        }
    });
}

/// Runs `keep` of the worker in Python with these answers to its requests: a node that is away, one that answers, and one that says that the
/// lease is over.
const KEEP: &str = r#"
import sys, urllib.error
path, sys.argv = sys.argv[1], ["worker.py", "http://127.0.0.1:9", "token", "queue"]
worker = {}
exec(open(path).read().split("\nwhile True:")[0], worker)
answers = [OSError("no node"), None, urllib.error.HTTPError("", 409, "over", {}, None), None]
class Done:
    def wait(self, seconds):
        return not answers
def call(*_, **__):
    answer = answers.pop(0)
    if answer:
        raise answer
worker["call"] = call
worker["keep"]({"job": "1", "lease": "2"}, Done())
assert len(answers) == 1, answers
"#;

#[tokio::test]
async fn the_worker_in_python_extends_its_lease_until_that_is_over_and_after_a_failure() {
    let path = format!("{}/../../clients/jobs/worker.py", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3").args(["-c", KEEP, &path]).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
