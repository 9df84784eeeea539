//! What a cluster with restricted pod security and a careful administrator asks of every pod.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_deployment::chart::{Values, render};
use starling_deployment::manifests::Manifest;
use starling_deployment::{repository, run};

use crate::every_rendering;

/// Kinds of volumes that Pod Security's profile `restricted` allows.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

#[test]
fn every_pod_meets_the_restricted_profile_and_has_limits_and_no_token() -> Result<()> {
    let mut pods = 0;
    for (from, manifests) in every_rendering()? {
        for manifest in &manifests {
            if let Some(pod) = manifest.pod() {
                check_pod(pod).with_context(|| format!("{from}, {}", manifest.id()))?;
                pods += 1;
            }
        }
    }
    ensure!(pods >= 12, "only {pods} pods were found");
    Ok(())
}

fn check_pod(pod: &Value) -> Result<()> {
    let own = &pod["securityContext"];
    ensure!(own["runAsNonRoot"] == true, "runAsNonRoot");
    ensure!(own["runAsUser"].as_u64().is_some_and(|user| user > 0), "runAsUser");
    ensure!(own["seccompProfile"]["type"] == "RuntimeDefault", "seccompProfile");
    ensure!(pod["automountServiceAccountToken"] == false, "automountServiceAccountToken");
    for forbidden in ["hostNetwork", "hostPID", "hostIPC"] {
        ensure!(pod[forbidden] != true, "{forbidden}");
    }
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        let kinds: Vec<&String> =
            volume.as_object().context("a volume")?.keys().filter(|key| *key != "name").collect();
        ensure!(kinds.iter().all(|kind| VOLUMES.contains(&kind.as_str())), "volumes of the kinds {kinds:?}");
    }
    let lists = ["initContainers", "containers"].map(|list| pod[list].as_array());
    for container in lists.into_iter().flatten().flatten() {
        let context = &container["securityContext"];
        ensure!(context["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
        ensure!(context["readOnlyRootFilesystem"] == true, "readOnlyRootFilesystem");
        ensure!(context["capabilities"] == json!({ "drop": ["ALL"] }), "capabilities");
        ensure!(context["privileged"] != true, "privileged");
        ensure!(container["resources"]["limits"]["memory"].is_string(), "a limit for memory");
        ensure!(container["resources"]["requests"]["cpu"].is_string(), "a request for CPU");
        for port in container["ports"].as_array().into_iter().flatten() {
            ensure!(port["hostPort"].is_null(), "hostPort");
        }
    }
    Ok(())
}

#[test]
fn a_pod_with_more_rights_is_found() -> Result<()> {
    let (_, manifests) = every_rendering()?.into_iter().next().context("a rendering")?;
    let good = manifests.iter().find_map(Manifest::pod).context("a pod")?;
    check_pod(good)?;
    for (path, value) in [
        ("/securityContext/runAsNonRoot", json!(false)),
        ("/securityContext/seccompProfile/type", json!("Unconfined")),
        ("/containers/0/securityContext/capabilities/drop", json!([])),
        ("/containers/0/securityContext/allowPrivilegeEscalation", json!(true)),
        ("/containers/0/resources/limits/memory", Value::Null),
        ("/volumes/0", json!({ "name": "host", "hostPath": { "path": "/" } })),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(path).with_context(|| path.to_owned())? = value;
        ensure!(check_pod(&bad).is_err(), "{path} was not noticed");
    }
    Ok(())
}

#[test]
fn probes_ask_different_questions_and_none_of_them_restarts_a_node_because_of_a_database() -> Result<()> {
    for (from, manifests) in every_rendering()? {
        for manifest in manifests.iter().filter(|manifest| manifest.kind() != "Job") {
            let containers = manifest.pod().and_then(|pod| pod["containers"].as_array());
            let nodes = containers.into_iter().flatten().filter(|container| container["name"] == "starling");
            for node in nodes {
                let path = |probe: &str| node[probe]["httpGet"]["path"].clone();
                // A worker answers on its metrics port, which speaks no TLS.
                let is_worker = node["args"].as_array().is_some_and(|args| args.contains(&json!("worker")));
                let tls = if from.ends_with("tls") && !is_worker { json!("HTTPS") } else { Value::Null };
                let port = json!(if is_worker { "metrics" } else { "http" });
                for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                    assert_eq!(node[probe]["httpGet"]["scheme"], tls, "{from}, {probe}");
                    assert_eq!(node[probe]["httpGet"]["port"], port, "{from}, {probe}");
                }
                assert_eq!(path("livenessProbe"), "/health", "{from}: answered without Redis and PostgreSQL");
                assert_eq!(path("readinessProbe"), "/ready", "{from}");
                assert_eq!(path("startupProbe"), "/health", "{from}");
                let seconds = |probe: &str| {
                    Some(node[probe]["periodSeconds"].as_u64()? * node[probe]["failureThreshold"].as_u64()?)
                };
                ensure!(
                    seconds("startupProbe") > seconds("livenessProbe"),
                    "{from}: a start may take longer"
                );
                ensure!(
                    seconds("livenessProbe") > seconds("readinessProbe"),
                    "{from}: a restart is the last resort"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn no_password_has_a_default() -> Result<()> {
    let values = std::fs::read_to_string(repository("helm/starling/values.yaml"))?;
    let values: Value = serde_yaml_ng::from_str(&values)?;
    let secrets = values["secrets"]["values"].as_object().context("secrets.values")?;
    for (name, value) in secrets.iter().chain([(&"trial.password".to_owned(), &values["trial"]["password"])])
    {
        assert_eq!(value, "", "{name}");
    }
    // What is drawn is drawn anew for each installation.
    let trial = Values::default().set("trial.enabled=true");
    let [one, other] = [render("helm4", "starling", &trial)?, render("helm4", "starling", &trial)?];
    assert_ne!(one, other);
    for (from, manifests) in every_rendering()? {
        for pod in manifests.iter().filter_map(Manifest::pod) {
            let text = pod.to_string().to_lowercase();
            ensure!(
                !text.contains("onlyfortests"),
                "{from}: a pod shows the password that only a Secret may hold"
            );
        }
    }
    Ok(())
}

#[test]
fn checkov_finds_nothing_but_what_has_a_reason() -> Result<()> {
    // Checkov leaves out hidden folders.
    let folder = tempfile::Builder::new().prefix("starling-").tempdir().context("a folder")?;
    for (from, manifests) in every_rendering()? {
        let text = starling_deployment::manifests::text(&manifests)?;
        std::fs::write(folder.path().join(format!("{}.yaml", from.replace('/', "-"))), text)?;
    }
    let folder = folder.path().to_str().context("a path in UTF-8")?;
    let report =
        run("checkov", ["--config-file", ".checkov.yaml", "--directory", folder, "--output", "json"])?;
    let report: Value = serde_json::from_str(&report).context("the report of Checkov")?;
    let summary = &report["summary"];
    ensure!(summary["parsing_errors"] == 0 && summary["failed"] == 0, "{report}");
    ensure!(
        summary["passed"].as_u64().is_some_and(|passed| passed > 500),
        "Checkov saw too little: {summary}"
    );
    Ok(())
}
