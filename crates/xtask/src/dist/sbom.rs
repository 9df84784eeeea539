//! The bill of materials: every crate that the program is made of, as CycloneDX.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::platform::Platform;
use crate::workspace::{self, VERSION};

/// What cargo says about all crates of the workspace and their dependencies.
pub struct Components(Value);

/// What a bill of materials is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The program.
    Program,
    /// An image, which also has the certificates of authorities.
    Image,
}

/// Asks cargo for all crates.
pub fn components() -> Result<Components> {
    let output = workspace::cargo().args(["metadata", "--format-version", "1", "--locked"]).output();
    let output = output.context("run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    Ok(Components(serde_json::from_slice(&output.stdout).context("cargo metadata")?))
}

/// Writes the bill of materials of the program for this platform, or of its image.
pub fn write(path: &Path, platform: &Platform, components: &Components, subject: Subject) -> Result<()> {
    let bill = bill(platform, components, subject)?;
    fs::write(path, format!("{bill:#}\n")).with_context(|| format!("write {}", path.display()))
}

fn bill(platform: &Platform, components: &Components, subject: Subject) -> Result<Value> {
    let used = components.used_by("starling", platform)?;
    let mut parts: Vec<Value> = used.values().map(|package| component(package)).collect();
    if subject == Subject::Image {
        parts.push(json!({
            "type": "data", "name": "ca-certificates", "bom-ref": "ca-certificates",
            "description": "the certificates of authorities that Mozilla trusts, as Debian packages them",
            "licenses": [{ "license": { "id": "MPL-2.0" } }],
        }));
    }
    let (kind, name) = match subject {
        Subject::Program => ("application", "starling"),
        Subject::Image => ("container", "starling-image"),
    };
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": kind, "name": name, "version": VERSION, "bom-ref": name,
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
                "properties": [{ "name": "platform", "value": format!("linux/{}", platform.name) }],
            },
        },
        "components": parts,
        "dependencies": components.edges(&used),
    }))
}

impl Components {
    fn packages(&self) -> BTreeMap<&str, &Value> {
        let packages = self.0["packages"].as_array().into_iter().flatten();
        packages.filter_map(|package| Some((package["id"].as_str()?, package))).collect()
    }

    /// The crates that are compiled into a program for this platform, by their ids, with itself. Those of tests and build scripts are not
    /// among them.
    fn used_by(&self, name: &str, platform: &Platform) -> Result<BTreeMap<&str, &Value>> {
        let packages = self.packages();
        let root = packages.iter().find(|(_, package)| package["name"] == name);
        let mut waiting = vec![*root.with_context(|| format!("there is no crate {name}"))?.0];
        let mut used = BTreeMap::new();
        while let Some(id) = waiting.pop() {
            let Some(package) = packages.get(id) else { continue };
            if used.insert(id, *package).is_none() {
                waiting.extend(self.dependencies(id, platform));
            }
        }
        Ok(used)
    }

    /// The crates that a crate links on this platform.
    fn dependencies<'a>(&'a self, id: &str, platform: &Platform) -> impl Iterator<Item = &'a str> {
        let nodes = self.0["resolve"]["nodes"].as_array().into_iter().flatten();
        let node = nodes.into_iter().find(|node| node["id"] == id);
        let linked = |dependency: &Value| {
            let kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
            kinds.into_iter().any(|kind| kind["kind"].is_null() && applies(&kind["target"], platform))
        };
        let dependencies = node.and_then(|node| node["deps"].as_array()).into_iter().flatten();
        let linked: Vec<&str> = dependencies
            .filter(|dependency| linked(dependency))
            .filter_map(|one| one["pkg"].as_str())
            .collect();
        linked.into_iter()
    }

    fn edges(&self, used: &BTreeMap<&str, &Value>) -> Vec<Value> {
        let nodes = self.0["resolve"]["nodes"].as_array().into_iter().flatten();
        let used_nodes = nodes.filter(|node| node["id"].as_str().is_some_and(|id| used.contains_key(id)));
        let reference = |id: &str| used.get(id).map(|package| reference(package));
        used_nodes
            .filter_map(|node| {
                let ids = node["dependencies"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let on: Vec<String> = ids.filter_map(reference).collect();
                Some(json!({ "ref": reference(node["id"].as_str()?)?, "dependsOn": on }))
            })
            .collect()
    }
}

/// Whether a dependency for some systems only is one on this platform. What is not surely for another system counts as one: a bill
/// rather names too much.
fn applies(target: &Value, platform: &Platform) -> bool {
    let Some(target) = target.as_str() else { return true };
    const OTHERS: [&str; 7] = ["windows", "macos", "wasm", "wasi", "android", "apple", "hermit"];
    let negated = target.contains("not(");
    target == platform.target || negated || !OTHERS.iter().any(|other| target.contains(other))
}

/// The name of a component within the bill.
fn reference(package: &Value) -> String {
    format!("pkg:cargo/{}@{}", text(package, "name"), text(package, "version"))
}

fn component(package: &Value) -> Value {
    let reference = reference(package);
    let mut component = json!({
        "type": "library", "name": package["name"], "version": package["version"],
        "bom-ref": reference, "purl": reference,
        // Cargo still knows crates with the older way to write OR.
        "licenses": [{ "expression": text(package, "license").replace('/', " OR ") }],
    });
    if let Some(repository) = package["repository"].as_str() {
        component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    component
}

fn text<'a>(package: &'a Value, key: &str) -> &'a str {
    package[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bill_names_what_is_linked_and_not_what_only_tests_use() {
        let components = components().unwrap();
        let platform = &Platform::named(&["amd64".to_owned()]).unwrap()[0];
        let bill = bill(platform, &components, Subject::Program).unwrap();
        let names: Vec<&str> =
            bill["components"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        for used in [
            "starling",
            "starling-hub",
            "tokio",
            "rustls",
            "aws-lc-sys",
            "rusqlite",
            "tokio-postgres",
            "fred",
        ] {
            assert!(names.contains(&used), "{used} is missing");
        }
        for unused in ["starling-testkit", "insta", "proptest", "windows-sys", "cmake", "xtask"] {
            assert!(!names.contains(&unused), "{unused} is not part of the program");
        }
        let edges = bill["dependencies"].as_array().unwrap();
        assert_eq!(edges.len(), names.len());
        let hub = edges
            .iter()
            .find(|edge| edge["ref"].as_str().unwrap().starts_with("pkg:cargo/starling-hub@"))
            .unwrap();
        assert!(
            hub["dependsOn"]
                .as_array()
                .unwrap()
                .iter()
                .any(|on| on.as_str().unwrap().contains("/starling-wire@"))
        );
        assert!(
            bill["components"].as_array().unwrap().iter().all(|one| one["licenses"][0]["expression"] != "")
        );
    }
}
