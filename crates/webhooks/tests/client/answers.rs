//! What follows from a backend's answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use starling_webhooks::{Outcome, Secret, SignedHeaders};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

use crate::backend::{Backend, SECRET, deliver, local_client, read_request};

#[tokio::test]
async fn an_event_arrives_once_signed_and_as_it_was_given() -> Result<()> {
    let (tell, mut told) = mpsc::channel(10);
    let backend = Backend::start(move |stream| {
        let tell = tell.clone();
        async move {
            let mut stream = BufReader::new(stream);
            tell.send(read_request(&mut stream).await?).await?;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nthanks").await?;
            Ok(())
        }
    })
    .await?;
    let delivered = deliver(&local_client(), &backend.url()).await?;
    ensure!(delivered.outcome == Outcome::Delivered, "{delivered:?}");
    ensure!((delivered.status, delivered.answer.as_str()) == (Some(200), "thanks"), "{delivered:?}");
    let request = told.recv().await.context("a request")?;
    ensure!(request.line == "POST /hooks?a=b HTTP/1.1\r\n", "{request:?}");
    let header = |name: &str| request.headers.get(name).cloned().context(name.to_owned());
    ensure!(header("host")? == backend.address.to_string() && header("content-type")? == "application/json");
    let signed = SignedHeaders {
        id: header(SignedHeaders::ID)?,
        timestamp: header(SignedHeaders::TIMESTAMP)?.parse()?,
        signature: header(SignedHeaders::SIGNATURE)?,
    };
    ensure!(signed.id == "event" && request.body == br#"{"type":"message.created"}"#, "{request:?}");
    signed.verify(&Secret::parse(SECRET)?, SystemTime::now(), &request.body)?;
    ensure!(told.try_recv().is_err(), "it came twice");
    Ok(())
}

#[tokio::test]
async fn the_status_decides() -> Result<()> {
    let client = local_client();
    for (answer, expected) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", None),
        ("HTTP/1.1 299 Fine\r\ncontent-length: 0\r\n\r\n", None),
        ("HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n", Some("the answer was 400")),
        ("HTTP/1.1 404 None\r\ncontent-length: 0\r\n\r\n", Some("the answer was 404")),
        ("HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\nno", Some("the answer was 500")),
        ("HTTP/1.1 304 Same\r\n\r\n", Some("the answer was 304; redirects are not followed")),
    ] {
        let backend = Backend::answering(answer).await?;
        match (deliver(&client, &backend.url()).await?.outcome, expected) {
            (Outcome::Delivered, None) => {}
            (Outcome::Failed { reason, retry_after: None }, Some(expected)) if reason == expected => {}
            (outcome, _) => anyhow::bail!("{answer}: {outcome:?}"),
        }
    }
    let gone = Backend::answering("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n").await?;
    ensure!(deliver(&client, &gone.url()).await?.outcome == Outcome::Gone);
    Ok(())
}

#[tokio::test]
async fn a_backend_may_ask_to_wait_in_seconds_or_until_a_date() -> Result<()> {
    async fn asked(value: &str) -> Result<Option<Duration>> {
        let answer = format!("HTTP/1.1 503 Busy\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n");
        let backend = Backend::answering(answer.leak()).await?;
        match deliver(&local_client(), &backend.url()).await?.outcome {
            Outcome::Failed { retry_after, .. } => Ok(retry_after),
            outcome => anyhow::bail!("{outcome:?}"),
        }
    }
    ensure!(asked("90").await? == Some(Duration::from_secs(90)));
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
    let wait = asked(&date).await?.context("a time")?.as_secs();
    ensure!((3000..=3600).contains(&wait), "{wait}");
    ensure!(asked("whenever").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn redirects_lead_nowhere() -> Result<()> {
    let inside = Backend::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
    for status in [301, 302, 303, 307, 308] {
        let url = inside.url();
        let answer = format!("HTTP/1.1 {status} Over There\r\nlocation: {url}\r\ncontent-length: 0\r\n\r\n");
        let backend = Backend::answering(answer.leak()).await?;
        let delivered = deliver(&local_client(), &backend.url()).await?;
        ensure!(matches!(delivered.outcome, Outcome::Failed { .. }), "{delivered:?}");
        ensure!((delivered.status, inside.connections()) == (Some(status), 0), "{delivered:?}");
    }
    // Control: the backend inside can be reached.
    ensure!(deliver(&local_client(), &inside.url()).await?.outcome == Outcome::Delivered);
    Ok(())
}

#[tokio::test]
async fn a_connection_is_used_again_and_one_that_was_closed_meanwhile_is_replaced() -> Result<()> {
    // Each connection answers two requests, takes a third one, and closes.
    let broken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&broken);
    let backend = Backend::start(move |stream| {
        let count = Arc::clone(&count);
        async move {
            let mut stream = BufReader::new(stream);
            for _ in 0..2 {
                read_request(&mut stream).await?;
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
            }
            read_request(&mut stream).await?;
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    })
    .await?;
    let (client, requests) = (local_client(), 30);
    for request in 0..requests {
        let delivered = deliver(&client, &backend.url()).await?;
        ensure!(delivered.outcome == Outcome::Delivered, "request {request}: {delivered:?}");
    }
    ensure!(backend.connections() < requests, "{} connections", backend.connections());
    ensure!(broken.load(Ordering::SeqCst) > 0, "no connection was closed");
    Ok(())
}

#[tokio::test]
async fn a_fresh_connection_that_breaks_is_a_failure() -> Result<()> {
    let backend = Backend::start(|stream| async move {
        read_request(&mut BufReader::new(stream)).await?;
        Ok(())
    })
    .await?;
    let delivered = deliver(&local_client(), &backend.url()).await?;
    ensure!(
        matches!(delivered.outcome, Outcome::Failed { .. }) && backend.connections() == 1,
        "{delivered:?}"
    );
    Ok(())
}
