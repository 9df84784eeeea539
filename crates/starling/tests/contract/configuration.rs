//! Bad configurations: the program names the mistake and exits before it listens.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use starling_testkit::free_port;
use starling_testkit::node::{Node, NodeBuilder};

use crate::place::shared_node;

const LIMIT: Duration = Duration::from_secs(30);
/// Exit status of a bad configuration.
const BAD: i32 = 64;

/// Starts a node that must not come up; returns its exit status and output.
async fn failed(builder: NodeBuilder) -> (i32, String) {
    let node = builder.without_waiting().start().await.unwrap();
    let status = node.ended(LIMIT).await.unwrap();
    (status.code().expect("an exit status"), node.log())
}

async fn assert_bad(builder: NodeBuilder, named: &str) {
    let (status, log) = failed(builder).await;
    assert_eq!(status, BAD, "{log}");
    assert!(log.contains(named), "does not name {named}: {log}");
    assert!(!log.contains("serving") && !log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn unknown_flags_commands_and_keys_are_named() {
    assert_bad(Node::builder().arg("--no-such-flag").arg("1"), "--no-such-flag").await;
    assert_bad(Node::builder().arg("fly"), "fly").await;
    let file = |text: &str| Node::builder().file("starling.toml", text).arg("--config").arg("starling.toml");
    assert_bad(file("no_such_key = 1\n"), "no_such_key").await;
    assert_bad(file("heartbeat_seconds = \"often\"\n"), "heartbeat_seconds").await;
    assert_bad(file("heartbeat_seconds = \n"), "starling.toml").await;
    assert_bad(Node::builder().arg("--config").arg("not-there.toml"), "not-there.toml").await;
}

#[tokio::test]
async fn bad_values_are_named_wherever_they_stand() {
    for (variable, value) in [
        ("STARLING_LISTEN", "nowhere"),
        ("STARLING_METRICS_LISTEN", "127.0.0.1:99999"),
        ("STARLING_NODE", "no name"),
        ("STARLING_RESUME_WINDOW_SECONDS", "soon"),
        ("STARLING_HEARTBEAT_SECONDS", "0"),
        ("STARLING_REPLAY_LIMIT", "-1"),
        ("STARLING_DRAIN_SECONDS", "1.5"),
        ("STARLING_ALLOWED_ORIGINS", "chat.example"),
        ("STARLING_ALLOWED_ORIGINS", "https://app.example/chat"),
        ("STARLING_ALLOWED_ORIGINS", "https://app.example/"),
        ("STARLING_ALLOWED_ORIGINS", "https://one.example https://two.example"),
        ("STARLING_ALLOWED_ORIGINS", "https://ada@app.example"),
        ("STARLING_ALLOWED_ORIGINS", "https://app.example, *"),
        ("STARLING_ALLOWED_ORIGINS", "https://app.*"),
        ("STARLING_ALLOWED_ORIGINS", "wss://app.example"),
        ("STARLING_JWT_USER_CLAIM", "exp"),
        ("STARLING_JWT_ALGORITHM", "none"),
        ("DATABASE_URL", "mysql://127.0.0.1/x"),
        ("STARLING_TICKET_SECRET", "short"),
    ] {
        let (status, log) = failed(Node::builder().env(variable, value)).await;
        let key = variable.trim_start_matches("STARLING_");
        assert_eq!(status, BAD, "{variable}={value}: {log}");
        assert!(log.contains(key) || log.contains(&key.to_lowercase()), "{variable}: {log}");
    }
    assert_bad(Node::builder().arg("--replay-limit").arg("many"), "--replay-limit").await;
}

#[tokio::test]
async fn addresses_that_can_not_be_used_are_named_before_a_port_is_bound() {
    let taken = shared_node().await.address().to_string();
    for (variable, value) in [
        ("REDIS_URL", "http://u:hunter2@127.0.0.1:1"),
        ("REDIS_URL", "redis://u:hunter2@127.0.0.1:port"),
        ("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:port/starling"),
        ("DATABASE_URL", "postgres://u:hunter2@127.0.0.1/starling?sslmode=maybe"),
        ("STARLING_DATABASE_READ_URL", "postgres://u:hunter2@h/d?sslmode=verify-ca&sslrootcert=none.pem"),
    ] {
        let key = variable.trim_start_matches("STARLING_").to_lowercase();
        let node = Node::builder().database("postgres://127.0.0.1:1/starling").env(variable, value);
        // A node that bound the port first would exit with 1, because the port is in use.
        for node in [node.clone().env("STARLING_LISTEN", &taken), node.arg("config")] {
            let (status, log) = failed(node).await;
            assert_eq!(status, BAD, "{variable}={value}: {log}");
            assert!(log.contains(&format!("{key}: ")) && !log.contains("hunter2"), "{value}: {log}");
        }
    }
    let file = Node::builder().database("sqlite:///proc/nowhere/starling.db");
    assert_bad(file.env("STARLING_LISTEN", &taken), "database_url").await;
}

#[tokio::test]
async fn a_short_secret_is_refused_and_not_shown() {
    let (status, log) = failed(Node::builder().secret("hush-hush-hush")).await;
    assert_eq!(status, BAD, "{log}");
    assert!(log.contains("jwt_secret") && log.contains("32") && !log.contains("hush-hush"), "{log}");
}

#[tokio::test]
async fn redis_without_a_secret_is_refused() {
    let cluster = Node::builder().redis("redis://127.0.0.1:1").database("postgres://127.0.0.1:1/starling");
    assert_bad(cluster.secret(""), "jwt_secret").await;
}

#[tokio::test]
async fn redis_with_a_database_that_one_node_has_for_itself_is_refused() {
    assert_bad(Node::builder().redis("redis://127.0.0.1:1"), "database_url").await;
}

#[tokio::test]
async fn a_key_file_without_an_algorithm_or_that_is_not_there_is_refused() {
    let key_file =
        |builder: NodeBuilder| builder.secret("").env("STARLING_JWT_PUBLIC_KEY_FILE", "not-there.pem");
    assert_bad(key_file(Node::builder()), "jwt_algorithm").await;
    assert_bad(key_file(Node::builder()).env("STARLING_JWT_ALGORITHM", "ES256"), "not-there.pem").await;
}

#[tokio::test]
async fn an_unknown_variable_is_only_warned_of() {
    let node = Node::builder().env("STARLING_PORT_8080_TCP", "tcp://10.0.0.1:8080").start().await.unwrap();
    assert!(node.log().contains("STARLING_PORT_8080_TCP"), "{}", node.log());
}

#[tokio::test]
async fn variables_that_are_not_utf_8_are_named_if_they_are_ours_and_let_be_if_not() {
    let bytes = OsStr::from_bytes(b"caf\xe9");
    let with = |names: &[&OsStr]| names.iter().fold(Node::builder(), |node, name| node.env_os(name, bytes));
    assert_bad(with(&["STARLING_ADDRESS".as_ref()]), "STARLING_ADDRESS: is not UTF-8").await;
    let foreign = with(&["GREETING".as_ref(), bytes, "STARLING_PORT_8080".as_ref()]);
    let node = foreign.start().await.unwrap();
    assert!(node.log().contains("STARLING_PORT_8080") && !node.log().contains("GREETING"), "{}", node.log());
}

#[tokio::test]
async fn a_database_that_is_not_there_ends_the_start_with_1() {
    let port = free_port().unwrap();
    let url = format!("postgres://starling:hunter2@{}/starling", port.address());
    let builder = Node::builder().database(&url).env("STARLING_START_TIMEOUT_SECONDS", "1");
    let (status, log) = failed(builder).await;
    assert_eq!(status, 1, "{log}");
    assert!(log.contains("database_url") && !log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_start_with_1() {
    let taken = shared_node().await;
    for (variable, address, key) in [
        ("STARLING_LISTEN", taken.address(), "listen"),
        ("STARLING_METRICS_LISTEN", taken.metrics_address(), "metrics_listen"),
    ] {
        let (status, log) = failed(Node::builder().env(variable, &address.to_string())).await;
        assert_eq!(status, 1, "{log}");
        assert!(log.contains(key) && log.contains(&address.to_string()), "{log}");
    }
}

#[tokio::test]
async fn flags_win_over_variables_and_variables_over_the_file() {
    let node = Node::builder()
        .file("starling.toml", "resume_window_seconds = 7\nheartbeat_seconds = 8\n")
        .env("STARLING_RESUME_WINDOW_SECONDS", "17")
        .env("STARLING_HEARTBEAT_SECONDS", "18")
        .arg("serve")
        .arg("--config")
        .arg("starling.toml")
        .arg("--heartbeat-seconds")
        .arg("28")
        .start()
        .await
        .unwrap();
    let url = node.ws_url();
    let encoding = starling_testkit::client::Encoding::Json;
    let ada = starling_testkit::client::Client::connect(&url, &node.token("ada"), encoding).await.unwrap();
    assert_eq!(
        (ada.welcome()["heartbeat_ms"].as_u64(), ada.welcome()["resume_window_ms"].as_u64()),
        (Some(28_000), Some(17_000))
    );
}
