//! Secrets in files of their own, as container platforms mount them.

use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::{Node, NodeBuilder};
use starling_testkit::process::Signal;
use starling_testkit::token::Token;
use starling_testkit::wait::until_true;

use crate::{BAD, SOON, finished};

const SECRET: &str = "a secret of the operator, long enough";

/// A node whose secret is in a file that ends with a line end, as most editors and platforms write it.
fn mounted() -> NodeBuilder {
    Node::builder()
        .secret("")
        .file("jwt", &format!("{SECRET}\n"))
        .file("database", "sqlite://mounted.db\n")
        .env("STARLING_JWT_SECRET_FILE", "jwt")
        .env("DATABASE_URL", "")
        .env("DATABASE_URL_FILE", "database")
}

#[tokio::test]
async fn a_node_uses_the_secret_and_the_database_that_files_name() {
    let node = mounted().start().await.unwrap();
    let token = Token::of("ann").sign(SECRET);
    let ann = Client::connect(&node.ws_url(), &token, Encoding::Json).await.unwrap();
    assert_eq!(ann.welcome()["user"], "ann");
    assert!(node.folder().join("mounted.db").is_file(), "{}", node.log());
    assert!(!node.log().contains(SECRET), "{}", node.log());
}

#[tokio::test]
async fn flags_and_keys_of_the_file_name_secrets_as_well() {
    let node = Node::builder()
        .arg("config")
        .arg("--config")
        .arg("starling.toml")
        .arg("--redis-url-file")
        .arg("redis")
        .file("starling.toml", "ticket_secret_file = \"ticket\"\ndatabase_read_url_file = \"read\"\n")
        .file("ticket", "hush-ticket-hush-ticket-hush-ticket\n")
        .file("read", "postgres://ann:hush@127.0.0.1:1/starling")
        .file("redis", "redis://ann:hush@127.0.0.1:1\r\n")
        .database("postgres://127.0.0.1:1/starling");
    let (status, shown) = finished(node).await;
    assert!(status == 0 && !shown.contains("hush"), "{status}: {shown}");
    for line in [
        "ticket_secret = \"********\"  # from \"ticket\", named by the file",
        "redis_url = \"redis://ann:********@127.0.0.1:1\"  # from \"redis\", named by a flag",
        "database_read_url = \"postgres://ann:********@127.0.0.1:1/starling\"  # from \"read\", named by the file",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "no line {line} in:\n{shown}");
    }
}

#[tokio::test]
async fn a_file_that_holds_no_secret_ends_the_start_and_is_named_with_its_key() {
    let missing = mounted().env("STARLING_JWT_SECRET_FILE", "not-there");
    let empty = mounted().file("empty", "\n").env("STARLING_TICKET_SECRET_FILE", "empty");
    // A folder can't be read, not even by root.
    let folder = mounted().env("DATABASE_URL_FILE", ".");
    let short = mounted().file("short", "hush").env("STARLING_TICKET_SECRET_FILE", "short");
    let no_url = mounted().file("word", "hush").env("REDIS_URL_FILE", "word");
    for (node, named) in [
        (missing, "jwt_secret_file: not-there: "),
        (empty, "ticket_secret_file: empty: is empty (set by STARLING_TICKET_SECRET_FILE)"),
        (folder, "database_url_file: .: "),
        (short, "ticket_secret: is 4 bytes long"),
        (no_url, "redis_url_file: word: the value is not a URL (set by REDIS_URL_FILE)"),
    ] {
        let (status, log) = finished(node).await;
        assert_eq!(status, BAD, "{log}");
        assert!(log.contains(named) && !log.contains("hush"), "does not say {named}: {log}");
    }
}

#[tokio::test]
async fn a_secret_that_is_given_twice_ends_the_start_and_both_keys_are_named() {
    let twice = mounted().secret(SECRET);
    let (status, log) = finished(twice).await;
    assert_eq!(status, BAD, "{log}");
    assert!(log.contains("STARLING_JWT_SECRET_FILE") && log.contains("STARLING_JWT_SECRET;"), "{log}");
    let across = mounted().arg("--database-url").arg("sqlite://other.db");
    let (status, log) = finished(across).await;
    assert_eq!(status, BAD, "{log}");
    assert!(log.contains("DATABASE_URL_FILE") && log.contains("--database-url"), "{log}");
}

#[tokio::test]
async fn after_sighup_a_changed_secret_is_named_and_needs_a_restart() {
    let node = mounted().start().await.unwrap();
    std::fs::write(node.folder().join("jwt"), "another secret, which is long enough, too").unwrap();
    node.signal(Signal::HUP).unwrap();
    let restart = "\"jwt_secret\"";
    until_true(SOON, "the warning", async || Ok(node.log().contains(restart))).await.unwrap();
    let log = node.log();
    assert!(log.lines().any(|line| line.contains("need a restart") && line.contains(restart)), "{log}");
    let token = Token::of("ann").sign(SECRET);
    Client::connect(&node.ws_url(), &token, Encoding::Json).await.unwrap();
}
