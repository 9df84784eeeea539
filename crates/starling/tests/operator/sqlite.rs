//! The database file of a single node, and the secret next to it.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use starling_testkit::Folder;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::{Node, NodeBuilder, SECRET};
use starling_testkit::wait::until_true;

use crate::{BAD, SOON, finished};

const PROGRAM: &str = env!("CARGO_BIN_EXE_starling");

fn on(path: &std::path::Path) -> NodeBuilder {
    Node::builder().secret(SECRET).database(&format!("sqlite://{}", path.display()))
}

async fn send(node: &Node, key: &str) -> serde_json::Value {
    let mut ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await.unwrap();
    ada.command("create", json!({"conversation": "c"})).await.unwrap();
    ada.command("send", json!({"conversation": "c", "key": key, "content": "hello"})).await.unwrap()
}

#[tokio::test]
async fn a_second_node_is_refused_whatever_name_it_has_for_the_file() {
    let folder = Folder::new("links").unwrap();
    let path = folder.join("starling.db");
    let node = on(&path).start().await.unwrap();
    send(&node, "first").await;
    std::fs::create_dir(folder.join("elsewhere")).unwrap();
    let (symbolic, hard) = (folder.join("elsewhere/symbolic.db"), folder.join("elsewhere/hard.db"));
    std::os::unix::fs::symlink(&path, &symbolic).unwrap();
    std::fs::hard_link(&path, &hard).unwrap();
    for name in [&path, &symbolic, &hard] {
        let (status, log) = finished(on(name)).await;
        assert_eq!(status, BAD, "{log}");
        assert!(log.contains("another program uses this database"), "{log}");
    }
    // The first node is unaffected.
    assert_eq!(send(&node, "second").await["seq"], 2);
    assert_eq!(node.terminate(SOON).await.unwrap().code(), Some(0));
    std::fs::remove_file(&hard).unwrap();
    let next = on(&symbolic).start().await.unwrap();
    assert_eq!(send(&next, "second").await["duplicate"], true);
}

#[tokio::test]
async fn after_a_clean_stop_the_file_holds_everything() {
    let folder = Folder::new("stopped").unwrap();
    let path = folder.join("starling.db");
    let node = on(&path).start().await.unwrap();
    send(&node, "k").await;
    assert_eq!(node.terminate(SOON).await.unwrap().code(), Some(0), "{}", node.log());
    let wal = std::fs::metadata(folder.join("starling.db-wal")).map_or(0, |known| known.len());
    assert_eq!(wal, 0, "left in the write-ahead log");

    let copy = folder.join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    let next = on(&copy).start().await.unwrap();
    assert_eq!(send(&next, "k").await["duplicate"], true);
}

#[tokio::test]
async fn what_is_made_is_its_owners_alone() {
    let node = Node::builder()
        .secret("")
        .program("sh")
        .arg("-c")
        .arg(&format!("umask 0; exec {PROGRAM}"))
        .start()
        .await
        .unwrap();
    let data = node.folder().join("data");
    let mode =
        |name: &str| std::fs::metadata(data.join(name)).map(|known| known.permissions().mode() & 0o777);
    for name in ["starling.db", "starling.db-wal", "starling.db-shm", "starling.db.lock", "starling.secret"] {
        assert_eq!(mode(name).unwrap_or_else(|error| panic!("{name}: {error}")), 0o600, "{name}");
    }
    // What an older version or a copy has left open to others is closed at the next start: to everybody, and to the group.
    for open in [0o644, 0o660] {
        // Killed, so that SQLite's files beside the database are there at the next start.
        node.kill().await.unwrap();
        for name in
            ["starling.db", "starling.db-wal", "starling.db-shm", "starling.db.lock", "starling.secret"]
        {
            std::fs::set_permissions(data.join(name), PermissionsExt::from_mode(open)).unwrap();
        }
        node.start_again().await.unwrap();
        for name in
            ["starling.db", "starling.db-wal", "starling.db-shm", "starling.db.lock", "starling.secret"]
        {
            assert_eq!(mode(name).unwrap(), 0o600, "{name} was {open:o}");
        }
        until_true(SOON, "a warning", async || Ok(node.log().contains("could read this file")))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_secret_that_cannot_be_used_is_not_replaced() {
    for cut in [true, false] {
        let folder = Folder::new("secret").unwrap();
        let (path, secret) = (folder.join("starling.db"), folder.join("starling.secret"));
        if cut {
            std::fs::write(&secret, "half of it").unwrap();
        } else {
            // Nobody can read this file, not even root.
            std::fs::create_dir(&secret).unwrap();
        }
        let (status, log) = finished(on(&path).secret("")).await;
        assert_eq!(status, 1, "{log}");
        assert!(log.contains("starling.secret") && log.contains("from a backup"), "{log}");
        assert!(!path.exists(), "nothing else was made");
        assert!(secret.is_dir() || std::fs::read(&secret).unwrap() == b"half of it");
    }
}

#[tokio::test]
async fn an_address_is_not_taken_for_a_files_name() {
    for (url, wanted) in [
        ("sqlite://data.db?mode=rwc&cache=shared", "`mode`, `cache`"),
        ("sqlite://~bob/x.db", "whole path"),
        ("sqlite://", "needs a path"),
    ] {
        let (status, log) = finished(Node::builder().secret(SECRET).database(url)).await;
        assert_eq!(status, BAD, "{log}");
        assert!(log.contains("database_url: ") && log.contains(wanted), "{log}");
    }
    let home = Folder::new("home").unwrap();
    let node = Node::builder().secret(SECRET).database("sqlite://~/mine/x.db\n");
    let node = node.env("HOME", &home.path().display().to_string()).start().await.unwrap();
    send(&node, "k").await;
    assert!(home.join("mine/x.db").is_file() && !node.folder().join("~").exists());
}
