//! The program's other commands: `token`, `config`, and the help.

use starling_testkit::client::{Client, Encoding};
use starling_testkit::http::Request;
use starling_testkit::node::Node;

use crate::{BAD, SOON, finished};

#[tokio::test]
async fn a_token_made_by_the_program_is_accepted_by_a_node_of_the_same_configuration() {
    let words = ["token", "--user", "ann", "--tenant", "acme", "--scope", "admin", "--ttl", "60"];
    let (status, token) = finished(words.iter().fold(Node::builder(), |node, word| node.arg(word))).await;
    assert_eq!(status, 0, "{token}");
    let token = token.trim();
    let node = Node::start().await.unwrap();
    let ann = Client::connect(&node.ws_url(), token, Encoding::Json).await.unwrap();
    assert_eq!((&ann.welcome()["user"], &ann.welcome()["tenant"]), (&"ann".into(), &"acme".into()));
    let nodes = Request::new("GET", &format!("{}/v1/nodes", node.http_url())).bearer(token);
    assert_eq!(nodes.send().await.unwrap().status, 200);
    // A node with another secret refuses the token.
    let other = Node::builder().secret("another secret, which is long enough, too").start().await.unwrap();
    let failure = Client::connect(&other.ws_url(), token, Encoding::Json).await.unwrap_err();
    assert_eq!(failure.code(), Some("unauthorized"));
}

#[tokio::test]
async fn a_token_made_by_the_program_makes_the_claims_that_the_configuration_names() {
    let configured = || {
        Node::builder()
            .env("STARLING_JWT_USER_CLAIM", "email")
            .env("STARLING_JWT_TENANT_CLAIM", "org_id")
            .env("STARLING_JWT_SCOPE_CLAIM", "scp")
    };
    let words = ["token", "--user", "me+x@example.com", "--tenant", "acme", "--scope", "admin"];
    let (status, token) = finished(words.iter().fold(configured(), |node, word| node.arg(word))).await;
    assert_eq!(status, 0, "{token}");
    let node = configured().start().await.unwrap();
    let me = Client::connect(&node.ws_url(), token.trim(), Encoding::Json).await.unwrap();
    let welcome = me.welcome();
    assert_eq!((&welcome["user"], &welcome["tenant"]), (&"me..2Bx@example.com".into(), &"acme".into()));
    let nodes = Request::new("GET", &format!("{}/v1/nodes", node.http_url())).bearer(token.trim());
    assert_eq!(nodes.send().await.unwrap().status, 200);
}

#[tokio::test]
async fn a_token_of_nobody_or_of_somebody_elses_key_is_not_made() {
    let token = || Node::builder().arg("token").arg("--user");
    for nobody in ["", "a\tb"] {
        let (status, log) = finished(token().arg(nobody)).await;
        assert!(status == BAD && log.contains("--user"), "{status}: {log}");
    }
    let (status, log) = finished(token().arg("ann").arg("--tenant").arg("no name")).await;
    assert!(status == BAD && log.contains("--tenant"), "{status}: {log}");
    let foreign = token().arg("ann").secret("").env("STARLING_JWT_PUBLIC_KEY_FILE", "key.pem");
    let (status, log) = finished(foreign).await;
    assert!(status == BAD && log.contains("private key"), "{status}: {log}");
    // With a key set, the secret only signs tickets; a node with this configuration would refuse a token signed with it.
    let beside = token().arg("ann").env("STARLING_JWT_JWKS_URL", "https://id.example/keys");
    let (status, log) = finished(beside.env("STARLING_JWT_ALGORITHM", "RS256")).await;
    assert!(status == BAD && log.contains("jwt_jwks_url") && log.contains("private key"), "{status}: {log}");
    let nobodys = token().arg("ann").secret("").redis("redis://127.0.0.1:1");
    let (status, log) = finished(nobodys).await;
    assert!(status == BAD && log.contains("is needed with redis_url"), "{status}: {log}");
}

#[tokio::test]
async fn the_configuration_is_shown_without_its_secrets() {
    let node = Node::builder()
        .arg("config")
        .arg("--config")
        .arg("starling.toml")
        .arg("--replay-limit")
        .arg("7")
        .file("starling.toml", "heartbeat_seconds = 9\n\n[tenants.acme]\nconnections = 3\n")
        .secret("hush-token-hush-token-hush-token-hush")
        .env("STARLING_TICKET_SECRET", "hush-ticket-hush-ticket-hush-ticket")
        .env("STARLING_TICKET_SECRET_PREVIOUS", "hush-before-hush-before-hush-before")
        .redis("redis://ann:hush-redis@127.0.0.1:1")
        .database("postgres://ann:hush-db@127.0.0.1:1/starling")
        .env("STARLING_DATABASE_READ_URL", "postgres://ann:hush-read@127.0.0.1:1/starling");
    let (status, shown) = finished(node).await;
    assert_eq!(status, 0, "{shown}");
    assert!(!shown.contains("hush"), "{shown}");
    for line in [
        "jwt_secret = \"********\"  # from a variable",
        "ticket_secret = \"********\"  # from a variable",
        "ticket_secret_previous = \"********\"  # from a variable",
        "redis_url = \"redis://ann:********@127.0.0.1:1\"  # from a variable",
        "database_url = \"postgres://ann:********@127.0.0.1:1/starling\"  # from a variable",
        "database_read_url = \"postgres://ann:********@127.0.0.1:1/starling\"  # from a variable",
        "heartbeat_seconds = 9  # from the file",
        "replay_limit = 7  # from a flag",
        "database_migrate = true",
        "# jwt_jwks_url is not set",
        "[tenants.acme]",
        "connections = 3",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "no line {line} in:\n{shown}");
    }
    assert!(shown.parse::<toml::Table>().is_ok(), "can't be used as a file:\n{shown}");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_refused_without_the_secret_on_the_broken_line() {
    // The closing quote is missing.
    let file = "heartbeat_seconds = 9\njwt_secret = \"hush-token-hush-token-hush-token-hush\n";
    for command in ["config", "serve", "token"] {
        let node = Node::builder().arg(command).arg("--config").arg("starling.toml");
        let node = if command == "token" { node.arg("--user").arg("ann") } else { node };
        let (status, log) = finished(node.file("starling.toml", file)).await;
        assert_eq!(status, BAD, "{log}");
        assert!(log.contains("starling.toml: line 2, column "), "{log}");
        assert!(!log.contains("hush"), "{log}");
    }
}

#[tokio::test]
async fn a_token_is_not_made_with_a_secret_that_no_node_has() {
    let elsewhere = Node::builder().secret("").arg("token").arg("--user").arg("ann").without_waiting();
    let elsewhere = elsewhere.start().await.unwrap();
    let status = elsewhere.ended(SOON).await.unwrap();
    let log = elsewhere.log();
    assert_eq!(status.code(), Some(BAD), "{log}");
    assert!(log.contains("jwt_secret: is not set, and there is no data/starling.secret"), "{log}");
    assert!(!elsewhere.folder().join("data").exists(), "something was made");
    let of_memory = Node::builder().secret("").arg("token").arg("--user").arg("ann");
    let (status, log) = finished(of_memory.arg("--database-url").arg("sqlite://:memory:")).await;
    assert!(status == BAD && log.contains("jwt_secret: is not set"), "{status}: {log}");
}

#[test]
fn a_reader_that_goes_early_is_no_failure() {
    for words in
        [&["config"][..], &["config", "--markdown"], &["token", "--user", "ann"], &["--help"], &["help"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        // Like `head` once it has read enough.
        drop(reader);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_starling"));
        command
            .args(words)
            .env_clear()
            .env("STARLING_JWT_SECRET", "a secret that is long enough for all of it");
        let output = command.stdout(writer).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && error.is_empty(), "{words:?}: {}: {error}", output.status);
    }
}

#[tokio::test]
async fn a_misspelt_variable_level_or_key_is_told_what_may_have_been_meant() {
    let (status, log) = finished(Node::builder().arg("config").env("STARLING_REPLY_LIMIT", "7")).await;
    assert!(status == 0 && log.contains("STARLING_REPLY_LIMIT is unknown"), "{status}: {log}");
    assert!(log.contains("did you mean STARLING_REPLAY_LIMIT?"), "{log}");
    for command in ["serve", "config"] {
        let (status, log) = finished(Node::builder().arg(command).env("RUST_LOG", "inof")).await;
        assert!(
            status == BAD && log.contains("log: `inof` is not a level; did you mean `info`?"),
            "{status}: {log}"
        );
    }
}

#[tokio::test]
async fn the_help_of_a_subcommand_is_short_and_its_settings_are_taken_all_the_same() {
    for words in [["help", "token"], ["token", "--help"]] {
        let (status, help) = finished(words.iter().fold(Node::builder(), |node, word| node.arg(word))).await;
        assert!(status == 0 && help.contains("--user"), "{status}: {help}");
        assert!(help.contains("every setting of `starling --help`"), "{help}");
        assert!(!help.contains("--heartbeat-seconds"), "{help}");
    }
    let (status, help) = finished(Node::builder().arg("serve").arg("--help")).await;
    assert!(status == 0 && help.contains("--heartbeat-seconds"), "{help}");
    for words in [["config", "--replay-limit", "7"], ["--replay-limit", "7", "config"]] {
        let (status, shown) = finished(words.iter().fold(Node::builder(), |node, word| node.arg(word))).await;
        assert!(status == 0 && shown.contains("replay_limit = 7  # from a flag"), "{status}: {shown}");
    }
}

#[tokio::test]
async fn the_help_is_what_it_was() {
    // Without a terminal, the variable sets the width.
    let (status, help) = finished(Node::builder().arg("--help").env("COLUMNS", "100")).await;
    assert_eq!(status, 0, "{help}");
    insta::assert_snapshot!(help);
}
