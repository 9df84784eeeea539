//! Connections that never finish their handshake: heads sent byte by byte, and silent connections.

use std::time::{Duration, Instant};

use starling_testkit::node::Node;
use starling_testkit::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::wire::{Raw, connect_from};
use crate::witness::Witness;
use crate::{Memory, SOON, TURN, files, mib};

/// Number of connections, if the machine allows a process that many files.
const HALF_OPEN: u64 = 10_000;
/// Files that the test and the node need for other purposes.
const FILES_ELSEWHERE: u64 = 500;
/// Most memory for one silent connection on the node, in bytes.
const HALF_OPEN_BYTES_MAX: u64 = 24 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_comes_a_byte_a_second_is_cut_short() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    let witness = Witness::of(&node).await;
    let memory = Memory::of(&node);
    let mut slow = JoinSet::new();
    for _ in 0..100 {
        let mut stream = connect_from(&node, 1).await.unwrap();
        slow.spawn(async move {
            // At this speed the head would take a quarter of an hour.
            let head = format!("GET /v1/ws HTTP/1.1\r\nhost: x\r\nx-slow: {}\r\n\r\n", "y".repeat(900));
            let begun = Instant::now();
            let mut answer = Vec::new();
            for byte in head.bytes() {
                if stream.write_all(&[byte]).await.is_err() {
                    break;
                }
                let mut some = [0; 512];
                match timeout(Duration::from_secs(1), stream.read(&mut some)).await {
                    Ok(Ok(0) | Err(_)) => break,
                    Ok(Ok(length)) => answer.extend_from_slice(&some[..length]),
                    Err(_silent) => {}
                }
            }
            (begun.elapsed(), String::from_utf8_lossy(&answer).into_owned())
        });
    }
    while let Some(ended) = slow.join_next().await {
        let (after, answer) = ended.unwrap();
        assert!(after < SOON, "it was listened to for {after:?}");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    memory.grew_at_most(&node, mib(16), "100 slow heads");
    witness.was_served().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_half_open_sockets_cost_little_and_end_by_themselves() {
    let _turn = TURN.lock().await;
    let (_, hard) = rlimit::Resource::NOFILE.get().unwrap();
    rlimit::Resource::NOFILE.set(hard, hard).unwrap();
    let count = HALF_OPEN.min(hard - FILES_ELSEWHERE);
    let node = Node::builder().unlimited().start().await.unwrap();
    let witness = Witness::of(&node).await;
    let memory = Memory::of(&node);
    let before = files(&node);

    let begun = Instant::now();
    let mut held = Vec::new();
    for n in 0..count {
        let from = 2 + u8::try_from(n % 200).unwrap();
        held.push(connect_from(&node, from).await.unwrap());
    }
    let opened = begun.elapsed();
    // The first ones may have been closed already, so the greatest number at once counts.
    let mut most = 0;
    let looked = wait::until_true(Duration::from_secs(8), "all of them", async || {
        most = most.max(files(&node) - before);
        Ok(most >= count)
    });
    // On a slow machine the first ones end before the last ones open.
    let all = looked.await.is_ok();
    println!("{count} opened in {opened:?}; the node held {most} at once");
    assert!(all || opened > Duration::from_secs(5), "the node held {most} of {count}");
    memory.grew_at_most(&node, mib(16) + count * HALF_OPEN_BYTES_MAX, "half-open sockets");
    // Other clients connect as before.
    let newcomer = Witness::called(&node, "newcomer").await;
    wait::until_true(SOON, "their end", async || Ok(files(&node) < before + 50)).await.unwrap();
    println!("all ended {:?} after the first came", begun.elapsed());
    let mut open = 0;
    for mut stream in held {
        let mut byte = [0];
        // The node has closed every one of them.
        if timeout(SOON, stream.read(&mut byte)).await.is_err() {
            open += 1;
        }
    }
    assert_eq!(open, 0);
    newcomer.was_served().await;
    witness.was_served().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_holds_its_own_share_of_sockets_and_no_more() {
    let _turn = TURN.lock().await;
    let node = Node::builder()
        .env("STARLING_LIMIT_ADDRESS_CONNECTIONS", "50")
        .env("STARLING_LIMIT_ADDRESS_HANDSHAKES_PER_SECOND", "0")
        .env("STARLING_LIMIT_USER_WRITES_PER_MINUTE", "0")
        .env("STARLING_LIMIT_CONNECTION_COMMANDS_PER_SECOND", "0")
        .start()
        .await
        .unwrap();
    let witness = Witness::of(&node).await;
    let before = files(&node);
    let mut held = Vec::new();
    for _ in 0..500 {
        held.push(connect_from(&node, 9).await.unwrap());
    }
    // A refused connection that stays silent is closed within a second.
    wait::until_true(SOON, "no more than its share", async || Ok(files(&node) <= before + 50)).await.unwrap();
    // Another address has its own share.
    Raw::open(&node, "").await;
    witness.was_served().await;
}
