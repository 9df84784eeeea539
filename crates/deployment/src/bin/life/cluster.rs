//! The cluster that the kubeconfig names, and the namespaces in it that this run makes and removes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use starling_testkit::wait;

use crate::arguments::Arguments;
use crate::databases::Databases;
use crate::tools::Tool;

/// The longest time until pods are as they should be. A drain and a start both fit in many times.
const SETTLE_LIMIT: Duration = Duration::from_secs(600);
/// How many lines of each command are shown after a failure.
const EXPLAIN_LINES: usize = 40;
/// Labels of the pods that are nodes.
const NODES: &str = "app.kubernetes.io/name=starling,app.kubernetes.io/component=gateway";

/// The cluster.
pub struct Cluster {
    pub kubectl: Tool,
    pub helm: Tool,
    /// Where Helm installs.
    pub namespace: String,
    /// Where kustomize's objects go.
    pub second_namespace: String,
    /// Secret that signs tokens, drawn for this run.
    pub jwt_secret: String,
    /// The databases of this machine, if they were asked for.
    pub databases: Option<Databases>,
}

/// A pod, as far as a phase looks at it.
#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    pub ready: bool,
    pub leaving: bool,
    pub restarts: u64,
}

impl Cluster {
    /// Looks at the cluster, and makes the namespaces: Pod Security at its strictest, and a quota.
    pub async fn open(arguments: &Arguments) -> Result<Self> {
        let kubectl = Tool::find("kubectl")?;
        let helm = match &arguments.helm {
            Some(name) => Tool::find(name)?,
            None => ["helm", "helm4"]
                .into_iter()
                .find_map(|name| Tool::find(name).ok())
                .map_or_else(|| Tool::find("helm3"), Ok)?,
        };
        let version = kubectl
            .json(&["version", "-o", "json"])
            .await
            .context("no cluster answers; does KUBECONFIG name one?")?;
        let helm_version = helm.run(&["version", "--short"]).await?;
        let nodes = kubectl.json(&["get", "nodes", "-o", "json"]).await?;
        let node = &nodes["items"][0]["status"]["nodeInfo"];
        println!(
            "Kubernetes {}, {} node(s) with {} and kernel {}; Helm {}",
            version["serverVersion"]["gitVersion"].as_str().unwrap_or("?"),
            nodes["items"].as_array().map_or(0, Vec::len),
            node["containerRuntimeVersion"].as_str().unwrap_or("?"),
            node["kernelVersion"].as_str().unwrap_or("?"),
            helm_version.trim(),
        );
        let run = format!("{:08x}", rand::random::<u32>());
        let databases = match arguments.databases {
            Some(address) => Some(Databases::start(address).await?),
            None => None,
        };
        let cluster = Self {
            kubectl,
            helm,
            namespace: format!("starling-life-{run}"),
            second_namespace: format!("starling-life-{run}-kustomize"),
            jwt_secret: random_secret(),
            databases,
        };
        for namespace in [&cluster.namespace, &cluster.second_namespace] {
            let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [namespace_object(namespace), quota(namespace)] });
            cluster.apply(&objects).await?;
        }
        cluster.admission_refuses_what_it_should().await?;
        Ok(cluster)
    }

    /// Applies objects.
    pub async fn apply(&self, objects: &Value) -> Result<()> {
        let arguments = ["apply", "--server-side", "-f", "-"];
        self.kubectl.run_with(&arguments, &objects.to_string()).await.map(drop)
    }

    /// Runs kubectl in the first namespace.
    pub async fn get(&self, arguments: &[&str]) -> Result<Value> {
        self.get_in(&self.namespace, arguments).await
    }

    /// Runs kubectl in a namespace.
    pub async fn get_in(&self, namespace: &str, arguments: &[&str]) -> Result<Value> {
        let arguments = [&["-n", namespace, "get", "-o", "json"], arguments].concat();
        self.kubectl.json(&arguments).await
    }

    /// The nodes of Starling.
    pub async fn pods(&self, namespace: &str) -> Result<Vec<Pod>> {
        let list = self.get_in(namespace, &["pods", "-l", NODES]).await?;
        list["items"].as_array().context("a list without items")?.iter().map(Pod::read).collect()
    }

    /// Waits until there are exactly this many pods, all of them ready and none leaving. Without a number: until none is leaving.
    pub async fn settled(&self, namespace: &str, number: Option<usize>) -> Result<Vec<Pod>> {
        let what = match number {
            Some(number) => format!("{number} ready pods in {namespace}, and no others"),
            None => format!("all pods in {namespace} to be ready, and none to leave"),
        };
        wait::until(SETTLE_LIMIT, &what, async || {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let pods = self.pods(namespace).await?;
            let all_ready = !pods.is_empty() && pods.iter().all(|pod| pod.ready && !pod.leaving);
            Ok((all_ready && number.is_none_or(|number| pods.len() == number)).then_some(pods))
        })
        .await
    }

    /// The Jobs that have completed in a namespace, by the events that tell of them: Helm removes the Jobs of its hooks.
    pub async fn completed_jobs(&self, namespace: &str) -> Result<BTreeSet<String>> {
        let events = self.get_in(namespace, &["events", "--field-selector=reason=Completed"]).await?;
        let events = events["items"].as_array().context("a list without items")?;
        let jobs = events.iter().filter(|event| event["involvedObject"]["kind"] == "Job");
        Ok(jobs.filter_map(|event| event["involvedObject"]["name"].as_str().map(str::to_owned)).collect())
    }

    /// Kills the process of a pod, as a crash does: with SIGKILL, if its node runs on this machine, or else by deleting the pod without
    /// any grace. Says which.
    pub async fn kill(&self, pod: &Pod) -> Result<&'static str> {
        if let Some(process) = process_of(pod) {
            let pid = rustix::process::Pid::from_raw(process).context("a process id")?;
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
            return Ok("its process was killed with SIGKILL");
        }
        let arguments = ["-n", &self.namespace, "delete", "pod", &pod.name, "--grace-period=0", "--force"];
        self.kubectl.run(&arguments).await?;
        Ok("it was deleted without grace")
    }

    /// Shows what a failed run left: pods, events, and the logs of pods that are not ready.
    pub async fn explain(&self) {
        for namespace in [&self.namespace, &self.second_namespace] {
            for what in [
                &["get", "all,hpa,ingress,networkpolicy", "-o", "wide"][..],
                &["get", "events", "--sort-by=.lastTimestamp"],
                &[
                    "logs",
                    "-l",
                    "app.kubernetes.io/name=starling",
                    "--tail=15",
                    "--prefix",
                    "--all-containers",
                ],
            ] {
                let arguments = [&["-n", namespace.as_str()], what].concat();
                match self.kubectl.run(&arguments).await {
                    Ok(text) => {
                        let lines: Vec<&str> = text.lines().collect();
                        let end = lines[lines.len().saturating_sub(EXPLAIN_LINES)..].join("\n");
                        println!("--- kubectl {}\n{end}", arguments.join(" "));
                    }
                    Err(error) => println!("--- {error:#}"),
                }
            }
        }
    }

    /// Removes the namespaces and all in them.
    pub async fn remove(&self) -> Result<()> {
        let arguments = [
            "delete",
            "namespace",
            &self.namespace,
            &self.second_namespace,
            "--ignore-not-found",
            "--timeout=180s",
        ];
        self.kubectl.run(&arguments).await.map(drop)
    }

    /// Shows that the admission is on: a pod that asks for privileges is refused, and so is one beyond the quota.
    async fn admission_refuses_what_it_should(&self) -> Result<()> {
        let container = |security: Value, cpu: &str| json!({ "name": "c", "image": "c", "securityContext": security, "resources": { "requests": { "cpu": cpu, "memory": "1Mi" }, "limits": { "memory": "1Mi" } } });
        let strict = json!({ "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" } });
        for (container, refusal) in [
            (container(json!({ "privileged": true }), "1m"), "violates PodSecurity"),
            (container(strict, "500"), "exceeded quota"),
        ] {
            let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "refused", "namespace": self.namespace }, "spec": { "containers": [container] } });
            // The quota's controller may not have counted yet; until then it refuses everything.
            let refused = async || match self
                .kubectl
                .run_with(&["create", "--dry-run=server", "-f", "-"], &pod.to_string())
                .await
            {
                Ok(_) => bail!("the cluster accepts it"),
                Err(error) if format!("{error:#}").contains(refusal) => Ok(true),
                Err(error) => Err(error),
            };
            let what = format!("a refusal with `{refusal}`");
            wait::until_true(Duration::from_secs(30), &what, refused).await?;
        }
        println!("admission: a privileged pod and one beyond the quota are refused");
        Ok(())
    }

    /// An address of the first node that clients can reach.
    pub async fn node_address(&self) -> Result<String> {
        let nodes = self.kubectl.json(&["get", "nodes", "-o", "json"]).await?;
        let addresses =
            nodes["items"][0]["status"]["addresses"].as_array().context("a node without addresses")?;
        let internal = addresses.iter().find(|address| address["type"] == "InternalIP");
        let address = internal.and_then(|address| address["address"].as_str());
        Ok(address.context("a node without an internal address")?.to_owned())
    }
}

impl Pod {
    fn read(pod: &Value) -> Result<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a pod lacks a name or uid");
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        Ok(Self {
            name: text(&pod["metadata"]["name"])?,
            uid: text(&pod["metadata"]["uid"])?,
            ready,
            leaving: !pod["metadata"]["deletionTimestamp"].is_null(),
            restarts: statuses.filter_map(|status| status["restartCount"].as_u64()).sum(),
        })
    }
}

/// The process of a pod's program, if it runs on this machine and may be seen: its cgroup has the pod's uid in its name.
fn process_of(pod: &Pod) -> Option<i32> {
    let uid = pod.uid.replace('-', "_");
    let belongs = |process: &Path| {
        let cgroups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        let program = fs::read_to_string(process.join("comm")).unwrap_or_default();
        (cgroups.contains(&pod.uid) || cgroups.contains(&uid)) && program.trim() == "starling"
    };
    let processes = fs::read_dir("/proc").ok()?.flatten().filter(|process| belongs(&process.path()));
    processes.filter_map(|process| process.file_name().to_str()?.parse().ok()).next()
}

fn namespace_object(name: &str) -> Value {
    let labels = json!({
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/warn": "restricted",
    });
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } })
}

fn quota(namespace: &str) -> Value {
    let hard = json!({ "pods": "30", "requests.cpu": "20", "requests.memory": "32Gi", "limits.memory": "64Gi", "services": "10", "count/jobs.batch": "10" });
    json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "limits", "namespace": namespace }, "spec": { "hard": hard } })
}

fn random_secret() -> String {
    (0..6).map(|_| format!("{:016x}", rand::random::<u64>())).collect()
}

/// Fails unless all of these are there.
pub fn ensure_all(found: &BTreeSet<String>, wanted: &[&str], what: &str) -> Result<()> {
    let missing: Vec<&&str> = wanted.iter().filter(|name| !found.contains(**name)).collect();
    ensure!(missing.is_empty(), "{what}: {missing:?} is missing; there is {found:?}");
    Ok(())
}
