//! Every manifest against the schemas of Kubernetes and of the custom resources, where an unknown field is an error.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use starling_deployment::manifests::{Manifest, text};
use starling_deployment::{repository, run};
use starling_testkit::programs;

use crate::{every_rendering, every_text};

/// Groups of custom resources that the chart makes.
const CUSTOM: [&str; 4] =
    ["monitoring.coreos.com", "keda.sh", "gateway.networking.k8s.io", "external-secrets.io"];
/// The oldest and the newest version of Kubernetes that manifests have to be right for.
const KUBERNETES: [&str; 2] = ["1.27", "1.37"];
/// The program that checks custom resources.
const CHECK: &str = "crates/deployment/tests/deployment/custom-resources.mjs";

#[test]
fn every_manifest_is_right_for_kubernetes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut files = Vec::new();
    for (from, text) in every_text()? {
        files.push(write(folder.path(), &from, &text)?);
    }
    // Readers of YAML differ in what they make of a key that is there twice.
    let twice = ["--strict", "--config-data", "{ rules: { key-duplicates: enable } }"];
    run("yamllint", twice.into_iter().chain(files.iter().map(String::as_str)))?;
    for version in KUBERNETES {
        let options = ["--strict", "--kubernetes-version", version];
        let report = run("kubernetes-validate", options.into_iter().chain(files.iter().map(String::as_str)))?;
        for line in report.lines().filter(|line| line.starts_with("WARN")) {
            // Custom resources have a test of their own.
            ensure!(CUSTOM.iter().any(|group| line.contains(group)), "{line}");
        }
        ensure!(report.matches("passed for resource").count() > 60, "too little was read: {report}");
    }
    Ok(())
}

#[test]
fn a_field_that_kubernetes_does_not_know_is_found() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let service = Manifest(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "starling" },
        "spec": { "ports": [{ "port": 80, "targetPorts": 8080 }] },
    }));
    let file = write(folder.path(), "bad", &text(&[service])?)?;
    let refusal = run("kubernetes-validate", ["--strict", &file]).err().context("it was accepted")?;
    ensure!(format!("{refusal:#}").contains("targetPorts"), "{refusal:#}");
    Ok(())
}

#[test]
fn every_custom_resource_is_right_for_its_operator_and_typos_are_found() -> Result<()> {
    let mut resources = Vec::new();
    for (_, manifests) in every_rendering()? {
        resources.extend(manifests.into_iter().filter(|manifest| CUSTOM.contains(&manifest.group())));
    }
    for group in CUSTOM {
        ensure!(resources.iter().any(|resource| resource.group() == group), "nothing of {group} is rendered");
    }
    check_custom(&resources)?;
    // The control: a field that does not exist in each of them, and a value that does not fit.
    for resource in &mut resources {
        resource.0["spec"]["notAField"] = json!(1);
    }
    let route = resources.iter_mut().find(|resource| resource.kind() == "HTTPRoute").context("a route")?;
    route.0["spec"]["rules"][0]["timeouts"]["request"] = json!("forever");
    let refusal = check_custom(&resources).err().context("they were accepted")?.to_string();
    ensure!(refusal.matches("notAField").count() >= resources.len(), "{refusal}");
    ensure!(refusal.contains("timeouts/request"), "{refusal}");
    Ok(())
}

fn check_custom(resources: &[Manifest]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let list: Vec<_> = resources.iter().map(|resource| &resource.0).collect();
    let file = write(folder.path(), "resources", &serde_json::to_string(&list)?)?;
    let helm = programs::find("helm4")?;
    let tools = helm.ancestors().nth(2).context("the folder of tools")?.join("npm");
    run("node", [CHECK, tools.to_str().context("a path in UTF-8")?, &file]).map(drop)
}

fn write(folder: &Path, name: &str, text: &str) -> Result<String> {
    let path = folder.join(format!("{}.yaml", name.replace('/', "-")));
    fs::write(&path, text)?;
    path.into_os_string().into_string().ok().context("a path in UTF-8")
}

#[test]
fn every_yaml_file_is_well_formed_and_written_alike() -> Result<()> {
    run("yamllint", ["--strict", "."]).map(drop)?;
    let folder = tempfile::tempdir()?;
    let bad = write(folder.path(), "bad", "a: 1\na: 2\n")?;
    let config = repository(".yamllint.yaml");
    let config = config.to_str().context("a path in UTF-8")?;
    let refusal = run("yamllint", ["--strict", "--config-file", config, &bad]).err();
    ensure!(refusal.is_some(), "a key that is there twice was accepted");
    Ok(())
}
