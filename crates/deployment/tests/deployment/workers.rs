//! Nodes that only work in the background, beside those that take clients.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_deployment::chart::{Values, manifests};
use starling_deployment::manifests::{Manifest, kustomize};
use starling_deployment::repository;

use crate::{find, ids};

/// The chart with workers, and the overlay with workers.
fn renderings() -> Result<[Vec<Manifest>; 2]> {
    Ok([manifests(&Values::ci("workers"))?, kustomize("overlays/production-workers")?])
}

fn container<'a>(manifests: &'a [Manifest], deployment: &str) -> Result<&'a Value> {
    let pod = find(manifests, &format!("Deployment/{deployment}"))?.pod().context("pods")?;
    Ok(&pod["containers"][0])
}

/// The roles that a container is given; none: it has all.
pub fn roles(container: &Value) -> Option<&str> {
    let args = container["args"].as_array()?;
    let place = args.iter().position(|arg| arg == "--roles")?;
    args.get(place + 1)?.as_str()
}

#[test]
fn without_workers_every_node_has_all_roles_and_with_them_each_has_one() -> Result<()> {
    let plain = manifests(&Values::ci("plain"))?;
    assert_eq!(roles(container(&plain, "starling")?), None);
    ensure!(
        !ids(&plain).iter().any(|id| id.contains("worker")),
        "workers that nobody wants: {:?}",
        ids(&plain)
    );
    assert_eq!(roles(container(&kustomize("overlays/production")?, "starling")?), None);
    for manifests in renderings()? {
        assert_eq!(roles(container(&manifests, "starling")?), Some("gateway"));
        assert_eq!(roles(container(&manifests, "starling-worker")?), Some("worker"));
    }
    Ok(())
}

#[test]
fn nobody_is_sent_to_a_worker_and_only_its_metrics_port_is_open() -> Result<()> {
    for manifests in renderings()? {
        let ports = container(&manifests, "starling-worker")?["ports"].as_array().context("ports")?;
        let ports: Vec<&Value> = ports.iter().map(|port| &port["name"]).collect();
        assert_eq!(ports, ["metrics"]);
        let component = |id: &str| -> Result<Value> {
            Ok(find(&manifests, id)?.0["spec"]["selector"]["app.kubernetes.io/component"].clone())
        };
        assert_eq!(component("Service/starling")?, "gateway");
        assert_eq!(component("Service/starling-worker-metrics")?, "worker");
        let policy = &find(&manifests, "NetworkPolicy/starling-worker")?.0["spec"];
        let open = policy["ingress"].as_array().context("ingress")?;
        let open: Vec<&Value> = open.iter().map(|rule| &rule["ports"]).collect();
        assert_eq!(open, [&json!([{ "port": "metrics", "protocol": "TCP" }])]);
        assert_eq!(policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"], "worker");
    }
    Ok(())
}

#[test]
fn a_worker_has_none_of_the_secrets_that_sign_or_check_tokens() -> Result<()> {
    for manifests in renderings()? {
        let pod = find(&manifests, "Deployment/starling-worker")?.pod().context("pods")?.to_string();
        ensure!(pod.contains("database-url") && pod.contains("redis-url"), "{pod}");
        for secret in ["jwt-secret", "ticket-secret", "JWT_SECRET", "TICKET_SECRET"] {
            ensure!(!pod.contains(secret), "a worker has {secret}: {pod}");
        }
    }
    Ok(())
}

#[test]
fn a_worker_has_longer_than_its_drain_takes() -> Result<()> {
    // What a drain may take at most: handing jobs back, taking leave, and sending the last spans. Half as much again is added.
    let mut seconds = 0;
    for (file, constant) in [
        ("crates/job-service/src/worker/mod.rs", "END_MAX"),
        ("crates/starling/src/worker.rs", "LEAVE_MAX"),
        ("crates/starling/src/serve.rs", "FLUSH"),
    ] {
        let source = fs::read_to_string(repository(file))?;
        let begin = format!("const {constant}: Duration = Duration::from_secs(");
        let (_, rest) = source.split_once(&begin).with_context(|| format!("{file}: {constant}"))?;
        let (number, _) = rest.split_once(')').context("a number")?;
        seconds += number.parse::<u64>()?;
    }
    for manifests in renderings()? {
        let pod = find(&manifests, "Deployment/starling-worker")?.pod().context("pods")?;
        let grace = pod["terminationGracePeriodSeconds"].as_u64();
        ensure!(grace >= Some(seconds + seconds / 2), "{grace:?} s for a drain of up to {seconds} s");
    }
    let schema = fs::read_to_string(repository("helm/starling/values.schema.json"))?;
    let schema: Value = serde_json::from_str(&schema)?;
    let least = schema.pointer("/properties/worker/properties/terminationGracePeriodSeconds/minimum");
    ensure!(
        least.and_then(Value::as_u64) >= Some(seconds + seconds / 2),
        "the schema accepts less: {least:?}"
    );
    Ok(())
}

#[test]
fn workers_scale_by_how_long_work_waits_and_by_one_autoscaler() -> Result<()> {
    for manifests in renderings()? {
        let spec = &find(&manifests, "HorizontalPodAutoscaler/starling-worker")?.0["spec"];
        assert_eq!(spec["scaleTargetRef"]["name"], "starling-worker");
        let metrics = spec["metrics"].as_array().context("metrics")?;
        let names: Vec<&Value> = metrics.iter().map(|metric| &metric["pods"]["metric"]["name"]).collect();
        assert_eq!(names[..2], ["starling_jobs_oldest_ready_seconds", "starling_webhook_oldest_due_seconds"]);
        assert_eq!(metrics[0]["pods"]["metric"]["selector"]["matchLabels"], json!({ "queues": "internal" }));
        assert_eq!(find(&manifests, "Deployment/starling-worker")?.0["spec"]["replicas"], Value::Null);
    }
    let keda = manifests(&Values::ci("gateway-keda"))?;
    let triggers = &find(&keda, "ScaledObject/starling-worker")?.0["spec"]["triggers"];
    let triggers = triggers.as_array().context("triggers")?;
    for (trigger, metric) in triggers.iter().zip([
        "starling_jobs_oldest_ready_seconds{queues=\"internal\"",
        "starling_webhook_oldest_due_seconds{",
    ]) {
        let query = trigger["metadata"]["query"].as_str().context("a query")?;
        ensure!(query.starts_with(&format!("max({metric}")), "{query}");
        assert_eq!(trigger["metricType"], "Value", "the age does not grow with the number of pods");
    }
    ensure!(!ids(&keda).contains(&"HorizontalPodAutoscaler/starling-worker".to_owned()), "two autoscalers");
    let fixed = manifests(&Values::ci("tls"))?;
    assert_eq!(find(&fixed, "Deployment/starling-worker")?.0["spec"]["replicas"], 2);
    Ok(())
}

#[test]
fn the_metrics_of_workers_are_scraped_like_those_of_the_others() -> Result<()> {
    let rendered = manifests(&Values::ci("workers"))?;
    let wanted = &find(&rendered, "ServiceMonitor/starling")?.0["spec"]["selector"]["matchLabels"];
    for service in ["starling-metrics", "starling-worker-metrics"] {
        let labels = &find(&rendered, &format!("Service/{service}"))?.0["metadata"]["labels"];
        for (label, value) in wanted.as_object().context("labels")? {
            assert_eq!(labels[label], *value, "{service}: {label}");
        }
    }
    Ok(())
}
