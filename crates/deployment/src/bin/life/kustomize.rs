//! The production overlay of `k8s`, applied to the cluster.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_deployment::repository;
use starling_testkit::{Folder, wait};

use crate::arguments::Arguments;
use crate::cluster::Cluster;
use crate::release;

/// The overlay.
const OVERLAY: &str = "k8s/overlays/production";
/// The longest time for a migration.
const MIGRATION_LIMIT: &str = "--timeout=300s";

/// Migrates by the overlay's Job, applies the overlay, waits until it serves, and deletes it.
pub async fn run(arguments: &Arguments, cluster: &Cluster) -> Result<String> {
    let namespace = &cluster.second_namespace;
    let Some(databases) = &cluster.databases else {
        return render_only(cluster, namespace).await;
    };
    let folder = Folder::new("kustomize")?;
    let text = |text: &str| Value::String(text.to_owned());
    cluster
        .apply(&json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "starling", "namespace": namespace }, "stringData": {
            "jwt-secret": text(&cluster.jwt_secret),
            "database-url": text(&databases.database_urls[1]),
            "redis-url": text(&databases.redis_urls[1]),
        } }))
        .await?;
    let migrate = overlay(&folder, "migrate", &format!("{OVERLAY}/migrate"), &arguments.image)?;
    let nodes = overlay(&folder, "nodes", OVERLAY, &arguments.image)?;
    let kubectl = |words: &'static [&'static str]| [&["-n", namespace.as_str()], words].concat();
    let with = |words: &'static [&'static str], folder: &str| {
        kubectl(words)
            .into_iter()
            .map(str::to_owned)
            .chain(["-k".to_owned(), folder.to_owned()])
            .collect::<Vec<_>>()
    };
    cluster.kubectl.run(&with(&["apply"], &migrate)).await?;
    cluster
        .kubectl
        .run(&kubectl(&["wait", "--for=condition=complete", MIGRATION_LIMIT, "job/starling-migrate"]))
        .await?;
    cluster.kubectl.run(&with(&["apply"], &nodes)).await?;
    cluster.kubectl.run(&kubectl(&["rollout", "status", "deployment/starling", "--timeout=600s"])).await?;
    let pods = cluster.settled(namespace, None).await?;
    let health = format!("/api/v1/namespaces/{namespace}/services/starling:http/proxy/health");
    cluster.kubectl.run(&["get", "--raw", &health]).await.context("the service does not answer")?;
    let scaled = autoscaler_works(cluster, namespace).await?;
    cluster.kubectl.run(&with(&["delete", "--wait"], &nodes)).await?;
    cluster.kubectl.run(&with(&["delete", "--wait"], &migrate)).await?;
    Ok(format!("{OVERLAY}: migrated, {} pods, the service answers, {scaled}", pods.len()))
}

/// Without databases that a second installation could use, the API server only checks the objects.
async fn render_only(cluster: &Cluster, namespace: &str) -> Result<String> {
    let arguments = ["-n", namespace, "apply", "--dry-run=server", "-k", OVERLAY];
    let accepted = cluster.kubectl.run(&arguments).await?.lines().count();
    Ok(format!("{OVERLAY}: the API server accepts {accepted} objects (not run: it needs --databases)"))
}

/// Whether the autoscaler of the overlay can read CPU and memory, where the cluster serves these.
async fn autoscaler_works(cluster: &Cluster, namespace: &str) -> Result<&'static str> {
    if cluster.kubectl.run(&["get", "--raw", "/apis/metrics.k8s.io"]).await.is_err() {
        return Ok("the cluster serves no resource metrics");
    }
    let active = async || {
        let scaler = cluster.get_in(namespace, &["hpa", "starling"]).await?;
        let metrics = scaler["status"]["currentMetrics"].as_array();
        let of = |name: &str| {
            metrics.is_some_and(|metrics| metrics.iter().any(|metric| metric["resource"]["name"] == name))
        };
        Ok(of("cpu") && of("memory"))
    };
    wait::until_true(Duration::from_secs(180), "the autoscaler to read CPU and memory", active).await?;
    Ok("its autoscaler reads CPU and memory")
}

/// A kustomization that takes an overlay over with the image of this run.
fn overlay(folder: &Folder, name: &str, of: &str, image: &str) -> Result<String> {
    let own = folder.join(name);
    std::fs::create_dir(&own)?;
    // Kustomize takes other folders only by relative paths.
    let own = own.canonicalize()?;
    let up = "../".repeat(own.components().count() - 1);
    let base = repository(of).canonicalize()?;
    let image = release::image(image)?;
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [format!("{up}{}", base.display().to_string().trim_start_matches('/'))],
        "images": [{ "name": "starling", "newName": image["repository"], "newTag": image["tag"] }],
    });
    ensure!(base.join("kustomization.yaml").exists(), "{of} is not there");
    std::fs::write(own.join("kustomization.yaml"), kustomization.to_string())?;
    Ok(own.to_str().context("a path of ASCII")?.to_owned())
}
