//! The first connection: addresses, passwords, encodings and TLS.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use starling_conversation_store::{ConversationStore, Error, connect};
use starling_testkit::postgres::Postgres;
use starling_testkit::{Folder, free_port, wait};

use crate::store::{LIMIT, eventually, failed, new, store};

#[tokio::test]
async fn a_store_is_made_without_a_server() -> Result<()> {
    let port = free_port()?;
    let store = connect(&format!("postgres://starling:secret@{}/starling", port.address())).await?;
    let error = failed(store.check().await)?;
    ensure!(error.is_transient() && !error.to_string().contains("secret"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_or_database_is_the_operators_to_mend() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.url();
    let (start, end) = (url.find("starling:").context("a role")? + 9, url.find('@').context("a host")?);
    let wrong = format!("{}wrong{}", &url[..start], &url[end..]);
    let missing = url.replace("/starling", "/nowhere").replace("//nowhere", "//starling");
    for url in [wrong, missing] {
        match store(&url)?.check().await {
            Err(Error::Address(text)) => ensure!(!text.contains(&url), "{text}"),
            other => bail!("{url}: {other:?}"),
        }
    }
    Ok(())
}

/// What can't hold every text is refused at the start: later it would fail where somebody writes an emoji.
#[tokio::test]
async fn a_database_of_another_encoding_is_refused() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("western").await?;
    store(&url)?.check().await?;
    for encoding in ["LATIN1", "EUC_JP", "SQL_ASCII"] {
        let name = format!("of_{}", encoding.to_lowercase());
        let make = format!(
            "CREATE DATABASE {name} OWNER starling ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        );
        postgres.psql_in("postgres", &make).await?;
        let store = store(&url.replace("/western", &format!("/{name}")))?;
        for refused in [store.check().await, store.migrate().await] {
            let error = failed(refused)?;
            ensure!(matches!(error, Error::Unsupported(_)) && !error.is_transient(), "{error}");
            let text = error.to_string();
            ensure!(text.contains(encoding) && text.contains("ENCODING 'UTF8'"), "{text}");
        }
    }
    Ok(())
}

/// The first host takes connections and says nothing, as one does whose machine is up and whose server hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_host_leads_to_the_next() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("second_host").await?;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let refuses = free_port()?;
    let (start, end) = url.split_once('@').context("a host")?;
    let first = silent.local_addr()?;
    let of = |query: &str| format!("{start}@{first},{},{end}{query}", refuses.address());
    for (url, limit) in [(of("?connect_timeout=1"), 1), (of(""), 3)] {
        let store = store(&url)?;
        let started = Instant::now();
        store.migrate().await?;
        ensure!(started.elapsed() >= Duration::from_secs(limit), "the first host was not tried");
        store.create(&new("c")).await?;
    }
    Ok(())
}

/// As hosters print their URLs. The certificate's signature decides by which digest the connection is bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channel_binding_holds_for_every_signature() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.url();
    for (number, (key, signature)) in [
        ("rsa:2048", "-sha256"),
        ("rsa:2048", "-sha384"),
        ("rsa:2048", "-sha512"),
        ("rsa:2048", "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1"),
        ("ec -pkeyopt ec_paramgen_curve:P-256", "-sha256"),
        ("ec -pkeyopt ec_paramgen_curve:P-384", "-sha384"),
    ]
    .into_iter()
    .enumerate()
    {
        let make = format!(
            "openssl req -x509 -newkey {key} {signature} -nodes -days 2 -subj /CN=c{number} -keyout server.key -out server.crt && \
             chmod 600 server.key"
        );
        postgres.psql(&format!("COPY (SELECT 1) TO PROGRAM '({make}) > openssl.log 2>&1'")).await?;
        postgres.psql("ALTER SYSTEM SET ssl = on").await?;
        postgres.psql("SELECT pg_reload_conf()").await?;
        // Until the server shows this certificate, and no longer the one before.
        let store = store(&format!("{url}?sslmode=require&channel_binding=require"))?;
        eventually(signature, || store.ping()).await?;
    }
    for (query, works) in [
        ("sslmode=require&channel_binding=prefer", true),
        ("sslmode=require&channel_binding=disable", true),
        // Nothing to bind to.
        ("sslmode=disable&channel_binding=require", false),
    ] {
        assert_eq!(store(&format!("{url}?{query}"))?.ping().await.is_ok(), works, "{query}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_trusts_as_the_ssl_mode_says() -> Result<()> {
    let postgres = Postgres::start().await?;
    let folder = Folder::new("tls")?;
    let authority = folder.write("ca.pem", &switch_tls_on(&postgres).await?)?;
    let address = postgres.url();
    let name = address.replace("127.0.0.1", "localhost");
    let known = format!("sslrootcert={}", authority.display().to_string().replace('/', "%2F"));
    for (url, query, works) in [
        (&address, "sslmode=disable".to_owned(), true),
        (&address, "sslmode=prefer".to_owned(), true),
        (&address, "sslmode=require".to_owned(), true),
        (&address, format!("sslmode=require&{known}"), true),
        (&address, format!("sslmode=verify-full&{known}"), true),
        // The certificate is the address's, not the name's.
        (&name, format!("sslmode=verify-ca&{known}"), true),
        (&name, format!("sslmode=verify-full&{known}"), false),
        // None of the world's authorities has signed it.
        (&address, "sslmode=verify-ca".to_owned(), false),
        (&address, "sslmode=verify-full".to_owned(), false),
    ] {
        let store = store(&format!("{url}?{query}"))?;
        let answer = store.ping().await;
        assert_eq!(answer.is_ok(), works, "{query}: {answer:?}");
        if works {
            let encrypted = postgres
                .psql("SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'starling'")
                .await?;
            assert_eq!(encrypted.trim(), if query.contains("disable") { "f" } else { "t" }, "{query}");
        }
        drop(store);
        let closed = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'starling'";
        wait::until_true(LIMIT, "the connection to end", async || {
            Ok(postgres.psql(closed).await?.trim() == "0")
        })
        .await?;
    }
    Ok(())
}

/// Gives the server a certificate for 127.0.0.1 by an authority made for it, whose own certificate is returned.
async fn switch_tls_on(postgres: &Postgres) -> Result<String> {
    // Run by the server, in its folder and as its user, whose the key has to be.
    let make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt && \
                openssl req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr && \
                echo subjectAltName=IP:127.0.0.1 > names && \
                openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
                    -extfile names -out server.crt && chmod 600 server.key";
    postgres.psql(&format!("COPY (SELECT 1) TO PROGRAM '({make}) > openssl.log 2>&1'")).await?;
    postgres.psql("ALTER SYSTEM SET ssl = on").await?;
    postgres.psql("SELECT pg_reload_conf()").await?;
    let on = async || Ok(postgres.psql("SHOW ssl").await?.trim() == "on");
    wait::until_true(LIMIT, "TLS", on).await?;
    postgres.psql("SELECT pg_read_file('ca.crt')").await
}
