//! The metrics port, when somebody occupies its connections.

use anyhow::Result;
use starling_testkit::node::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::SOON;

/// More connections than the port keeps at a time.
const IDLE: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_say_nothing_do_not_keep_a_scrape_out_and_end_by_themselves() -> Result<()> {
    let node = Node::start().await?;
    let mut idle = Vec::with_capacity(IDLE);
    for n in 0..IDLE {
        let mut socket = TcpStream::connect(node.metrics_address()).await?;
        if n % 2 == 0 {
            // A request that never ends.
            socket.write_all(b"GET /metrics HTTP/1.1\r\n").await?;
        }
        idle.push(socket);
    }
    assert!(node.metrics().await?.contains("starling_connections"));
    for mut socket in idle {
        // The connection is closed or reset. A response before that, such as 408, does not matter.
        let _ = timeout(SOON, socket.read_to_end(&mut Vec::new())).await?;
    }
    assert!(node.metrics().await?.contains("starling_connections"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_for_one_answer() -> Result<()> {
    let node = Node::start().await?;
    let mut socket = TcpStream::connect(node.metrics_address()).await?;
    let request = b"GET /metrics HTTP/1.1\r\nhost: n\r\n\r\n";
    socket.write_all(request).await?;
    let mut answer = String::new();
    timeout(SOON, socket.read_to_string(&mut answer)).await??;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("starling_connections"), "{answer}");
    Ok(())
}
