//! The chart `helm/starling`, as Helm renders it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use starling_testkit::programs;

use crate::manifests::{Manifest, parse};
use crate::repository;

/// The versions of Helm, by the names of their programs.
pub const HELMS: [&str; 2] = ["helm3", "helm4"];

/// Values for one rendering.
#[derive(Clone, Debug, Default)]
pub struct Values {
    files: Vec<PathBuf>,
    set: Vec<String>,
}

impl Values {
    /// The values of a file in `ci/`, by its name without `-values.yaml`.
    pub fn ci(name: &str) -> Values {
        Values { files: vec![repository(format!("helm/starling/ci/{name}-values.yaml"))], set: Vec::new() }
    }

    /// With a value given on the command line, as in `--set KEY=VALUE`.
    #[must_use]
    pub fn set(mut self, value: &str) -> Values {
        self.set.push(value.to_owned());
        self
    }

    /// The values of a file.
    pub fn file(path: impl Into<PathBuf>) -> Values {
        Values { files: vec![path.into()], set: Vec::new() }
    }

    /// The names of all files in `ci/`, without `-values.yaml`.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn names() -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in repository("helm/starling/ci").read_dir()? {
            let name = entry?.file_name().into_string().ok().context("a name in UTF-8")?;
            names.push(name.strip_suffix("-values.yaml").context("a file *-values.yaml")?.to_owned());
        }
        names.sort();
        Ok(names)
    }

    fn arguments(&self, command: &mut Command) {
        for file in &self.files {
            command.arg("--values").arg(file);
        }
        for value in &self.set {
            command.args(["--set", value]);
        }
    }
}

/// Renders the chart as a release of this name, and returns the text.
///
/// # Errors
/// When Helm refuses, with its message.
pub fn render(helm: &str, release: &str, values: &Values) -> Result<String> {
    helm_run(helm, &["template", release], values)
}

/// Renders the chart as the release `starling` with Helm 4.
///
/// # Errors
/// When Helm refuses, with its message, or the result is no YAML.
pub fn manifests(values: &Values) -> Result<Vec<Manifest>> {
    parse(&render("helm4", "starling", values)?)
}

/// Lints the chart, where a warning is an error, too.
///
/// # Errors
/// When Helm finds something.
pub fn lint(helm: &str, values: &Values) -> Result<String> {
    helm_run(helm, &["lint", "--strict"], values)
}

/// What Helm prints after installing the chart as this release in this namespace.
///
/// # Errors
/// When Helm refuses, with its message.
pub fn notes(release: &str, namespace: &str, values: &Values) -> Result<String> {
    // Helm 3 asks a cluster even then.
    let words = ["install", release, "--namespace", namespace, "--dry-run=client"];
    let printed = helm_run("helm4", &words, values)?;
    let (_, notes) = printed.split_once("\nNOTES:\n").context("no notes")?;
    Ok(notes.trim_end().to_owned())
}

fn helm_run(helm: &str, words: &[&str], values: &Values) -> Result<String> {
    let mut command = Command::new(programs::find(helm)?);
    command.args(words).arg("helm/starling").current_dir(repository(""));
    values.arguments(&mut command);
    let output = command.output().with_context(|| format!("run {helm}"))?;
    let printed = String::from_utf8(output.stdout).context("text from Helm")?;
    ensure!(output.status.success(), "{}{printed}", String::from_utf8_lossy(&output.stderr));
    Ok(printed)
}
