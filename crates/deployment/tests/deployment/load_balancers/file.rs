//! A configuration file of the repository, with what a user replaces in it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use starling_deployment::repository;

/// Marks lines to uncomment for sticky sessions.
const STICKY: &str = "# sticky: ";
/// Marks lines to remove for sticky sessions.
const NOT_WITH_STICKY: &str = "# not with sticky";

/// The text of a file in `deploy/load-balancers`.
pub struct ConfigFile {
    name: String,
    text: String,
}

impl ConfigFile {
    pub fn read(name: &str) -> Result<Self> {
        let path = repository(Path::new("deploy/load-balancers").join(name));
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(Self { name: name.to_owned(), text })
    }

    /// Replaces every occurrence. The file must have one.
    pub fn replace(&mut self, from: &str, to: &str) -> Result<()> {
        ensure!(self.text.contains(from), "{} has no `{from}`", self.name);
        self.text = self.text.replace(from, to);
        Ok(())
    }

    /// Turns sticky sessions on as the file's first lines say.
    pub fn make_sticky(&mut self) -> Result<()> {
        ensure!(self.text.lines().any(is_sticky), "{} has no lines for sticky sessions", self.name);
        let kept = self.text.lines().filter(|line| !line.ends_with(NOT_WITH_STICKY) || is_sticky(line));
        let text = kept.map(|line| {
            let line = if is_sticky(line) { line.replacen(STICKY, "", 1) } else { line.to_owned() };
            line + "\n"
        });
        self.text = text.collect();
        Ok(())
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}

fn is_sticky(line: &str) -> bool {
    line.trim_start().starts_with(STICKY)
}
