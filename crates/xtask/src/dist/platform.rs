//! The processors that a release is for.

use std::process::Command;

use anyhow::{Result, bail};

/// A kind of processor, with its names.
#[derive(Debug, PartialEq, Eq)]
pub struct Platform {
    /// The name that images and archives use.
    pub name: &'static str,
    /// The name that Rust uses.
    pub target: &'static str,
    /// What the names of its compiler and its other tools begin with, where they are not this computer's own.
    pub tools: &'static str,
    /// Rust's name of the processor.
    processor: &'static str,
}

/// All platforms.
const ALL: [Platform; 2] = [
    Platform {
        name: "amd64",
        target: "x86_64-unknown-linux-gnu",
        tools: "x86_64-linux-gnu-",
        processor: "x86_64",
    },
    Platform {
        name: "arm64",
        target: "aarch64-unknown-linux-gnu",
        tools: "aarch64-linux-gnu-",
        processor: "aarch64",
    },
];

impl Platform {
    /// The platforms of these names; all if there are none.
    pub fn named(names: &[String]) -> Result<Vec<Platform>> {
        if let Some(name) = names.iter().find(|name| ALL.iter().all(|platform| platform.name != **name)) {
            bail!("no platform is called {name}; there are {}", ALL.map(|platform| platform.name).join(", "));
        }
        let wanted = |platform: &Platform| names.is_empty() || names.iter().any(|name| name == platform.name);
        Ok(ALL.into_iter().filter(wanted).collect())
    }

    /// Whether this computer can run its programs.
    pub fn is_this_computer(&self) -> bool {
        std::env::consts::ARCH == self.processor
    }

    /// The name of a tool: `gcc`, `strip`. This computer's own where it is of this kind.
    pub fn tool(&self, name: &str) -> String {
        if self.is_this_computer() { name.to_owned() } else { format!("{}{name}", self.tools) }
    }

    /// Whether a tool can be started.
    pub fn has_tool(&self, name: &str) -> bool {
        Command::new(self.tool(name)).arg("--version").output().is_ok_and(|output| output.status.success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_found_by_their_names() {
        let names = |given: &[&str]| {
            let given: Vec<String> = given.iter().map(|name| (*name).to_owned()).collect();
            Platform::named(&given)
                .map(|found| found.iter().map(|platform| platform.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap(), ["amd64", "arm64"]);
        assert_eq!(names(&["arm64"]).unwrap(), ["arm64"]);
        assert!(
            names(&["arm64", "riscv"]).unwrap_err().to_string().contains("riscv; there are amd64, arm64")
        );
    }
}
