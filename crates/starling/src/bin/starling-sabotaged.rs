//! Starling with faults put in on purpose, to check the checker of `cargo xtask torture`.

use std::process::ExitCode;

fn main() -> ExitCode {
    starling::main()
}
