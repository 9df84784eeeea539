//! The life of an installation, phase by phase.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use starling_deployment::talk::Talk;

use crate::arguments::Arguments;
use crate::autoscaling::{self, Timeline};
use crate::cluster::{Cluster, ensure_all};
use crate::examples;
use crate::kustomize;
use crate::phase::Phases;
use crate::release::{self, Release};
use crate::report::Report;

/// The Job in which the chart migrates the database.
const MIGRATE: &str = "starling-migrate";

/// Runs all phases, and prints the report. Returns whether all held.
pub async fn run(arguments: &Arguments, cluster: &Cluster) -> Result<bool> {
    let mut phases = Phases { begun: Instant::now(), list: Vec::new() };
    let mut release = Release::new(cluster, arguments)?;
    let namespace = &cluster.namespace;

    phases.run("examples", examples::run(cluster)).await?;
    phases.run("install", install(cluster, &release)).await?;
    phases.run("helm test", test(&release)).await?;
    let url = entrance(arguments, cluster).await?;
    println!("clients connect to {url}");
    let (clients, calm) = (usize::from(arguments.clients), Duration::from_secs(arguments.calm));
    let listeners = autoscaling::listeners(clients);
    let mut talk = Talk::start(&url, &cluster.jwt_secret, clients, listeners).await?;

    phases
        .run("calm", async {
            tokio::time::sleep(calm).await;
            Ok(format!("{clients} clients talk"))
        })
        .await?;
    for (name, replicas) in [("scale out", 5), ("scale in", 3)] {
        let change = async {
            release.upgrade(&json!({ "replicaCount": replicas })).await?;
            cluster.settled(namespace, Some(replicas)).await?;
            tokio::time::sleep(calm).await;
            Ok(format!("{replicas} pods"))
        };
        phases.run(name, change).await?;
        talk.check()?;
    }
    phases.run("rolling upgrade", upgrade(arguments, cluster, &mut release, calm)).await?;
    talk.check()?;
    phases.run("pod killed", kill(cluster, calm)).await?;
    talk.check()?;
    phases.run("roll back", roll_back(cluster, &mut release, calm)).await?;
    talk.check()?;
    let mut timeline = Timeline::default();
    phases
        .run("autoscaling", autoscaling::run(cluster, &mut release, &mut talk, clients, &mut timeline))
        .await?;
    let outcome = talk.finish().await?;
    phases.run("uninstall", uninstall(cluster, &release)).await?;
    phases.run("kustomize", kustomize::run(arguments, cluster)).await?;

    let report = Report::of(&phases, &outcome, timeline);
    report.print();
    if let Some(file) = &arguments.json {
        std::fs::write(file, format!("{:#}\n", report.json()))
            .with_context(|| format!("write {}", file.display()))?;
    }
    Ok(report.is_sound())
}

async fn install(cluster: &Cluster, release: &Release<'_>) -> Result<String> {
    release.install().await?;
    let pods = cluster.settled(&cluster.namespace, Some(3)).await?;
    let jobs = cluster.completed_jobs(&cluster.namespace).await?;
    if release.migrates_in_job() {
        ensure_all(&jobs, &[MIGRATE], "completed jobs")?;
    }
    Ok(format!("{} pods; completed hooks: {jobs:?}", pods.len()))
}

async fn test(release: &Release<'_>) -> Result<String> {
    let printed = release.test().await?;
    let passed = printed.matches("Succeeded").count();
    ensure!(passed > 0, "the chart has no test, or none ran:\n{printed}");
    Ok(format!("{passed} succeeded"))
}

/// Where clients connect: at the ingress, or at the node port of the service.
async fn entrance(arguments: &Arguments, cluster: &Cluster) -> Result<String> {
    if let Some(address) = &arguments.address {
        let rest = address.strip_prefix("http://").context("the address does not begin with http://")?;
        let host = rest.trim_end_matches('/');
        // The client connects to what the URL says, so it has to say a port.
        let port = if host.contains(':') { "" } else { ":80" };
        return Ok(format!("ws://{host}{port}/v1/ws"));
    }
    let service = cluster.get(&["service", release::NAME]).await?;
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().context("the service has no node port")?;
    Ok(format!("ws://{}:{port}/v1/ws", cluster.node_address().await?))
}

/// Replaces all pods, one after the other.
async fn upgrade(
    arguments: &Arguments,
    cluster: &Cluster,
    release: &mut Release<'_>,
    calm: Duration,
) -> Result<String> {
    let before = cluster.pods(&cluster.namespace).await?;
    let (change, what) = match &arguments.next_image {
        Some(image) => (json!({ "image": release::image(image)? }), format!("to {image}")),
        None => {
            (json!({ "podAnnotations": { "starling.example/life": "upgraded" } }), "to new pods".to_owned())
        }
    };
    release.upgrade(&change).await?;
    let after = cluster.settled(&cluster.namespace, Some(3)).await?;
    ensure!(
        after.iter().all(|pod| before.iter().all(|old| old.uid != pod.uid)),
        "a pod is still the old one"
    );
    tokio::time::sleep(calm).await;
    Ok(what)
}

/// Kills one pod, and waits until there are three again.
async fn kill(cluster: &Cluster, calm: Duration) -> Result<String> {
    let before = cluster.settled(&cluster.namespace, Some(3)).await?;
    let victim = &before[0];
    let how = cluster.kill(victim).await?;
    let replaced = async || {
        let pods = cluster.pods(&cluster.namespace).await?;
        let found = pods.iter().find(|pod| pod.uid == victim.uid);
        // The same pod with another process, or another pod.
        Ok(found.is_none_or(|pod| pod.restarts > victim.restarts))
    };
    starling_testkit::wait::until_true(Duration::from_secs(120), "the end of the pod", replaced).await?;
    cluster.settled(&cluster.namespace, Some(3)).await?;
    tokio::time::sleep(calm).await;
    Ok(format!("{}: {how}", victim.name))
}

/// Goes back to the revision before the upgrade.
async fn roll_back(cluster: &Cluster, release: &mut Release<'_>, calm: Duration) -> Result<String> {
    let before = cluster.pods(&cluster.namespace).await?;
    release.roll_back().await?;
    let after = cluster.settled(&cluster.namespace, Some(3)).await?;
    ensure!(
        after.iter().all(|pod| before.iter().all(|old| old.uid != pod.uid)),
        "a pod is still the old one"
    );
    tokio::time::sleep(calm).await;
    Ok("to the revision before".to_owned())
}

/// Uninstalls, and looks for what was left behind.
async fn uninstall(cluster: &Cluster, release: &Release<'_>) -> Result<String> {
    release.uninstall().await?;
    let kinds = "deployments,statefulsets,pods,services,ingresses,configmaps,secrets,jobs,networkpolicies,\
                 poddisruptionbudgets,horizontalpodautoscalers,serviceaccounts";
    let nothing = async || {
        let left = cluster.get(&[kinds, "-l", "app.kubernetes.io/instance=starling"]).await?;
        let left = left["items"].as_array().context("a list without items")?;
        // Helm keeps the pods of tests, for somebody to read their logs.
        let others = left.iter().filter(|object| object["metadata"]["annotations"]["helm.sh/hook"] != "test");
        let names: Vec<String> =
            others.map(|object| format!("{}/{}", object["kind"], object["metadata"]["name"])).collect();
        ensure!(names.is_empty(), "left behind: {}", names.join(", "));
        Ok(true)
    };
    // Pods drain first.
    starling_testkit::wait::until_true(Duration::from_secs(120), "nothing to be left", nothing).await?;
    Ok("nothing is left, except the pods of tests, which Helm keeps".to_owned())
}
