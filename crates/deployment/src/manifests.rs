//! Manifests: the objects of Kubernetes that Helm and kustomize render.

use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::run;

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest(pub Value);

impl Manifest {
    /// Its kind.
    pub fn kind(&self) -> &str {
        self.0["kind"].as_str().unwrap_or_default()
    }

    /// Its kind and name, such as `Service/starling`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.kind(), self.0["metadata"]["name"].as_str().unwrap_or_default())
    }

    /// Its API group; empty for the core.
    pub fn group(&self) -> &str {
        let version = self.0["apiVersion"].as_str().unwrap_or_default();
        version.split_once('/').map_or("", |(group, _)| group)
    }

    /// The description of its pods, where it makes pods.
    pub fn pod(&self) -> Option<&Value> {
        self.0
            .pointer(match self.kind() {
                "Pod" => "/spec",
                "CronJob" => "/spec/jobTemplate/spec/template/spec",
                _ => "/spec/template/spec",
            })
            .filter(|spec| spec["containers"].is_array())
    }
}

/// The objects in a text of several YAML documents, by kind and name.
///
/// # Errors
/// When it is no YAML.
pub fn parse(text: &str) -> Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let mut value = Value::deserialize(document).context("read a manifest")?;
        if !value.is_null() {
            octal_modes(&mut value);
            manifests.push(Manifest(value));
        }
    }
    manifests.sort_by_key(Manifest::id);
    Ok(manifests)
}

/// What kustomize makes of a folder under `k8s`. The overlay with three nodes gets its example of secrets, with a password in it.
///
/// # Errors
/// When kustomize refuses, with its message.
pub fn kustomize(folder: &str) -> Result<Vec<Manifest>> {
    parse(&kustomize_text(folder)?)
}

/// The text of [`kustomize`].
///
/// # Errors
/// When kustomize refuses, with its message.
pub fn kustomize_text(folder: &str) -> Result<String> {
    let copy = tempfile::tempdir().context("a temporary folder")?;
    let copied = copy.path().to_str().context("a path in UTF-8")?;
    let dashboards = "helm/starling/files/dashboards";
    run("cp", ["-r", "--parents", "k8s", dashboards, copied])?;
    let three_nodes = copy.path().join("k8s/overlays/three-nodes");
    let example = fs::read_to_string(three_nodes.join("secrets.env.example")).context("the example")?;
    let filled = example.replace("THE-TRIAL-PASSWORD", "onlyForTests").replace("=\n", "=onlyForTests\n");
    fs::write(three_nodes.join("secrets.env"), filled).context("write the secrets")?;
    run("kubectl", ["kustomize", &format!("{copied}/k8s/{folder}")])
}

/// Objects as one text of several documents, with sorted keys.
///
/// # Errors
/// Never, for objects that were read.
pub fn text(manifests: &[Manifest]) -> Result<String> {
    let mut text = String::new();
    for Manifest(value) in manifests {
        text.push_str("---\n");
        text.push_str(&serde_yaml_ng::to_string(value)?);
    }
    Ok(text)
}

/// Kubernetes reads YAML 1.1, where `0440` is an octal number; for this parser it is text.
fn octal_modes(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let mode = value.as_str().filter(|_| key == "defaultMode" || key == "mode");
                match mode.and_then(|text| i64::from_str_radix(text, 8).ok()) {
                    Some(mode) => *value = mode.into(),
                    None => octal_modes(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(octal_modes),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_and_sorted_and_modes_are_octal() -> Result<()> {
        let text = "kind: B\nmetadata: { name: x }\n---\n---\napiVersion: apps/v1\nkind: A\nmetadata: { name: y }\nspec: { defaultMode: 0440 }\n";
        let manifests = parse(text)?;
        assert_eq!(manifests.iter().map(Manifest::id).collect::<Vec<_>>(), ["A/y", "B/x"]);
        assert_eq!(manifests[0].0["spec"]["defaultMode"], 288);
        assert_eq!([manifests[0].group(), manifests[1].group()], ["apps", ""]);
        Ok(())
    }
}
