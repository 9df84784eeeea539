//! The examples in `docs/http.md` must give the results on the page.

use serde_json::Value;
use starling_testkit::node::Node;
use starling_testkit::token::Token;

const PAGE: &str = include_str!("../../../../docs/http.md");

/// A command and the response below it.
struct Example {
    command: String,
    status: u16,
    answer: Option<Value>,
}

#[tokio::test]
async fn every_example_answers_what_the_page_shows() {
    let node = Node::start().await.expect("a node");
    let examples = examples();
    assert_eq!(
        examples.len(),
        PAGE.matches("\ncurl ").count(),
        "every curl on the page is an example with an answer"
    );
    assert!(examples.len() >= 17);
    for example in examples {
        let (status, body) = run(&node, &example.command).await;
        assert_eq!(status, example.status, "{}\n{body}", example.command);
        match example.answer {
            None => assert_eq!(body, "", "{}", example.command),
            Some(shown) => {
                let answered: Value = serde_json::from_str(&body).expect("JSON");
                assert_same_form(&shown, &answered, &example.command);
            }
        }
    }
}

async fn run(node: &Node, command: &str) -> (u16, String) {
    let output = tokio::process::Command::new("sh")
        .args(["-c", &format!("{command} -w '\\n%{{http_code}}'")])
        .env("STARLING", node.http_url())
        .env("TOKEN", node.token("alice"))
        .env("JOBS_TOKEN", Token::of("backend").scope("jobs:*").sign(node.secret()))
        .env("WEBHOOKS_TOKEN", Token::of("backend").scope("webhooks").sign(node.secret()))
        .env("OPERATE_TOKEN", Token::of("operator").scope("operate").sign(node.secret()))
        .env("ADMIN_TOKEN", Token::of("root").scope("admin").sign(node.secret()))
        .output()
        .await
        .expect("a shell");
    assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let (body, status) = text.rsplit_once('\n').expect("a status");
    (status.parse().expect("a status"), body.to_owned())
}

/// Parses the page: a block of `sh`, followed by a block of `json` with the status.
fn examples() -> Vec<Example> {
    let mut found = Vec::new();
    let mut command = None;
    for block in blocks() {
        match block {
            ("sh", text) => command = Some(text),
            (info, text) => {
                let Some(status) = info.strip_prefix("json ") else { continue };
                let command = command.take().expect("a command above the answer").trim().to_owned();
                let answer = (!text.trim().is_empty()).then(|| serde_json::from_str(text).expect("JSON"));
                found.push(Example { command, status: status.parse().expect("a status"), answer });
            }
        }
    }
    found
}

fn blocks() -> Vec<(&'static str, &'static str)> {
    let parts: Vec<&str> = PAGE.split("```").collect();
    parts
        .iter()
        .skip(1)
        .step_by(2)
        .map(|block| block.split_once('\n').expect("a line with the language"))
        .collect()
}

/// Compares two values: objects must have the same fields, lists the same length, and fixed values must be equal. For values that differ from run to
/// run (times, ids, figures, the node's name) only the type is compared.
#[track_caller]
fn assert_same_form(shown: &Value, answered: &Value, command: &str) {
    const VARYING: [&str; 19] = [
        "webhook",
        "secret",
        "at",
        "job",
        "run_at",
        "next_at",
        "lease",
        "deadline",
        "created_at",
        "started_at",
        "id",
        "epoch",
        "node",
        "version",
        "uptime_seconds",
        "latency_ms",
        "size",
        "size_max",
        "idle",
    ];
    match (shown, answered) {
        (Value::Object(shown), Value::Object(answered)) => {
            let fields = |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
            assert_eq!(fields(shown), fields(answered), "{command}");
            for (name, shown) in shown {
                let answered = &answered[name];
                if VARYING.contains(&name.as_str()) {
                    assert_eq!(
                        std::mem::discriminant(shown),
                        std::mem::discriminant(answered),
                        "{name}: {command}"
                    );
                } else {
                    assert_same_form(shown, answered, command);
                }
            }
        }
        (Value::Array(shown), Value::Array(answered)) => {
            assert_eq!(shown.len(), answered.len(), "{command}");
            for (shown, answered) in shown.iter().zip(answered) {
                assert_same_form(shown, answered, command);
            }
        }
        _ => assert_eq!(shown, answered, "{command}"),
    }
}
