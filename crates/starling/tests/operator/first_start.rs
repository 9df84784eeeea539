//! The first start, without any configuration.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::Value;
use starling_testkit::http::{Request, Response};
use starling_testkit::node::{Node, NodeBuilder};
use starling_testkit::wait::until_true;
use tokio::process::Command;

use crate::SOON;

const PROGRAM: &str = env!("CARGO_BIN_EXE_starling");

async fn get(node: &Node, token: &str, path: &str) -> Response {
    Request::new("GET", &format!("{}{path}", node.http_url())).bearer(token).send().await.unwrap()
}

/// Starts a node with this shell command on a new terminal, whose output is read as the node's log.
fn on_a_terminal(line: &str) -> NodeBuilder {
    Node::builder().secret("").program("script").arg("-qec").arg(line).arg("/dev/null")
}

/// Starts a node with this shell command, without a terminal.
fn in_a_shell(line: &str) -> NodeBuilder {
    Node::builder().secret("").program("sh").arg("-c").arg(line)
}

/// Returns the tokens of both links in their order, once they are shown.
async fn shown(node: &Node) -> [String; 2] {
    let start = format!("{}/#token=", node.http_url());
    // Waits for the end of the text, so that nothing is missing.
    until_true(SOON, "links", async || Ok(node.log().contains("--user carol"))).await.unwrap();
    let log = node.log();
    let tokens = log.lines().filter_map(|line| line.trim().strip_prefix(&start).map(str::to_owned));
    tokens.collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("not two links: {log}"))
}

#[tokio::test]
async fn on_a_terminal_two_links_are_shown_whose_tokens_work() {
    let node = on_a_terminal(&format!("exec {PROGRAM}")).start().await.unwrap();
    let [alice, bob] = shown(&node).await;
    for token in [&alice, &bob] {
        let answer = get(&node, token, "/v1/conversations").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    // Only Alice may list the nodes.
    assert_eq!(get(&node, &alice, "/v1/nodes").await.status, 200);
    assert_eq!(get(&node, &bob, "/v1/nodes").await.status, 403);
}

#[tokio::test]
async fn who_keeps_the_log_in_a_file_sees_the_links_all_the_same() {
    let node = on_a_terminal(&format!("exec {PROGRAM} > output")).start().await.unwrap();
    let [alice, _] = shown(&node).await;
    assert_eq!(get(&node, &alice, "/v1/nodes").await.status, 200);
    // The log contains one JSON object per line.
    let output = || std::fs::read_to_string(node.folder().join("output"));
    until_true(SOON, "the log", async || Ok(output()?.contains("serving"))).await.unwrap();
    let output = output().unwrap();
    let (whole_lines, _) = output.rsplit_once('\n').unwrap_or_default();
    for line in whole_lines.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()), "{line}");
    }
    assert!(!output.contains("token="), "{output}");
}

#[tokio::test]
async fn without_a_terminal_a_node_of_this_machine_shows_them_beside_the_log() {
    let node = in_a_shell(&format!("exec {PROGRAM} > output")).start().await.unwrap();
    let [alice, _] = shown(&node).await;
    assert_eq!(get(&node, &alice, "/v1/nodes").await.status, 200);
    let output = || std::fs::read_to_string(node.folder().join("output"));
    until_true(SOON, "the log", async || Ok(output()?.contains("serving"))).await.unwrap();
    assert!(!output().unwrap().contains("token="), "{}", output().unwrap());
    assert!(!node.log().contains('\x1b'), "colours are for terminals: {}", node.log());
}

#[tokio::test]
async fn the_secret_of_a_first_start_is_kept_and_signs_more_tokens() {
    let node = Node::builder().secret("").start().await.unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["token", "--user", "alice"]).current_dir(node.folder()).env_clear().stdin(Stdio::null());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let token = String::from_utf8(output.stdout).unwrap();
    let answer = get(&node, token.trim(), "/v1/conversations").await;
    assert_eq!(answer.status, 200, "{}", answer.text());

    let file = node.folder().join("data/starling.secret");
    let secret = std::fs::read_to_string(&file).unwrap();
    assert!(secret.len() >= 32);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!node.log().contains(&secret));

    let status = node.terminate(SOON).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", node.log());
    node.start_again().await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), secret);
    assert_eq!(get(&node, token.trim(), "/v1/conversations").await.status, 200);
}

#[tokio::test]
async fn a_node_with_a_secret_of_the_operators_shows_no_links() {
    let node = on_a_terminal(&format!("exec {PROGRAM}"))
        .secret("a secret of the operator's, which is long enough")
        .start()
        .await
        .unwrap();
    until_true(SOON, "the start", async || Ok(node.log().contains("serving"))).await.unwrap();
    assert!(!node.log().contains("token="), "{}", node.log());
    assert!(!node.folder().join("data/starling.secret").exists());
}
