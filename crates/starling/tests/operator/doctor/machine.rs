//! Machines and processes with limits that are too tight, and a clock that is wrong.

use starling_testkit::node::{Node, NodeBuilder};
use starling_testkit::postgres::Postgres;
use starling_testkit::redis::Redis;

use super::{SECRET, doctor, examined};

const PROGRAM: &str = env!("CARGO_BIN_EXE_starling");

/// The doctor below another program, which gets these arguments.
fn below(program: &str, arguments: &[&str]) -> NodeBuilder {
    let builder = Node::builder().secret(SECRET).program(program);
    arguments.iter().fold(builder, |builder, argument| builder.arg(argument))
}

/// The doctor in a shell that does this first.
fn after(script: &str) -> NodeBuilder {
    below("sh", &["-c", &format!("set -e; {script}; exec {PROGRAM} doctor --json")])
}

#[tokio::test]
async fn a_process_that_may_open_few_files_is_found() {
    examined(after("ulimit -n 512")).await.assert(
        "limits",
        "open files",
        "problem",
        "room for 412 connections",
    );
    examined(after("ulimit -n 4096")).await.assert_well().assert(
        "limits",
        "open files",
        "warning",
        "LimitNOFILE",
    );
}

#[tokio::test]
async fn a_kernel_with_a_short_backlog_and_few_ports_is_found() {
    // A network namespace has settings of its own.
    let script = format!(
        "set -e; echo 64 > /proc/sys/net/core/somaxconn; echo '40000 40020' > /proc/sys/net/ipv4/ip_local_port_range; \
         exec {PROGRAM} doctor --json"
    );
    let report = examined(below("unshare", &["-rn", "sh", "-c", &script])).await;
    report.assert("limits", "somaxconn", "warning", "net.core.somaxconn=4096");
    report.assert("limits", "ephemeral ports", "problem", "21 outgoing connections");
}

#[tokio::test]
async fn a_port_that_an_outgoing_connection_may_take_is_found() {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let first = range.split_whitespace().next().expect("a port");
    let taken = doctor().env("STARLING_LISTEN", &format!("127.0.0.1:{first}"));
    examined(taken).await.assert_well().assert("limits", "listen", "warning", "ip_local_reserved_ports");
    let report = examined(doctor().env("STARLING_LISTEN", "127.0.0.1:81")).await;
    let of_listen =
        |finding: &&serde_json::Value| finding["section"] == "limits" && finding["subject"] == "listen";
    assert_eq!(report.findings.iter().filter(of_listen).count(), 0, "{}", report.text);
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_found() {
    let redis = Redis::start().await.unwrap();
    let url = Postgres::shared().await.unwrap().create_database("doctor_clock").await.unwrap();
    for (shift, verdict, words) in [("+90s", "problem", "ahead of"), ("-5s", "warning", "behind")] {
        let shifted = below("faketime", &["-m", "-f", shift, PROGRAM, "doctor", "--json"]);
        let report = examined(shifted.redis(&redis.url()).database(&url)).await;
        report.assert("clock", "to PostgreSQL", verdict, words).assert("clock", "to Redis", verdict, words);
    }
}
