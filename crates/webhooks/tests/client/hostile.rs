//! Backends that never come to an end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use starling_webhooks::{ANSWER_BYTES_MAX, Outcome};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::backend::{Backend, PATIENCE, deliver, deliver_within, local_client, read_request};

/// The time of an attempt that does not succeed.
const SHORT: Duration = Duration::from_millis(500);

/// A backend that sends `head`, and then `part` again and again, each time after a pause. It tells when the client has closed the connection.
async fn endless(
    head: &'static str,
    part: &'static str,
    pause: Duration,
) -> Result<(Backend, mpsc::Receiver<()>)> {
    let (tell, told) = mpsc::channel(10);
    let backend = Backend::start(move |stream| {
        let tell = tell.clone();
        async move {
            let mut stream = BufReader::new(stream);
            read_request(&mut stream).await?;
            stream.write_all(head.as_bytes()).await?;
            while stream.write_all(part.as_bytes()).await.is_ok() {
                sleep(pause).await;
            }
            Ok(tell.send(()).await?)
        }
    })
    .await?;
    Ok((backend, told))
}

async fn closed(told: &mut mpsc::Receiver<()>) -> Result<()> {
    timeout(PATIENCE, told.recv()).await.context("the connection is still open")?.context("no connection")
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_given_up() -> Result<()> {
    let (backend, mut told) = endless("HTTP/1.1 200 OK\r\n", "a", Duration::from_millis(20)).await?;
    let delivered = deliver_within(&local_client(), &backend.url(), SHORT).await?;
    ensure!(
        delivered.outcome == Outcome::Failed { reason: "no answer in time".into(), retry_after: None },
        "{delivered:?}"
    );
    closed(&mut told).await
}

#[tokio::test]
async fn a_backend_that_says_nothing_is_given_up() -> Result<()> {
    let (backend, _told) = endless("", "", PATIENCE).await?;
    let delivered = deliver_within(&local_client(), &backend.url(), SHORT).await?;
    ensure!(matches!(delivered.outcome, Outcome::Failed { .. }), "{delivered:?}");
    Ok(())
}

#[tokio::test]
async fn a_head_without_end_is_a_failure() -> Result<()> {
    let (backend, mut told) =
        endless("HTTP/1.1 200 OK\r\n", "x-header: 0123456789abcdef\r\n", Duration::ZERO).await?;
    let delivered = deliver(&local_client(), &backend.url()).await?;
    ensure!(matches!(delivered.outcome, Outcome::Failed { .. }), "{delivered:?}");
    closed(&mut told).await
}

#[tokio::test]
async fn a_body_without_end_is_not_read_to_the_end() -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let (backend, mut told) = endless(head, "10\r\n0123456789abcdef\r\n", Duration::ZERO).await?;
    let delivered = deliver(&local_client(), &backend.url()).await?;
    ensure!(delivered.outcome == Outcome::Delivered, "{delivered:?}");
    let text = delivered.answer.strip_suffix('…').context("a mark that there was more")?;
    ensure!(text.len() == ANSWER_BYTES_MAX, "{}", text.len());
    closed(&mut told).await
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_does_not_make_a_delivery_fail() -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
    let (backend, mut told) = endless(head, "a", Duration::from_millis(20)).await?;
    let delivered = deliver_within(&local_client(), &backend.url(), SHORT * 6).await?;
    ensure!(delivered.outcome == Outcome::Delivered, "{delivered:?}");
    closed(&mut told).await
}

#[tokio::test]
async fn what_is_not_http_is_a_failure() -> Result<()> {
    for answer in ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 abc\r\n\r\n", "\0\0\0\0", "HTTP/9.9 200 OK\r\n\r\n"] {
        let backend = Backend::answering(answer).await?;
        let delivered = deliver_within(&local_client(), &backend.url(), SHORT).await?;
        ensure!(matches!(delivered.outcome, Outcome::Failed { .. }), "{answer:?}: {delivered:?}");
    }
    Ok(())
}
