//! Builds the image, and runs it and the files of `deploy/compose` and `deploy/swarm` in a real Docker.
//!
//! Each test has a Docker of its own, in namespaces of its own (network, mounts and processes), so ports and names are those of the files, and
//! nothing is left behind. This needs root. Where the machine does not allow it, a test prints `NOT RUN` with the reason; run with
//! `--nocapture`, as `cargo xtask test` does, to see it.

mod compose;
mod docker;
mod image;
mod namespaces;
mod program;
mod stand_ins;
mod swarm;
mod traffic;

use std::time::Duration;

/// Limit for something that should happen at once, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// The version of the program and of its image.
const VERSION: &str = env!("CARGO_PKG_VERSION");
