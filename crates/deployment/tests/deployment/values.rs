//! The values of the chart: each is read by a template, and what they make is a good configuration of the program.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use starling_deployment::chart::{Values, manifests};
use starling_deployment::manifests::{Manifest, kustomize};
use starling_deployment::repository;
use starling_testkit::node::program;

use crate::bridges::has_address;
use crate::find;
use crate::kustomize::FOLDERS;
use crate::workers::roles;

#[test]
fn every_value_is_read_by_a_template_and_every_template_reads_a_value_that_exists() -> Result<()> {
    let values: Value =
        serde_yaml_ng::from_str(&fs::read_to_string(repository("helm/starling/values.yaml"))?)?;
    let mut leaves = BTreeSet::new();
    collect("", &values, &mut leaves);
    let mut read = BTreeSet::new();
    for folder in ["helm/starling/templates", "helm/starling/templates/tests"] {
        for entry in repository(folder).read_dir()? {
            let path = entry?.path();
            if path.is_file() {
                read.extend(paths(&fs::read_to_string(path)?));
            }
        }
    }
    // These are read through a variable: `index .Values "autoscaling"` and so on.
    let by_variable =
        ["secrets.values", "secrets.keys", "autoscaling", "keda", "worker.autoscaling", "worker.keda"];
    read.extend(by_variable.map(str::to_owned));
    let above = |path: &str, other: &str| other == path || other.starts_with(&format!("{path}."));
    for leaf in &leaves {
        ensure!(read.iter().any(|read| above(read, leaf)), "no template reads {leaf}");
    }
    // Any setting may stand in `config`.
    for read in read.iter().filter(|read| !read.starts_with("config.")) {
        ensure!(
            leaves.iter().any(|leaf| above(read, leaf) || above(leaf, read)),
            "a template reads {read}, which is not in values.yaml"
        );
    }
    Ok(())
}

/// Paths of what is neither a map nor absent; an empty map is a value, too.
fn collect(path: &str, value: &Value, leaves: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(&path, value, leaves);
            }
        }
        _ => drop(leaves.insert(path.to_owned())),
    }
}

/// What stands behind each `.Values.`.
fn paths(template: &str) -> impl Iterator<Item = String> {
    template.split(".Values.").skip(1).map(|rest| {
        let end =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_').unwrap_or(rest.len());
        rest[..end].to_owned()
    })
}

#[test]
fn the_schema_knows_the_values_and_no_others() -> Result<()> {
    let values: Value =
        serde_yaml_ng::from_str(&fs::read_to_string(repository("helm/starling/values.yaml"))?)?;
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(repository("helm/starling/values.schema.json"))?)?;
    same_keys("", &values, &schema, &schema)
}

/// `schema` is a part of `all`.
fn same_keys(path: &str, values: &Value, schema: &Value, all: &Value) -> Result<()> {
    let schema = match schema["$ref"].as_str() {
        Some(place) => all.pointer(place.trim_start_matches('#')).with_context(|| place.to_owned())?,
        None => schema,
    };
    let (Some(values), Some(properties)) = (values.as_object(), schema["properties"].as_object()) else {
        return Ok(());
    };
    ensure!(schema["additionalProperties"] == false, "{path}: the schema accepts any key");
    // What is only shown by example in values.yaml, and what belongs to Helm.
    let by_example = ["config", "resources", "behavior.scaleUp", "behavior.scaleDown"];
    if by_example.iter().any(|end| path == *end || path.ends_with(&format!(".{end}"))) {
        return Ok(());
    }
    let names = |map: &serde_json::Map<String, Value>| {
        map.keys().filter(|key| *key != "global").cloned().collect::<BTreeSet<String>>()
    };
    if !values.is_empty() {
        assert_eq!(names(values), names(properties), "{path}");
    }
    for (key, value) in values {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        same_keys(&path, value, &properties[key], all)?;
    }
    Ok(())
}

#[test]
fn the_program_accepts_every_configuration_that_is_rendered() -> Result<()> {
    let mut renderings = Vec::new();
    for name in Values::names()? {
        renderings.push((name.clone(), manifests(&Values::ci(&name))?));
    }
    for folder in FOLDERS.iter().filter(|folder| !folder.ends_with("migrate")) {
        renderings.push(((*folder).to_owned(), kustomize(folder)?));
    }
    for (from, manifests) in renderings {
        let config = manifests.iter().find(|manifest| manifest.0["data"]["starling.toml"].is_string());
        let text =
            config.context("a configuration")?.0["data"]["starling.toml"].as_str().context("a file")?;
        // Nodes of all roles read the same file.
        for node in nodes(&manifests) {
            let address = has_address(node).then_some("amqp://mq.example");
            accept(text, roles(node), address).with_context(|| format!("{from}, {:?}", roles(node)))?;
        }
    }
    ensure!(accept("drain_second = 1\n", None, None).is_err(), "a typo was accepted");
    Ok(())
}

/// The containers in which the program serves.
fn nodes(manifests: &[Manifest]) -> impl Iterator<Item = &Value> {
    let containers = manifests.iter().filter_map(|manifest| manifest.pod()?["containers"].as_array());
    containers.flatten().filter(|container| container["name"] == "starling")
}

/// Fails unless the program accepts this configuration file, in a node with these roles and this address of RabbitMQ.
pub fn accept(text: &str, roles: Option<&str>, rabbitmq_url: Option<&str>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("starling.toml");
    fs::write(&path, text)?;
    let mut command = Command::new(program()?);
    command.args(["config", "--config"]).arg(path).env_clear();
    command.envs(roles.map(|roles| ("STARLING_ROLES", roles)));
    command.envs(rabbitmq_url.map(|url| ("RABBITMQ_URL", url)));
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn every_variable_that_a_container_gets_is_one_that_the_program_knows() -> Result<()> {
    let page = fs::read_to_string(repository("docs/configuration.md"))?;
    let mut secrets = Values::ci("production");
    for name in ["ticketSecret", "ticketSecretPrevious", "databaseReadUrl"] {
        secrets = secrets.set(&format!("secrets.present={{jwtSecret,databaseUrl,redisUrl,{name}}}"));
    }
    let [with_keda, base] = [manifests(&Values::ci("gateway-keda"))?, kustomize("base")?];
    let [workers, bridges] = [manifests(&Values::ci("workers"))?, manifests(&Values::ci("rabbitmq"))?];
    for (manifests, deployment) in [
        (&manifests(&secrets)?, "starling"),
        (&with_keda, "starling"),
        (&base, "starling"),
        (&workers, "starling-worker"),
        (&bridges, "starling-worker"),
    ] {
        let pod = find(manifests, &format!("Deployment/{deployment}")).map(Manifest::pod)?.context("pods")?;
        for variable in pod["containers"][0]["env"].as_array().context("variables")? {
            let name = variable["name"].as_str().context("a name")?;
            let key = name.trim_start_matches("STARLING_").to_lowercase();
            let known = page.contains(&format!("`{name}`")) || page.contains(&format!("| `{key}` |"));
            // The address of the pod is used by another variable.
            ensure!(known || name == "POD_IP", "the program does not know {name}");
        }
    }
    Ok(())
}

#[test]
fn the_versions_of_the_program_the_chart_and_the_overlays_agree() -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let chart: Value = serde_yaml_ng::from_str(&fs::read_to_string(repository("helm/starling/Chart.yaml"))?)?;
    assert_eq!([&chart["version"], &chart["appVersion"]], [version, version]);
    for folder in FOLDERS {
        for manifest in kustomize(folder)? {
            let containers = manifest.pod().and_then(|pod| pod["containers"].as_array());
            for container in containers.into_iter().flatten() {
                let image = container["image"].as_str().context("an image")?;
                ensure!(
                    !image.starts_with("starling:") || image == format!("starling:{version}"),
                    "{folder}: {image}"
                );
            }
            if manifest.pod().is_some_and(|pod| {
                pod["containers"][0]["image"].as_str().is_some_and(|image| image.starts_with("starling:"))
            }) {
                let label =
                    &manifest.0["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/version"];
                ensure!(label == version, "{folder}, {}: {label}", manifest.id());
            }
        }
    }
    Ok(())
}
