//! Configurations, secrets and certificates, each with something wrong; and how it looks.

use starling_testkit::node::Node;

use super::{SECRET, doctor, examined};
use crate::tls::Certificates;
use crate::{BAD, finished};

const PROGRAM: &str = env!("CARGO_BIN_EXE_starling");

#[tokio::test]
async fn each_value_is_shown_with_its_source_and_what_it_hides() {
    let report = examined(
        doctor()
            .arg("--config")
            .arg("starling.toml")
            .arg("--heartbeat-seconds")
            .arg("7")
            .env("STARLING_HEARTBEAT_SECONDS", "8")
            .env("STARLING_REPLY_LIMIT", "5")
            .file(
                "starling.toml",
                "heartbeat_seconds = 9\nreplay_limit = 10\n[tenants.acme]\nconnections = 3\n",
            ),
    )
    .await;
    let hidden =
        "7, from the flag --heartbeat-seconds, over the file and the variable STARLING_HEARTBEAT_SECONDS";
    report.assert("configuration", "heartbeat_seconds", "good", hidden);
    report.assert("configuration", "replay_limit", "good", "10, from the file");
    report.assert("configuration", "sources", "good", "the file starling.toml");
    report.assert("configuration", "tenants", "good", "acme");
    report.assert("configuration", "STARLING_REPLY_LIMIT", "warning", "STARLING_REPLAY_LIMIT");
    report.assert_well().assert("configuration", "together", "good", "would start");
    assert!(!report.text.contains(SECRET), "{}", report.text);
}

#[tokio::test]
async fn settings_that_do_not_go_together_are_a_problem_and_a_bad_value_is_bad_usage() {
    let report = examined(doctor().redis("redis://127.0.0.1:1")).await;
    report.assert("configuration", "together", "problem", "several nodes can't share a SQLite file");
    let (status, text) = finished(doctor().env("STARLING_HEARTBEAT_SECONDS", "0")).await;
    assert!(status == BAD && text.contains("heartbeat_seconds: "), "{status}: {text}");
    let (status, text) = finished(doctor().arg("--fast")).await;
    assert!(status == BAD && text.contains("--fast"), "{status}: {text}");
}

#[tokio::test]
async fn a_secret_that_can_be_guessed_or_read_is_found() {
    for (secret, words) in [
        ("please-change-me-before-you-go-live", "change-me"),
        ("abababababababababababababababababab", "repeats itself"),
    ] {
        let report = examined(doctor().secret(secret)).await;
        report.assert("secrets", "jwt_secret", "problem", words).assert(
            "secrets",
            "jwt_secret",
            "problem",
            "openssl rand",
        );
        assert!(!report.text.contains(secret), "{}", report.text);
    }
    examined(doctor()).await.assert_well().assert("secrets", "jwt_secret", "good", "hard to guess");
    let shown = doctor().secret("").arg("--jwt-secret").arg(SECRET);
    examined(shown).await.assert_well().assert("secrets", "jwt_secret", "warning", "--jwt-secret-file");
    // Files of tests can be read by everybody.
    let open = doctor().secret("").file("jwt", SECRET).env("STARLING_JWT_SECRET_FILE", "jwt");
    examined(open).await.assert_well().assert("secrets", "jwt_secret", "warning", "chmod o-r jwt");
    let same = doctor().env("STARLING_TICKET_SECRET", SECRET).env("STARLING_TICKET_SECRET_PREVIOUS", SECRET);
    examined(same).await.assert_well().assert("secrets", "ticket_secret_previous", "warning", "same");
}

#[tokio::test]
async fn a_certificate_that_ends_soon_has_ended_or_has_another_key_is_found() {
    let (certificates, other) = (Certificates::make().await, Certificates::make().await);
    let with_files = || certificates.node().secret(SECRET);
    let report = examined(with_files().arg("doctor").arg("--json")).await;
    report.assert_well().assert("certificate", "end", "warning", "ends in 1 day,");
    report.assert("certificate", "names", "good", "127.0.0.1");
    let later = ["-m", "-f", "+10d", PROGRAM, "doctor", "--json"];
    let later = later.iter().fold(with_files().program("faketime"), |node, word| node.arg(word));
    examined(later).await.assert("certificate", "end", "problem", "SIGHUP");
    let mixed = with_files().file("server.key", &other.key).arg("doctor").arg("--json");
    examined(mixed).await.assert("certificate", "tls_certificate_file", "problem", "belong together");
    examined(doctor()).await.assert("certificate", "tls_certificate_file", "good", "loopback");
}

#[tokio::test]
async fn a_key_set_that_can_not_be_fetched_is_found() {
    let unreachable = doctor()
        .secret("")
        .env("STARLING_JWT_JWKS_URL", "http://127.0.0.1:1/keys")
        .env("STARLING_JWT_ALGORITHM", "RS256");
    let report = examined(unreachable).await;
    report.assert("secrets", "jwt_jwks_url", "problem", "no_keys");
    report.assert("secrets", "jwt_audience", "warning", "other services");
}

#[tokio::test]
async fn people_get_colours_on_a_terminal_only_and_not_if_they_mind() {
    let terminal = || {
        let line = format!("{PROGRAM} doctor");
        ["-qec", &line, "/dev/null"]
            .iter()
            .fold(Node::builder().secret(SECRET).program("script"), |node, word| node.arg(word))
    };
    let (status, text) = finished(terminal()).await;
    assert!(status == 0 && text.contains("\x1b[32m✓"), "{status}: {text}");
    let (status, text) = finished(terminal().env("NO_COLOR", "1")).await;
    assert!(status == 0 && text.contains("✓ ") && !text.contains('\x1b'), "{status}: {text}");
    let (status, text) = finished(Node::builder().secret(SECRET).arg("doctor")).await;
    assert!(status == 0 && text.contains("0 problems, ") && !text.contains('\x1b'), "{status}: {text}");
}
