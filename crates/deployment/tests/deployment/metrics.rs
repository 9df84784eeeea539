//! Every metric that a rule, a dashboard or a page names is served by a real node, or comes from a known place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_deployment::repository;
use starling_telemetry::catalogue;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::http::Request;
use starling_testkit::node::{Cluster, Node};
use starling_testkit::rabbitmq::Rabbitmq;
use starling_testkit::token::Token;
use starling_testkit::wait;

use crate::expressions::{self, Selector};

/// Metrics of others, and who serves them.
const OF_OTHERS: [(&str, &str); 10] = [
    ("up", "Prometheus itself"),
    ("container_memory_working_set_bytes", "cAdvisor, in the kubelet"),
    ("kube_cronjob_status_last_successful_time", "kube-state-metrics"),
    ("kube_horizontalpodautoscaler_spec_max_replicas", "kube-state-metrics"),
    ("kube_horizontalpodautoscaler_status_current_replicas", "kube-state-metrics"),
    ("kube_pod_container_resource_limits", "kube-state-metrics"),
    ("pg_replication_lag_seconds", "postgres_exporter"),
    ("pg_stat_archiver_last_archive_age", "postgres_exporter"),
    ("probe_ssl_earliest_cert_expiry", "blackbox_exporter"),
    // A file that node_exporter reads.
    (BACKUP, "deploy/backup/backup.sh"),
];
/// How long anything here may take: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);
const BACKUP: &str = "starling_backup_completed_timestamp_seconds";
/// Labels that Prometheus and its operator add to every series.
const OF_PROMETHEUS: [&str; 5] = ["job", "instance", "namespace", "pod", "le"];

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_is_named_is_served() -> Result<()> {
    let served = scrape().await?;
    let named_in_pages = named_in_pages()?;
    let mut expressions = expressions::of_rules()?;
    expressions.extend(expressions::of_dashboards()?);
    expressions.extend(expressions::of_pages()?);
    let mut named = expressions::metrics(&expressions)?;
    ensure!(named.len() > 50 && named_in_pages.len() > 50, "too few are named: {named:?} {named_in_pages:?}");
    named.extend(named_in_pages);
    let others: BTreeSet<&str> = OF_OTHERS.iter().map(|(name, _)| *name).collect();
    let unknown: Vec<&String> =
        named.iter().filter(|name| !served.contains(*name) && !others.contains(name.as_str())).collect();
    ensure!(unknown.is_empty(), "no node serves {unknown:?}");
    let unused: Vec<&&str> = others.iter().filter(|name| !named.contains(**name)).collect();
    ensure!(unused.is_empty(), "no longer named: {unused:?}");
    let backup = fs::read_to_string(repository("deploy/backup/backup.sh"))?;
    ensure!(backup.contains(BACKUP), "backup.sh does not write {BACKUP}");
    Ok(())
}

/// The names of the series that nodes serve after some traffic: those of a cluster, and one with bridges to RabbitMQ.
async fn scrape() -> Result<BTreeSet<String>> {
    let mut names = scrape_cluster().await?;
    names.extend(scrape_bridges().await?);
    Ok(names)
}

/// The same of a node whose bridges carry a job to RabbitMQ and back.
async fn scrape_bridges() -> Result<BTreeSet<String>> {
    let page = fs::read_to_string(repository("docs/rabbitmq.md"))?;
    let example = page.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```"));
    let (bridges, _) = example.context("docs/rabbitmq.md has no example")?;
    let rabbitmq = Rabbitmq::start().await?;
    let node = Node::builder().env("RABBITMQ_URL", &rabbitmq.url()).file("starling.toml", bridges);
    let node = node.arg("--config").arg("starling.toml").start().await?;
    call(&node, "POST", "/v1/jobs", json!({ "queue": "events", "kind": "hello", "payload": 1 })).await?;
    wait::until_true(PATIENCE, "a message from RabbitMQ", async || {
        Ok(node.metric("starling_rabbitmq_received_total", "").await? > 0.0)
    })
    .await?;
    names_of(&node).await
}

async fn scrape_cluster() -> Result<BTreeSet<String>> {
    let cluster = Cluster::start(2).await?;
    call_backends(cluster.node(0)).await?;
    let [mut alice, mut bob] = [connect(&cluster, 0, "alice").await?, connect(&cluster, 1, "bob").await?];
    alice.command("create", json!({ "conversation": "lunch", "members": ["bob"] })).await?;
    for client in [&mut alice, &mut bob] {
        client.command("join", json!({ "conversation": "lunch" })).await?;
        client.command("subscribe", json!({ "topic": "news" })).await?;
    }
    alice.command("send", json!({ "conversation": "lunch", "key": "k-1", "content": "Pizza?" })).await?;
    bob.wait_for_event("message").await?;
    alice.command("publish", json!({ "topic": "news", "data": 1 })).await?;
    bob.wait_for_event("publication").await?;
    wait::until_true(PATIENCE, "an attempt to deliver", async || {
        let mut attempts = 0.0;
        for node in cluster.nodes() {
            attempts += node.metric("starling_webhook_attempt_seconds_count", "").await?;
        }
        Ok(attempts > 0.0)
    })
    .await?;
    let mut names = BTreeSet::new();
    for node in cluster.nodes() {
        names.extend(names_of(node).await?);
    }
    Ok(names)
}

/// The names of the series that a node serves.
async fn names_of(node: &Node) -> Result<BTreeSet<String>> {
    let text = node.metrics().await?;
    let series = text.lines().filter(|line| !line.starts_with('#'));
    Ok(series.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect())
}

/// Calls a node's API with all permissions.
async fn call(node: &Node, method: &str, path: &str, body: Value) -> Result<Value> {
    let token = Token::of("backend").scope("admin").sign(node.secret());
    let url = format!("{}{path}", node.http_url());
    let response = Request::new(method, &url).bearer(&token).json(&body).send().await?;
    ensure!(response.status < 300, "{method} {path}: {}: {}", response.status, response.text());
    response.json()
}

/// Lets a job be done, and has a webhook and a hook from here on. Nobody answers at their addresses: attempts and questions count all the same.
async fn call_backends(node: &Node) -> Result<()> {
    let backend = "https://backend.invalid/";
    call(node, "POST", "/v1/webhooks", json!({ "url": backend, "events": ["*"] })).await?;
    call(node, "PUT", "/v1/hooks/publish", json!({ "url": backend, "on_failure": "allow" })).await?;
    call(node, "POST", "/v1/jobs", json!({ "queue": "sums", "payload": [1, 2] })).await?;
    let taken = call(node, "POST", "/v1/queues/sums/take", json!({ "wait_seconds": 30 })).await?;
    let job = &taken["jobs"][0];
    let id = job["job"].as_str().with_context(|| format!("no job: {taken}"))?;
    call(node, "POST", &format!("/v1/jobs/{id}/done"), json!({ "lease": job["lease"] })).await.map(drop)
}

async fn connect(cluster: &Cluster, node: usize, user: &str) -> Result<Client> {
    let token = cluster.token(user);
    Ok(Client::connect(&cluster.node(node).ws_url(), &token, Encoding::Json).await?)
}

/// The metrics that the pages under `docs` name in code, without those of histograms as a whole.
fn named_in_pages() -> Result<BTreeSet<String>> {
    let histograms: BTreeSet<&str> = catalogue::metrics()
        .filter(|metric| metric.kind == catalogue::Kind::Histogram)
        .map(|metric| metric.name)
        .collect();
    let known: BTreeSet<&str> = catalogue::metrics().map(|metric| metric.name).collect();
    let mut named = BTreeSet::new();
    let mut pages = Vec::new();
    collect_pages(&repository("docs"), &mut pages)?;
    for page in pages {
        let text = fs::read_to_string(&page)?;
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':') {
            if word.starts_with("starling_") && !word.contains(':') && is_metric(word, &known) {
                let histogram = histograms.contains(word);
                named.insert(if histogram { format!("{word}_count") } else { word.to_owned() });
            }
        }
    }
    Ok(named)
}

/// Whether a word names a metric, and not a crate such as `starling_hub`: another test looks for metrics that are misspelled.
fn is_metric(word: &str, known: &BTreeSet<&str>) -> bool {
    let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
    known.contains(word) || known.contains(stem) || word.ends_with("_total") || word == BACKUP
}

fn collect_pages(folder: &Path, pages: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_pages(&path, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    Ok(())
}

#[test]
fn every_label_that_an_expression_asks_for_exists_with_that_value() -> Result<()> {
    let mut labels = BTreeMap::new();
    for metric in catalogue::metrics() {
        labels.insert(metric.name, metric.labels);
    }
    let mut expressions = expressions::of_rules()?;
    expressions.extend(expressions::of_dashboards()?);
    expressions.extend(expressions::of_pages()?);
    for expression in &expressions {
        for Selector { metric, labels: asked } in expressions::selectors(expression)? {
            let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| metric.strip_suffix(end));
            let Some(known) = labels.get(metric.as_str()).or(stem.and_then(|stem| labels.get(stem))) else {
                continue;
            };
            for (label, value) in asked {
                if !OF_PROMETHEUS.contains(&label.as_str()) {
                    check_label(known, &label, &value)
                        .with_context(|| format!("{}: {metric}", expression.place))?;
                }
            }
        }
    }
    Ok(())
}

/// Fails unless the label is among those of a metric and its description names the value, or says that there are others.
fn check_label(known: &[(&str, &str)], label: &str, value: &str) -> Result<()> {
    let described = known.iter().find(|(name, _)| *name == label);
    let (_, values) = described.with_context(|| format!("it has no label {label}"))?;
    let listed = values.contains(&format!("`{value}`"));
    let code =
        label == "code" && fs::read_to_string(repository("docs/errors.md"))?.contains(&format!("`{value}`"));
    ensure!(listed || code, "its label {label} is never {value}: {values}");
    Ok(())
}

#[test]
fn a_label_or_a_value_that_does_not_exist_is_found() {
    let known = [("kind", "`lane` (to all nodes), `topic`")];
    assert!(check_label(&known, "kind", "topic").is_ok());
    assert!(check_label(&known, "kind", "topics").is_err());
    assert!(check_label(&known, "kinds", "topic").is_err());
}
