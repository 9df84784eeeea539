//! The folders of `k8s`: what kustomize makes of them, and that it is what Helm makes.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use starling_deployment::chart::{Values, manifests};
use starling_deployment::golden;
use starling_deployment::manifests::{Manifest, kustomize, text};

use crate::chart::shorten_dashboards;
use crate::{every_rendering, find, ids};

/// The base and the overlays.
pub const FOLDERS: [&str; 8] = [
    "base",
    "overlays/one-node",
    "overlays/three-nodes",
    "overlays/production",
    "overlays/production/migrate",
    "overlays/production-monitored",
    "overlays/production-workers",
    "overlays/production-rabbitmq",
];

#[test]
fn kustomize_makes_what_was_reviewed() -> Result<()> {
    for folder in FOLDERS {
        let name = folder.trim_start_matches("overlays/").replace('/', "-");
        let mut manifests = kustomize(folder)?;
        manifests.iter_mut().for_each(shorten_dashboards);
        golden::compare(&format!("kustomize-{name}.yaml"), &text(&manifests)?)?;
    }
    Ok(())
}

#[test]
fn the_base_is_what_helm_makes_by_default() -> Result<()> {
    let values = Values::default().set("secrets.existingSecret=starling,migrations.mode=node");
    assert_alike(&manifests(&values)?, &kustomize("base")?, &[])
}

#[test]
fn three_nodes_are_what_helm_makes_for_a_trial() -> Result<()> {
    let allowed = [
        // Helm is given other values than the file of secrets.
        "Secret/starling /data",
        // kustomize writes its labels there, too.
        "StatefulSet/starling-trial-postgres /spec/volumeClaimTemplates/0/metadata/labels",
    ];
    assert_alike(
        &manifests(&Values::ci("trial").set("replicaCount=3,podDisruptionBudget.enabled=true"))?,
        &kustomize("overlays/three-nodes")?,
        &allowed,
    )
}

#[test]
fn production_is_what_helm_makes_for_production() -> Result<()> {
    let mut kustomized = kustomize("overlays/production")?;
    kustomized.extend(kustomize("overlays/production/migrate")?);
    assert_alike(&manifests(&production())?, &kustomized, &[])
}

#[test]
fn monitored_production_is_what_helm_makes_with_all_of_its_monitoring() -> Result<()> {
    let values = production()
        .set("metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true")
        .set("metrics.dashboards.enabled=true");
    let mut kustomized = kustomize("overlays/production-monitored")?;
    kustomized.extend(kustomize("overlays/production/migrate")?);
    assert_alike(&manifests(&values)?, &kustomized, &[])
}

#[test]
fn production_with_workers_is_what_helm_makes_with_workers() -> Result<()> {
    let values = production().set("worker.enabled=true,worker.autoscaling.enabled=true");
    let mut kustomized = kustomize("overlays/production-workers")?;
    kustomized.extend(kustomize("overlays/production/migrate")?);
    assert_alike(&manifests(&values)?, &kustomized, &[])
}

#[test]
fn production_with_bridges_is_what_helm_makes_with_bridges() -> Result<()> {
    let values = production()
        .set("worker.enabled=true,worker.autoscaling.enabled=true")
        .set("secrets.present={jwtSecret,databaseUrl,redisUrl,rabbitmqUrl}")
        .set("rabbitmq.in.orders.exchange=shop,rabbitmq.in.orders.queue=orders,rabbitmq.in.orders.routing_keys=order.*")
        .set("rabbitmq.out.events.queue=events,rabbitmq.out.events.exchange=starling");
    let mut kustomized = kustomize("overlays/production-rabbitmq")?;
    kustomized.extend(kustomize("overlays/production/migrate")?);
    assert_alike(&manifests(&values)?, &kustomized, &[])
}

fn production() -> Values {
    Values::default()
        .set("secrets.existingSecret=starling,autoscaling.enabled=true,config.trusted_proxies=10.244.0.0/16")
        .set("ingress.enabled=true,ingress.className=nginx,ingress.controller=nginx")
        .set("ingress.hosts={chat.example.com},ingress.tls[0].secretName=chat-tls,ingress.tls[0].hosts={chat.example.com}")
}

#[test]
fn one_node_has_the_container_of_the_base_but_for_its_secrets() -> Result<()> {
    let container = |manifests: &[Manifest], id: &str| -> Result<Value> {
        let mut container = find(manifests, id)?.pod().context("pods")?["containers"][0].clone();
        for list in ["env", "volumeMounts"] {
            let list = container[list].as_array_mut().context("a list")?;
            list.retain(|entry| {
                let text = entry.to_string();
                !text.contains("secrets") && !text.contains("/data")
            });
        }
        Ok(container)
    };
    let base = container(&kustomize("base")?, "Deployment/starling")?;
    assert_eq!(container(&kustomize("overlays/one-node")?, "StatefulSet/starling")?, base);
    Ok(())
}

/// Fails unless both are the same objects, but for what only one of the tools writes and what is allowed: `KIND/NAME`, or
/// `KIND/NAME PATH`.
fn assert_alike(helm: &[Manifest], kustomize: &[Manifest], allowed: &[&str]) -> Result<()> {
    // kustomize has no tests: `starling check` is run by hand.
    let helm = helm.iter().filter(|manifest| manifest.0["metadata"]["annotations"]["helm.sh/hook"] != "test");
    let helm: Vec<Manifest> = helm.map(without_traces).collect();
    let kustomize: Vec<Manifest> = kustomize.iter().map(without_traces).collect();
    let names = |manifests: &[Manifest]| ids(manifests).into_iter().collect::<BTreeSet<String>>();
    ensure!(
        names(&helm) == names(&kustomize),
        "objects of only one of them: {:?}",
        names(&helm).symmetric_difference(&names(&kustomize)).collect::<Vec<_>>()
    );
    let mut differences = Vec::new();
    for one in &helm {
        compare(&one.id(), "", &one.0, &find(&kustomize, &one.id())?.0, &mut differences);
    }
    let unused: Vec<&&str> = allowed
        .iter()
        .filter(|allowed| !differences.iter().any(|found| found.starts_with(**allowed)))
        .collect();
    ensure!(unused.is_empty(), "no longer different: {unused:?}");
    differences.retain(|found| !allowed.iter().any(|allowed| found.starts_with(allowed)));
    ensure!(differences.is_empty(), "Helm and kustomize differ:\n{}", differences.join("\n"));
    Ok(())
}

/// An object without what says which tool made it: Helm's labels, hooks and checksums, and kustomize's hash of a file in the name.
fn without_traces(manifest: &Manifest) -> Manifest {
    let mut manifest = manifest.clone();
    let is_hashed = matches!(manifest.kind(), "ConfigMap" | "Secret");
    if is_hashed && let Some(name) = manifest.0["metadata"]["name"].as_str() {
        manifest.0["metadata"]["name"] = without_hash(name).into();
    }
    clean(&mut manifest.0);
    manifest
}

/// A name without the hash that kustomize puts behind it.
fn without_hash(name: &str) -> String {
    let hash = |end: &str| end.len() == 10 && end.chars().all(|c| "bcdfghkmt2456789".contains(c));
    let plain = name.rsplit_once('-').filter(|(_, end)| hash(end)).map(|(plain, _)| plain);
    plain.unwrap_or(name).to_owned()
}

fn clean(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for key in ["labels", "annotations"] {
                if let Some(entries) = map.get_mut(key).and_then(Value::as_object_mut) {
                    entries.retain(|name, _| {
                        !name.starts_with("helm.sh/")
                            && !name.starts_with("checksum/")
                            && name != "app.kubernetes.io/managed-by"
                    });
                    if entries.is_empty() {
                        map.remove(key);
                    }
                }
            }
            // A reference to a ConfigMap or Secret with a hash in its name.
            for (reference, key) in [("configMap", "name"), ("secret", "secretName")] {
                if let Some(Value::String(name)) = map.get_mut(reference).and_then(|named| named.get_mut(key))
                {
                    *name = without_hash(name);
                }
            }
            if let Some(Value::String(file)) = map.get_mut("starling.toml") {
                let mut lines: Vec<&str> = file.lines().collect();
                lines.sort_unstable();
                *file = lines.join("\n");
            }
            map.values_mut().for_each(clean);
        }
        Value::Array(list) => list.iter_mut().for_each(clean),
        _ => {}
    }
}

/// Notes where two values differ.
fn compare(id: &str, path: &str, helm: &Value, kustomize: &Value, differences: &mut Vec<String>) {
    match (helm, kustomize) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let [one, other] = [one, other].map(|map| map.get(key).unwrap_or(&Value::Null));
                compare(id, &format!("{path}/{key}"), one, other, differences);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                compare(id, &format!("{path}/{index}"), one, other, differences);
            }
        }
        _ if helm == kustomize => {}
        _ => differences.push(format!("{id} {path}: {helm} by Helm, {kustomize} by kustomize")),
    }
}

#[test]
fn differences_are_found_and_traces_of_the_tools_are_none() -> Result<()> {
    let service = |port: u16, by: &str| {
        Manifest(serde_json::json!({
            "kind": "Service",
            "metadata": { "name": "starling", "labels": { "app.kubernetes.io/managed-by": by, "a": "b" } },
            "spec": { "ports": [{ "port": port }] },
        }))
    };
    assert_alike(&[service(80, "Helm")], &[service(80, "kustomize")], &[])?;
    let error = assert_alike(&[service(80, "Helm")], &[service(81, "")], &[]).unwrap_err().to_string();
    assert!(error.contains("Service/starling /spec/ports/0/port: 80 by Helm, 81 by kustomize"), "{error}");
    assert!(assert_alike(&[service(80, "Helm")], &[], &[]).is_err());
    assert!(assert_alike(&[service(80, "")], &[service(80, "")], &["Service/starling /spec"]).is_err());
    Ok(())
}

#[test]
fn what_can_not_be_changed_names_no_version_so_that_an_upgrade_can_be_applied() -> Result<()> {
    for (from, manifests) in every_rendering()? {
        for manifest in &manifests {
            for immutable in ["/spec/selector", "/spec/volumeClaimTemplates"] {
                let text = manifest.0.pointer(immutable).map(Value::to_string).unwrap_or_default();
                for label in ["app.kubernetes.io/version", "helm.sh/chart"] {
                    ensure!(!text.contains(label), "{from}, {}: {immutable} has {label}", manifest.id());
                }
            }
        }
    }
    Ok(())
}
