//! What runs before a release, and is too long for the test of each change.

use std::fmt::Write;

/// A check: what it finds, its command, and how long it takes.
struct Check {
    finds: &'static str,
    command: &'static str,
    takes: &'static str,
}

/// All checks, in the order in which to run them.
const CHECKS: [Check; 13] = [
    Check {
        finds: "everything that each change must hold",
        command: "cargo xtask test",
        takes: "35 minutes",
    },
    Check {
        finds: "known vulnerabilities of dependencies (needs a network)",
        command: "target/tools/bin/cargo-deny check advisories",
        takes: "a minute",
    },
    Check {
        finds: "every case of Autobahn, with all of compression",
        command: "cargo xtask autobahn",
        takes: "an hour",
    },
    Check {
        finds: "inputs that break a parser",
        command: "cargo xtask fuzz --seconds 3600",
        takes: "an hour for each three targets",
    },
    Check { finds: "sessions with two connections", command: "cargo xtask race", takes: "some minutes" },
    Check {
        finds: "whether thousands of clients come back after a node's death",
        command: "cargo xtask storm",
        takes: "some minutes",
    },
    Check {
        finds: "lost, doubled and swapped messages under each fault, for long",
        command: "cargo xtask torture --release --seconds 600",
        takes: "ten minutes for each fault",
    },
    Check {
        finds: "messages lost, doubled or swapped by a rolling upgrade from the previous release, and back",
        command: "cargo xtask upgrade",
        takes: "ten minutes, most of them to build the previous release",
    },
    Check {
        finds: "whether further seeds of the simulation hold",
        command: "STARLING_SEEDS=1000000 cargo test --release -p starling-gateway simulation",
        takes: "hours",
    },
    Check {
        finds: "the whole life on Kubernetes: install, scale, upgrade under load, roll back",
        command: "cargo xtask kubernetes",
        takes: "six minutes after the build; docs/operating/try-kubernetes.md says what it needs",
    },
    Check {
        finds: "messages lost while nodes of Compose are stopped and a Swarm replaces its nodes",
        command: "cargo xtask containers",
        takes: "five minutes",
    },
    Check {
        finds: "whether the Dockerfile builds the program with the Rust of its base image (needs a network)",
        command: "docker build --file deploy/docker/Dockerfile .",
        takes: "a quarter of an hour",
    },
    Check {
        finds: "whether the public images of Compose work together, of which the test starts none: look at Grafana and Jaeger",
        command: "sh deploy/compose/make-secrets.sh && docker compose -f deploy/compose/three-nodes.yaml up",
        takes: "some minutes",
    },
];

/// The list for people who read a file.
pub fn page() -> String {
    let mut page =
        "# Before this is released\n\nRun each of these on the commit that is released.\n\n".to_owned();
    for Check { finds, command, takes } in CHECKS {
        let _ = writeln!(page, "- [ ] `{command}` finds {finds} ({takes})");
    }
    page
}

/// The list for people at a terminal.
pub fn list() -> String {
    let mut list = "before this is released, run:\n".to_owned();
    for Check { finds, command, takes } in CHECKS {
        let _ = writeln!(list, "  {command}\n      {finds}; {takes}");
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_that_is_listed_is_a_command_of_this_program_or_of_a_known_one() {
        let main = include_str!("../main.rs").to_lowercase();
        for check in CHECKS {
            let Some(words) = check.command.strip_prefix("cargo xtask ") else {
                let known =
                    ["cargo test ", "target/tools/bin/cargo-deny ", "docker build ", "docker compose "];
                assert!(known.iter().any(|known| check.command.contains(known)), "{}", check.command);
                continue;
            };
            let name = words.split(' ').next().unwrap_or_default();
            assert!(main.contains(&format!("command::{name}")), "there is no `cargo xtask {name}`");
        }
    }
}
