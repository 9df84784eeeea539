//! Signals cause a drain, a reload of the configuration, or nothing, but never a sudden end.

use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::Node;
use starling_testkit::process::Signal;
use starling_testkit::wait::until_true;

use crate::SOON;

const PROGRAM: &str = env!("CARGO_BIN_EXE_starling");

async fn ann(node: &Node) -> Client {
    Client::connect(&node.ws_url(), &node.token("ann"), Encoding::Json).await.unwrap()
}

async fn until_logged(node: &Node, text: &str) {
    until_true(SOON, text, async || Ok(node.log().contains(text))).await.unwrap_or_else(|error| {
        panic!("{error:#}: {}", node.log());
    });
}

#[tokio::test]
async fn a_signal_that_means_nothing_is_ignored() {
    let node = Node::start().await.unwrap();
    let mut client = ann(&node).await;
    for (signal, name) in [
        (Signal::USR1, "SIGUSR1"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::VTALARM, "SIGVTALRM"),
        (Signal::PROF, "SIGPROF"),
        (Signal::IO, "SIGIO"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
    ] {
        node.signal(signal).unwrap();
        until_logged(&node, name).await;
        client.command("ping", serde_json::json!({})).await.unwrap();
    }
}

#[tokio::test]
async fn sigquit_drains_as_sigterm_does() {
    let node = Node::builder().env("STARLING_DRAIN_SECONDS", "1").start().await.unwrap();
    let mut client = ann(&node).await;
    node.signal(Signal::QUIT).unwrap();
    assert_eq!(client.closed(SOON).await.unwrap().code, Some(1012));
    let status = node.ended(SOON).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", node.log());
}

#[tokio::test]
async fn after_sighup_the_log_level_is_read_again_and_the_rest_is_named() {
    let node = Node::builder()
        .arg("--config")
        .arg("starling.toml")
        .file("starling.toml", "log = \"info\"\nheartbeat_seconds = 9\n")
        .start()
        .await
        .unwrap();
    let mut client = ann(&node).await;
    let rewrite = |text: &str| {
        std::fs::write(node.folder().join("starling.toml"), text).unwrap();
        node.signal(Signal::HUP).unwrap();
    };
    assert!(!node.log().contains("\"DEBUG\""), "{}", node.log());
    rewrite("log = \"debug\"\nheartbeat_seconds = 10\n");
    until_logged(&node, "reloaded the configuration").await;
    let log = node.log();
    let restart = log.lines().find(|line| line.contains("need a restart")).expect("a warning");
    assert!(restart.contains("\"heartbeat_seconds\"") && !restart.contains("log"), "{restart}");
    // Something that is logged at debug level.
    let garbage = Client::connect(&node.ws_url(), "no token", Encoding::Json).await;
    assert!(garbage.is_err());
    until_logged(&node, "\"DEBUG\"").await;

    for (broken, named) in
        [("log = \"inof\"", "did you mean `info`?"), ("shards = 1\nlog = debug", "must stand in quotes")]
    {
        rewrite(broken);
        until_logged(&node, named).await;
        client.command("ping", serde_json::json!({})).await.unwrap();
    }
    let log = node.log();
    assert!(log.contains("nothing was changed"), "{log}");
}

#[tokio::test]
async fn a_node_whose_terminal_closes_drains_and_says_so_to_its_clients() {
    // `script` makes a terminal that ends with it. The node writes its process id, because it outlives `script`.
    let line = format!("echo $$ > pid; exec {PROGRAM} > output 2>&1 < /dev/tty");
    let node = Node::builder()
        .env("STARLING_DRAIN_SECONDS", "1")
        .program("script")
        .arg("-qec")
        .arg(&line)
        .arg("/dev/null")
        .start()
        .await
        .unwrap();
    let output = node.folder().join("output");
    let mut client = ann(&node).await;
    node.kill().await.unwrap();
    assert_eq!(client.closed(SOON).await.unwrap().code, Some(1012));
    let drained = || std::fs::read_to_string(&output);
    until_true(SOON, "the end of the drain", async || Ok(drained()?.contains("drained"))).await.unwrap();
    let pid = std::fs::read_to_string(node.folder().join("pid")).unwrap();
    let process = std::path::PathBuf::from(format!("/proc/{}", pid.trim()));
    until_true(SOON, "the end of the process", async || Ok(!process.exists())).await.unwrap();
}
