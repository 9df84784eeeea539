//! Checks everything in `deploy`, `helm` and `k8s` with the tools that read those files in production.

mod bridges;
mod chart;
mod compose;
mod dashboards;
mod expressions;
mod image;
mod kustomize;
mod load_balancers;
mod metrics;
mod refused;
mod restore_drill;
mod rules;
mod schemas;
mod security;
mod values;
mod workers;

use std::fs;

use anyhow::{Context, Result};
use starling_deployment::chart::{Values, render};
use starling_deployment::manifests::{Manifest, kustomize_text, parse};

/// The text of every manifest, with a name: what Helm renders with each file in `ci/`, what kustomize makes of each folder, and the
/// files of `deploy/backup`.
fn every_text() -> Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for name in Values::names()? {
        let text = render("helm4", "starling", &Values::ci(&name))?;
        texts.push((format!("helm/{name}"), text));
    }
    for folder in kustomize::FOLDERS {
        texts.push((format!("kustomize/{folder}"), kustomize_text(folder)?));
    }
    for path in expressions::files("deploy/backup", "yaml")? {
        let name = path.file_stem().and_then(|stem| stem.to_str()).context("a name")?.to_owned();
        texts.push((format!("backup/{name}"), fs::read_to_string(path)?));
    }
    Ok(texts)
}

/// Every manifest, as in [`every_text`].
fn every_rendering() -> Result<Vec<(String, Vec<Manifest>)>> {
    every_text()?.into_iter().map(|(from, text)| Ok((from, parse(&text)?))).collect()
}

/// The object of this kind and name.
fn find<'a>(manifests: &'a [Manifest], id: &str) -> Result<&'a Manifest> {
    let found = manifests.iter().find(|manifest| manifest.id() == id);
    found.with_context(|| format!("{id} is not among {:?}", ids(manifests)))
}

fn ids(manifests: &[Manifest]) -> Vec<String> {
    manifests.iter().map(Manifest::id).collect()
}
