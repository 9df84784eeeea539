//! The files of `deploy/compose`, started as they are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_deployment::repository;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::{http, wait};

use super::docker::Docker;
use super::traffic::Traffic;
use super::{SOON, image, namespaces, stand_ins};

/// Where both files publish the service.
const ADDRESS: &str = "127.0.0.1:8080";
/// Where the file with three nodes publishes Prometheus and Alertmanager.
const PROMETHEUS: &str = "http://127.0.0.1:9091";
const ALERTMANAGER: &str = "http://127.0.0.1:9093";
/// The services of that file that are started, beside those that they depend on. Nothing on this machine stands in for Grafana, Jaeger and
/// the collector.
const STARTED: [&str; 3] = ["load-balancer", "prometheus", "alertmanager"];
const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

/// A file, started with Docker Compose.
struct Project<'a> {
    docker: &'a Docker,
    name: String,
    file: PathBuf,
    services: serde_yaml_ng::Mapping,
}

impl<'a> Project<'a> {
    /// Reads a file, and makes the folders and files beside it as they are in the repository.
    async fn open(docker: &'a Docker, file: &str) -> Result<Self> {
        let root = docker.folder().join("repository");
        for part in ["deploy", "helm"] {
            fs::create_dir_all(&root).context("make a folder for the repository")?;
            let source = repository(part);
            docker.command("cp", &["-r", text(&source)?, text(&root)?]).await?;
        }
        let path = root.join(file);
        let whole = fs::read_to_string(&path).with_context(|| format!("read {file}"))?;
        let mut read: serde_yaml_ng::Value = serde_yaml_ng::from_str(&whole)?;
        read.apply_merge()?;
        let name = read["name"].as_str().context("a name")?.to_owned();
        let services = read["services"].as_mapping().cloned().context("services")?;
        // Debian's Docker Compose is older than this key.
        fs::write(&path, whole.replace(&format!("\nname: {name}\n"), "\n"))?;
        Ok(Self { docker, name, file: path, services })
    }

    /// Runs `docker-compose`.
    async fn run(&self, arguments: &[&str]) -> Result<String> {
        let of = ["--project-name", &self.name, "--file", text(&self.file)?];
        self.docker.command("docker-compose", &[&of[..], arguments].concat()).await
    }

    /// Makes the images of these services, but for that of Starling.
    async fn provide(&self, services: &[&str]) -> Result<()> {
        for service in services {
            let tag = self.services[*service]["image"]
                .as_str()
                .with_context(|| format!("the image of {service}"))?;
            stand_ins::provide(self.docker, service, tag).await?;
        }
        Ok(())
    }

    async fn container(&self, service: &str) -> Result<String> {
        self.run(&["ps", "--quiet", service]).await
    }

    /// Waits until a node says that clients should be sent to it.
    async fn ready(&self, node: &str) -> Result<()> {
        let ready = async || {
            self.run(&["exec", "-T", node, "/starling", "healthcheck", "--ready"]).await.map(|_| true)
        };
        wait::until_true(SOON, &format!("{node} to be ready"), ready).await
    }
}

#[test]
fn one_node_serves_and_keeps_its_messages_when_it_is_made_anew() -> Result<()> {
    namespaces::run("compose::one_node_serves_and_keeps_its_messages_when_it_is_made_anew", async |docker| {
        image::provide(docker).await?;
        let project = Project::open(docker, "deploy/compose/one-node.yaml").await?;
        let url = format!("ws://{ADDRESS}/v1/ws");
        project.run(&["up", "--detach", "--no-build"]).await?;
        project.ready("starling").await?;
        let token = project.run(&["exec", "-T", "starling", "/starling", "token", "--user", "ann"]).await?;
        let mut client = Client::connect(&url, &token, Encoding::Json).await?;
        client.command("create", json!({ "conversation": "kept", "members": [] })).await?;
        client.command("send", json!({ "conversation": "kept", "content": "hello", "key": "1" })).await?;
        client.close().await?;

        project.run(&["up", "--detach", "--no-build", "--force-recreate"]).await?;
        project.ready("starling").await?;
        let mut client = Client::connect(&url, &token, Encoding::Json).await?;
        let history = client.command("history", json!({ "conversation": "kept" })).await?;
        ensure!(history["messages"][0]["content"] == "hello", "{history}");
        Ok(())
    })
}

#[test]
#[ignore = "it takes minutes: `cargo xtask containers` runs it"]
fn three_nodes_are_stopped_in_turn_and_nothing_is_lost() -> Result<()> {
    namespaces::run("compose::three_nodes_are_stopped_in_turn_and_nothing_is_lost", async |docker| {
        image::provide(docker).await?;
        let project = Project::open(docker, "deploy/compose/three-nodes.yaml").await?;
        let folder = project.file.parent().context("a folder")?;
        docker.command("sh", &[text(&folder.join("make-secrets.sh"))?]).await?;
        let secret = fs::read_to_string(folder.join("secrets/jwt_secret"))?;
        project.provide(&["postgres", "redis"]).await?;
        project.provide(&STARTED).await?;
        project.run(&[&["up", "--detach", "--no-build"][..], &STARTED].concat()).await?;
        for node in NODES {
            project.ready(node).await?;
        }

        let mut traffic = Traffic::start(ADDRESS, &secret).await?;
        for node in NODES {
            let container = project.container(node).await?;
            project.run(&["stop", node]).await?;
            let code = docker.inspect(&container, "{{.State.ExitCode}}").await?;
            ensure!(code == "0", "{node} ended with {code}");
            traffic.check()?;
            project.run(&["start", node]).await?;
            project.ready(node).await?;
            docker.healthy(&container).await?;
        }
        traffic.finish("three nodes of Compose, each stopped in turn").await?;

        let scraped = async || {
            let up = query("up{job=\"starling\"}").await?;
            Ok(up.len() == NODES.len() && up.iter().all(|node| node["value"][1] == "1"))
        };
        wait::until_true(SOON, "Prometheus to have read all nodes", scraped).await?;
        let rules = http::get(&format!("{PROMETHEUS}/api/v1/rules")).await?.json()?;
        ensure!(
            rules["data"]["groups"].as_array().is_some_and(|groups| !groups.is_empty()),
            "no rules: {rules}"
        );
        let known = async || {
            let managers = http::get(&format!("{PROMETHEUS}/api/v1/alertmanagers")).await?.json()?;
            Ok(managers["data"]["activeAlertmanagers"].as_array().is_some_and(|active| active.len() == 1))
        };
        wait::until_true(SOON, "Prometheus to know Alertmanager", known).await?;
        ensure!(
            http::get(&format!("{ALERTMANAGER}/-/ready")).await?.status == 200,
            "Alertmanager is not ready"
        );
        Ok(())
    })
}

/// The result of a query in Prometheus.
async fn query(expression: &str) -> Result<Vec<Value>> {
    let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = http::get(&format!("{PROMETHEUS}/api/v1/query?query={encoded}")).await?.json()?;
    answer["data"]["result"].as_array().cloned().with_context(|| format!("no result: {answer}"))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is no text", path.display()))
}
