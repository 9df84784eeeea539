//! The life of an installation in a Kubernetes cluster: the one that `KUBECONFIG` names, or one that is made of its parts for this run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{install, workspace};

/// The Go module with the parts of the local cluster.
const MODULE: &str = "deploy/kubernetes-local";
/// The release of Kubernetes in that module, which the programs report only if the linker is told.
const KUBERNETES: &str = "k8s.io/kubernetes";
/// The host of the ingress in the local cluster.
const HOST: &str = "starling.test";
/// Kinds beside Kubernetes' own that the chart's examples use: the Go module, and the file in it that defines the kind.
const DEFINITIONS: [(&str, &str); 5] = [
    (PROMETHEUS_OPERATOR, "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"),
    (PROMETHEUS_OPERATOR, "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"),
    ("github.com/kedacore/keda/v2@v2.21.0", "config/crd/bases/keda.sh_scaledobjects.yaml"),
    (
        "github.com/external-secrets/external-secrets@v1.3.2",
        "config/crds/bases/external-secrets.io_externalsecrets.yaml",
    ),
    ("sigs.k8s.io/gateway-api@v1.6.0", "config/crd/experimental/gateway.networking.k8s.io_httproutes.yaml"),
];
const PROMETHEUS_OPERATOR: &str = "github.com/prometheus-operator/prometheus-operator@v0.85.0";
/// Address of the local cluster's node.
const NODE: &str = "10.243.0.1";

/// Runs the whole life of an installation in a Kubernetes cluster.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// Brings up a cluster for this run, from etcd, Kubernetes, containerd and runc, in namespaces of this machine. Needs root and Go
    #[arg(long)]
    local: bool,
    /// Arguments of the run; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs it. Returns whether everything held.
pub fn run(arguments: &Arguments) -> Result<bool> {
    workspace::build_debug()?;
    let life = workspace::target()?.join("debug/life");
    let mut command = if arguments.local { in_local_cluster(&life)? } else { Command::new(&life) };
    command.args(&arguments.arguments).current_dir(workspace::root());
    // Helm and kubectl from the build folder, if they are there.
    let tools = workspace::target()?.join("tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders)?);
    Ok(command.status().context("run the life")?.success())
}

/// The command that brings the cluster up and runs the life in it.
fn in_local_cluster(life: &Path) -> Result<Command> {
    let programs = build_parts()?;
    let starling = build_static()?;
    let traefik = install::tools()?.join("traefik");
    ensure!(
        traefik.exists(),
        "{} is not there; `cargo xtask test --only install` brings it",
        traefik.display()
    );
    let image = |tag: &str| format!("starling:{tag}={}", starling.display());
    let mut command = Command::new(programs.join("local-cluster"));
    command.arg("--bin").arg(&programs).args(["--hosts", HOST]).arg("--traefik").arg(traefik);
    command.args(["--image", &image(env!("CARGO_PKG_VERSION")), "--image", &image("next")]);
    for (module, file) in DEFINITIONS {
        command.arg("--apply").arg(downloaded(module)?.join(file));
    }
    command.arg(life).args([
        "--databases",
        NODE,
        "--ingress-class",
        "traefik",
        "--next-image",
        "starling:next",
    ]);
    command.arg("--address").arg(format!("http://{HOST}"));
    Ok(command)
}

/// Builds the parts of the cluster, and returns their folder. The first time it compiles all of Kubernetes.
fn build_parts() -> Result<PathBuf> {
    let folder = workspace::target()?.join("kubernetes");
    fs::create_dir_all(&folder)?;
    let module = workspace::root().join(MODULE);
    let version = kubernetes_version(&fs::read_to_string(module.join("go.mod")).context("read go.mod")?)?;
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let set = |name: &str, value: &str| format!(" -X k8s.io/component-base/version.{name}={value}");
    let linker =
        ["-s -w".to_owned(), set("gitVersion", &version), set("gitMajor", major), set("gitMinor", minor)]
            .concat();
    let mut go = Command::new("go");
    go.current_dir(&module).env("CGO_ENABLED", "0");
    go.args(["build", "-trimpath", "-ldflags", &linker, "-o"]).arg(&folder).args(["tool", "./cmd/..."]);
    let status = go.status().context("run go; the local cluster is built with it")?;
    ensure!(status.success(), "go build in {MODULE}: {status}");
    // It needs other versions of Kubernetes' libraries, and so is a module of its own.
    let mut go = Command::new("go");
    go.current_dir(module.join("metrics-server")).env("CGO_ENABLED", "0");
    let status =
        go.args(["build", "-trimpath", "-ldflags", "-s -w", "-o"]).arg(&folder).arg("tool").status()?;
    ensure!(status.success(), "go build of metrics-server: {status}");
    Ok(folder)
}

/// The folder of a Go module, which is downloaded unless it is there.
fn downloaded(module: &str) -> Result<PathBuf> {
    let mut go = Command::new("go");
    let output =
        go.current_dir(workspace::root().join(MODULE)).args(["mod", "download", "-json", module]).output();
    let output = output.context("run go")?;
    let text = String::from_utf8_lossy(&output.stdout);
    // One line of an object that has no others inside.
    let folder = text.lines().find_map(|line| line.trim().strip_prefix("\"Dir\": \"")?.split('"').next());
    let folder = folder.with_context(|| format!("go can't download {module}: {text}"))?;
    Ok(PathBuf::from(folder))
}

/// The version of Kubernetes that a `go.mod` requires.
fn kubernetes_version(go_mod: &str) -> Result<String> {
    let words = go_mod.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let version = words.into_iter().find_map(|words| match words[..] {
        [KUBERNETES, version, ..] | ["require", KUBERNETES, version, ..] => Some(version.to_owned()),
        _ => None,
    });
    version.with_context(|| format!("{MODULE}/go.mod does not require {KUBERNETES}"))
}

/// Builds Starling as a static program, which is a whole image.
fn build_static() -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--package", "starling", "--bin", "starling", "--target", &target]);
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    let status = cargo.status().context("run cargo")?;
    ensure!(status.success(), "building a static program: {status}");
    Ok(workspace::target()?.join(target).join("release/starling"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_kubernetes_is_read_from_the_module() {
        let go_mod =
            "module x\n\nrequire (\n\tgo.etcd.io/etcd v3.7.0\n\tk8s.io/kubernetes v1.37.2 // indirect\n)\n";
        assert_eq!(kubernetes_version(go_mod).unwrap(), "v1.37.2");
        assert!(kubernetes_version("module x").is_err());
        let own = fs::read_to_string(workspace::root().join(MODULE).join("go.mod")).unwrap();
        assert!(kubernetes_version(&own).unwrap().starts_with("v1."));
    }
}
