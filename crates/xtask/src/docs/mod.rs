//! `cargo xtask docs`: the pages and manifests that are generated from the program and the chart.

mod chart_config;
mod chart_values;
mod prometheus_rule;

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::workspace::{self, root};

/// What is generated: the file, and how. The order matters, since later files are made from earlier ones.
const PAGES: [(&str, fn() -> Result<String>); 4] = [
    ("docs/configuration.md", || printed(&["config", "--markdown"])),
    ("helm/starling/values.schema.json", || {
        chart_config::schema(&read("helm/starling/values.schema.json")?, &read("docs/configuration.md")?)
    }),
    ("helm/starling/README.md", || chart_values::page(&read("helm/starling/values.yaml")?)),
    ("k8s/components/monitoring/prometheusrule.yaml", || {
        let files =
            ["alerts", "recording"].map(|name| read(&format!("helm/starling/files/rules/{name}.yaml")));
        prometheus_rule::object(&files.into_iter().collect::<Result<Vec<String>>>()?)
    }),
];

/// Writes the pages that are generated from the program and the chart.
#[derive(clap::Args)]
pub struct Arguments {
    /// Writes nothing, and fails if a page differs from what would be written
    #[arg(long)]
    check: bool,
}

/// Writes or checks the pages.
pub fn run(arguments: &Arguments) -> Result<bool> {
    workspace::build_debug()?;
    if arguments.check {
        return check().map(|()| true);
    }
    for (name, generate) in PAGES {
        fs::write(root().join(name), generate()?).with_context(|| format!("write {name}"))?;
        println!("wrote {name}");
    }
    Ok(true)
}

/// Fails if a page differs from what would be written.
pub fn check() -> Result<()> {
    for (name, generate) in PAGES {
        ensure!(
            read(name)? == generate()?,
            "{name} is not what `cargo xtask docs` writes; run it and commit the result"
        );
    }
    Ok(())
}

fn read(name: &str) -> Result<String> {
    fs::read_to_string(root().join(name)).with_context(|| format!("read {name}"))
}

/// What the program of the debug build prints.
fn printed(words: &[&str]) -> Result<String> {
    let output = workspace::debug_command("starling")?.args(words).output().context("run starling")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "starling {}: {}\n{errors}", words.join(" "), output.status);
    String::from_utf8(output.stdout).context("the output of starling")
}
