//! The release of the chart: its values, and what Helm does with it.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_testkit::Folder;

use crate::arguments::Arguments;
use crate::cluster::Cluster;

/// Name of the release, and so of its objects.
pub const NAME: &str = "starling";
/// The chart, from the root of the repository.
const CHART: &str = "helm/starling";
/// Drain of a node in seconds: short, so that the phases are.
const DRAIN_SECONDS: u64 = 10;

/// The release, with the values of its revisions.
pub struct Release<'a> {
    cluster: &'a Cluster,
    arguments: &'a Arguments,
    folder: Folder,
    /// The values of each revision; the newest last.
    revisions: Vec<Value>,
}

impl<'a> Release<'a> {
    /// The release before it is installed.
    pub fn new(cluster: &'a Cluster, arguments: &'a Arguments) -> Result<Self> {
        let values = first_values(cluster, arguments)?;
        Ok(Self { cluster, arguments, folder: Folder::new("life")?, revisions: vec![values] })
    }

    /// Installs it, with all that `--wait` waits for.
    pub async fn install(&self) -> Result<()> {
        self.helm("install").await
    }

    /// Changes values, as JSON merge patches do, and upgrades to them.
    pub async fn upgrade(&mut self, change: &Value) -> Result<()> {
        let mut values = self.newest().clone();
        merge(&mut values, change);
        self.revisions.push(values);
        self.helm("upgrade").await
    }

    /// Goes back to the revision before the newest one.
    pub async fn roll_back(&mut self) -> Result<()> {
        ensure!(self.revisions.len() > 1, "there is no revision to go back to");
        self.revisions.pop();
        let arguments =
            ["rollback", NAME, "--namespace", &self.cluster.namespace, "--wait", "--timeout", "10m"];
        self.cluster.helm.run(&arguments).await.map(drop)
    }

    /// Runs the chart's tests, and returns what they printed.
    pub async fn test(&self) -> Result<String> {
        let arguments = ["test", NAME, "--namespace", &self.cluster.namespace, "--logs", "--timeout", "5m"];
        self.cluster.helm.run(&arguments).await
    }

    /// Uninstalls it.
    pub async fn uninstall(&self) -> Result<()> {
        let arguments =
            ["uninstall", NAME, "--namespace", &self.cluster.namespace, "--wait", "--timeout", "10m"];
        self.cluster.helm.run(&arguments).await.map(drop)
    }

    /// Whether the chart migrates the database in a Job.
    pub fn migrates_in_job(&self) -> bool {
        self.newest()["trial"]["enabled"] != true
    }

    fn newest(&self) -> &Value {
        self.revisions.last().unwrap_or(&Value::Null)
    }

    async fn helm(&self, command: &str) -> Result<()> {
        // A file, since secrets are among the values and everybody on this machine can read a command line.
        let values = self.folder.join("values.json");
        let mut file = File::options();
        file.create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&values)?
            .write_all(self.newest().to_string().as_bytes())?;
        let values = values.to_str().context("a path of ASCII")?;
        let mut arguments = vec![
            command,
            NAME,
            CHART,
            "--namespace",
            &self.cluster.namespace,
            "--wait",
            "--timeout",
            "10m",
            "--values",
            values,
        ];
        for file in &self.arguments.values {
            arguments.extend(["--values", file.to_str().context("a path of ASCII")?]);
        }
        self.cluster.helm.run(&arguments).await.map(drop)
    }
}

/// The values of the first revision: three nodes, small requests, a short drain.
fn first_values(cluster: &Cluster, arguments: &Arguments) -> Result<Value> {
    let mut values = json!({
        "image": image(&arguments.image)?,
        "replicaCount": 3,
        "config": { "drain_seconds": DRAIN_SECONDS },
        "resources": { "requests": { "cpu": "50m", "memory": "64Mi" }, "limits": { "memory": "512Mi" } },
    });
    let secrets = match &cluster.databases {
        Some(databases) => json!({ "secrets": { "values": {
            "jwtSecret": cluster.jwt_secret,
            "databaseUrl": databases.database_urls[0],
            "redisUrl": databases.redis_urls[0],
        } } }),
        None => json!({
            "secrets": { "values": { "jwtSecret": cluster.jwt_secret } },
            "trial": { "enabled": true },
            "migrations": { "mode": "node" },
        }),
    };
    merge(&mut values, &secrets);
    let entrance = match (&arguments.address, &arguments.ingress_class) {
        (Some(address), Some(class)) => {
            json!({ "ingress": { "enabled": true, "className": class, "hosts": [host(address)?] } })
        }
        _ => json!({ "service": { "type": "NodePort" } }),
    };
    merge(&mut values, &entrance);
    Ok(values)
}

/// The values that name an image.
pub fn image(name: &str) -> Result<Value> {
    let (repository, tag) = name.rsplit_once(':').with_context(|| format!("the image {name} has no tag"))?;
    Ok(json!({ "repository": repository, "tag": tag }))
}

/// The host in `http://HOST:PORT`.
fn host(address: &str) -> Result<&str> {
    let rest =
        address.strip_prefix("http://").with_context(|| format!("{address} does not begin with http://"))?;
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    Ok(host)
}

/// Lays `change` over `values`: objects are merged, everything else is replaced.
fn merge(values: &mut Value, change: &Value) {
    match (values, change) {
        (Value::Object(values), Value::Object(change)) => {
            for (key, change) in change {
                merge(values.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
        (values, change) => *values = change.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_laid_over_the_values() {
        let mut values = json!({ "a": { "b": 1, "c": [1, 2] }, "d": 2 });
        merge(&mut values, &json!({ "a": { "c": [3], "e": {} } }));
        assert_eq!(values, json!({ "a": { "b": 1, "c": [3], "e": {} }, "d": 2 }));
    }

    #[test]
    fn an_address_gives_its_host_and_an_image_its_tag() {
        assert_eq!(host("http://chat.example:8080/").unwrap(), "chat.example");
        assert!(host("https://chat.example").is_err());
        let image = image("registry.example:5000/starling:1.2").unwrap();
        assert_eq!(image, json!({ "repository": "registry.example:5000/starling", "tag": "1.2" }));
    }
}
