//! Backends that are asked before something happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_model::UserName;
use starling_testkit::wait::until_true;
use starling_webhooks::{
    AskFailure, Asked, AskingClient, AskingLimits, BreakerSettings, Endpoint, Failure, Hook, HookPoint,
    OnFailure, Question, Rewrite, Secret, SignedHeaders, Verdict,
};
use starling_wire::protocol::Json;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

use crate::backend::{Backend, PATIENCE, SECRET, local_client, read_request};

/// The time of a hook whose backend does not answer.
const SHORT: Duration = Duration::from_millis(200);

/// A hook of a tenant with the longest time, so that a busy machine is not taken for a slow backend.
fn hook(tenant: &str, point: HookPoint, backend: &Backend) -> Result<Hook> {
    Ok(Hook {
        tenant: tenant.into(),
        point,
        endpoint: Endpoint::parse(&backend.url())?,
        timeout: PATIENCE,
        on_failure: OnFailure::Refuse,
    })
}

/// Asks whether `ann` may send something, or connect.
async fn ask(client: &AskingClient, hook: &Hook) -> Result<Asked> {
    let (user, conversation) = (UserName::from("ann"), "c".into());
    let question = match hook.point {
        HookPoint::Send => Question::Send {
            user: &user,
            conversation: &conversation,
            key: "k",
            content: "hi",
            metadata: None,
        },
        _ => Question::Connect { user: &user },
    };
    Ok(client.ask(hook, &[Secret::parse(SECRET)?], question.write(hook)).await)
}

fn asking_client(limits: AskingLimits) -> AskingClient {
    AskingClient::new(local_client(), limits)
}

fn answer(status: &str, body: &str) -> &'static str {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).leak()
}

fn allowed() -> Verdict {
    Verdict::Allow(Rewrite::default())
}

/// A backend that takes questions and never answers. It counts them.
async fn silent() -> Result<(Backend, Arc<AtomicUsize>)> {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let backend = Backend::start(move |stream| {
        let count = Arc::clone(&count);
        async move {
            let mut stream = BufReader::new(stream);
            read_request(&mut stream).await?;
            count.fetch_add(1, Ordering::SeqCst);
            // Until the client gives up.
            read_request(&mut stream).await.map(drop)
        }
    })
    .await?;
    Ok((backend, taken))
}

#[tokio::test]
async fn a_backend_is_asked_by_a_signed_request_with_what_is_about_to_happen() -> Result<()> {
    let (tell, mut told) = mpsc::channel(10);
    let backend = Backend::start(move |stream| {
        let tell = tell.clone();
        async move {
            let mut stream = BufReader::new(stream);
            tell.send(read_request(&mut stream).await?).await?;
            stream.write_all(answer("200 OK", r#"{"allow":true}"#).as_bytes()).await?;
            Ok(())
        }
    })
    .await?;
    let asked =
        ask(&asking_client(AskingLimits::default()), &hook("acme", HookPoint::Send, &backend)?).await?;
    ensure!(asked == Asked { verdict: allowed(), failure: None }, "{asked:?}");
    let request = told.recv().await.context("a request")?;
    let body: Value = serde_json::from_slice(&request.body)?;
    ensure!(body["type"] == "send" && body["tenant"] == "acme", "{body}");
    ensure!(body["timestamp"].as_str().is_some_and(|at| at.len() == 24 && at.ends_with('Z')), "{body}");
    ensure!(
        body["data"] == json!({ "user": "ann", "conversation": "c", "key": "k", "content": "hi" }),
        "{body}"
    );
    let header = |name: &str| request.headers.get(name).cloned().context(name.to_owned());
    let signed = SignedHeaders {
        id: header(SignedHeaders::ID)?,
        timestamp: header(SignedHeaders::TIMESTAMP)?.parse()?,
        signature: header(SignedHeaders::SIGNATURE)?,
    };
    signed.verify(&Secret::parse(SECRET)?, SystemTime::now(), &request.body)?;
    Ok(())
}

#[tokio::test]
async fn a_backend_allows_refuses_or_rewrites() -> Result<()> {
    let client = asking_client(AskingLimits::default());
    let rewritten = Verdict::Allow(Rewrite {
        content: Some("****".into()),
        metadata: Some(Json::from_compact(r#"{"masked":true}"#)),
    });
    let rewrite = r#"{"allow": true, "content": "****", "metadata": {"masked": true}}"#;
    for (point, body, expected) in [
        (HookPoint::Send, r#"{"allow":true}"#, allowed()),
        (HookPoint::Send, rewrite, rewritten),
        (HookPoint::Connect, rewrite, allowed()),
        (HookPoint::Send, r#"{"allow":false,"message":"no links"}"#, Verdict::Refuse("no links".into())),
        (HookPoint::Connect, r#"{"allow":false,"message":"banned"}"#, Verdict::Refuse("banned".into())),
    ] {
        let backend = Backend::answering(answer("200 OK", body)).await?;
        let asked = ask(&client, &hook("t", point, &backend)?).await?;
        ensure!(asked == Asked { verdict: expected, failure: None }, "{body}: {asked:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_backend_that_does_not_decide_is_a_failure_and_the_hook_says_what_follows() -> Result<()> {
    let endless = "HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n{\"allow\":true,";
    let long = "a".repeat(600 << 10);
    let backends = [
        (Backend::answering(answer("500 Oh", r#"{"allow":true}"#)).await?, "the answer was 500"),
        (Backend::answering(answer("201 Made", r#"{"allow":true}"#)).await?, "the answer was 201"),
        (Backend::answering("HTTP/1.1 204 None\r\n\r\n").await?, "the answer was 204"),
        (Backend::answering(answer("200 OK", "yes")).await?, "the answer can't be used"),
        (
            Backend::answering(answer("200 OK", r#"{"allow":true,"content":"a\u0000"}"#)).await?,
            "the answer can't",
        ),
        (Backend::answering(answer("200 OK", &long)).await?, "the answer is longer than"),
        (Backend::answering(endless).await?, "no answer in time"),
        (silent().await?.0, "no answer in time"),
    ];
    for (backend, expected) in &backends {
        let client = asking_client(AskingLimits::default());
        let mut hook = hook("t", HookPoint::Send, backend)?;
        if *expected == "no answer in time" {
            hook.timeout = SHORT;
        }
        let refused = ask(&client, &hook).await?;
        let failure = refused.failure.context("a failure")?.to_string();
        ensure!(failure.starts_with(expected), "{expected}: {failure}");
        ensure!(matches!(refused.verdict, Verdict::Unavailable(_)), "{:?}", refused.verdict);
        hook.on_failure = OnFailure::Allow;
        let allows = ask(&client, &hook).await?;
        ensure!(allows.verdict == allowed() && allows.failure.is_some(), "{allows:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_hook_reaches_nothing_inside() -> Result<()> {
    let backend = Backend::answering(answer("200 OK", r#"{"allow":true}"#)).await?;
    let client = AskingClient::new(crate::backend::client(&[]), AskingLimits::default());
    let asked = ask(&client, &hook("t", HookPoint::Send, &backend)?).await?;
    ensure!(matches!(asked.failure, Some(AskFailure::Request(Failure::Refused(_)))), "{asked:?}");
    ensure!(backend.connections() == 0);
    Ok(())
}

#[tokio::test]
async fn a_backend_that_fails_is_left_alone_and_asked_again_when_it_may_work() -> Result<()> {
    let (works, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (state, count) = (Arc::clone(&works), Arc::clone(&asked));
    let backend = Backend::start(move |stream| {
        let (state, count) = (Arc::clone(&state), Arc::clone(&count));
        async move {
            let mut stream = BufReader::new(stream);
            loop {
                read_request(&mut stream).await?;
                count.fetch_add(1, Ordering::SeqCst);
                let status = if state.load(Ordering::SeqCst) == 0 { "500 Oh" } else { "200 OK" };
                stream.write_all(answer(status, r#"{"allow":true}"#).as_bytes()).await?;
            }
        }
    })
    .await?;
    let hook = hook("t", HookPoint::Send, &backend)?;
    // While it is open for long, nothing is sent.
    let breaker = BreakerSettings { failures: 3, open: PATIENCE, open_max: PATIENCE };
    let client = asking_client(AskingLimits { breaker, ..AskingLimits::default() });
    for _ in 0..3 {
        ensure!(ask(&client, &hook).await?.failure == Some(AskFailure::Status(500)));
    }
    works.store(1, Ordering::SeqCst);
    let open = ask(&client, &hook).await?;
    ensure!(open.failure == Some(AskFailure::Open) && asked.load(Ordering::SeqCst) == 3, "{open:?}");
    ensure!(matches!(open.verdict, Verdict::Unavailable(_)), "{open:?}");
    // Control: the same backend decides if another client asks, which remembers nothing.
    ensure!(ask(&asking_client(AskingLimits::default()), &hook).await?.verdict == allowed());
    // After a short time, a trial finds out that it works.
    works.store(0, Ordering::SeqCst);
    let breaker = BreakerSettings { open: Duration::from_millis(10), ..breaker };
    let client = asking_client(AskingLimits { breaker, ..AskingLimits::default() });
    for _ in 0..3 {
        ask(&client, &hook).await?;
    }
    works.store(1, Ordering::SeqCst);
    until_true(PATIENCE, "a trial", async || Ok(ask(&client, &hook).await?.verdict == allowed())).await
}

#[tokio::test]
async fn a_slow_backend_delays_only_its_own_tenant() -> Result<()> {
    let (slow, taken) = silent().await?;
    let quick = Backend::answering(answer("200 OK", r#"{"allow":true}"#)).await?;
    let limits = AskingLimits { under_way_max: 2, waiting_max: 3, ..AskingLimits::default() };
    let client = Arc::new(asking_client(limits));
    let slow_hook = hook("slow", HookPoint::Send, &slow)?;
    let mut stuck = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (client, hook) = (Arc::clone(&client), slow_hook.clone());
        stuck.spawn(async move { ask(&client, &hook).await });
    }
    until_true(PATIENCE, "two questions", async || Ok(taken.load(Ordering::SeqCst) == 2)).await?;
    // Two are under way and three wait. One more is too many.
    ensure!(ask(&client, &slow_hook).await?.failure == Some(AskFailure::Busy));
    let quick_hook = hook("quick", HookPoint::Send, &quick)?;
    for _ in 0..100 {
        ensure!(ask(&client, &quick_hook).await?.verdict == allowed());
    }
    ensure!(stuck.try_join_next().is_none(), "a question to the slow backend has ended");
    ensure!(taken.load(Ordering::SeqCst) == 2, "{} questions at once", taken.load(Ordering::SeqCst));
    // Control: in the same tenant, the quick backend is not reached either.
    let beside = hook("slow", HookPoint::Connect, &quick)?;
    ensure!(ask(&client, &beside).await?.failure == Some(AskFailure::Busy));
    // Those that give up make room.
    stuck.shutdown().await;
    ensure!(ask(&client, &beside).await?.verdict == allowed());
    Ok(())
}
