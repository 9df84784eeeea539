# Short names for common tasks; `cargo xtask --help` lists all.

# List the names.
default:
    @just --list

# Run one node by itself, and print a link to open.
run *args:
    cargo run --release -- {{ args }}

# Check and test everything.
test *args:
    cargo xtask test {{ args }}

# Run a cluster on this machine: nodes, Redis, PostgreSQL, a load balancer.
cluster *args:
    cargo xtask cluster {{ args }}

# Write the pages that are generated from the program.
docs *args:
    cargo xtask docs {{ args }}

# Format the code.
fmt:
    cargo fmt --all
