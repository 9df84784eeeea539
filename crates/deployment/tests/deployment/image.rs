//! The Dockerfile, as far as it can be checked without the image that it begins with.

use std::fs;

use anyhow::{Context, Result, ensure};
use starling_deployment::{repository, run};

const DOCKERFILE: &str = "deploy/docker/Dockerfile";

#[test]
fn hadolint_finds_nothing_in_the_dockerfile() -> Result<()> {
    run("hadolint", [DOCKERFILE]).map(drop)
}

#[test]
fn hadolint_finds_a_package_without_a_version() -> Result<()> {
    let text = fs::read_to_string(repository(DOCKERFILE))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("Dockerfile");
    ensure!(text.contains("cmake=3.25.*"), "no version to remove");
    fs::write(&file, text.replace("cmake=3.25.*", "cmake"))?;
    let refusal = run("hadolint", [file.to_str().context("a path")?]).err().context("it was accepted")?;
    ensure!(format!("{refusal:#}").contains("DL3008"), "{refusal:#}");
    Ok(())
}

#[test]
fn what_the_dockerfile_copies_from_the_repository_is_there_and_not_ignored() -> Result<()> {
    let ignored = fs::read_to_string(repository(".dockerignore"))?;
    let mut copied = 0;
    for line in fs::read_to_string(repository(DOCKERFILE))?.lines() {
        let Some(words) = line.strip_prefix("COPY ").filter(|words| !words.contains("--from=")) else {
            continue;
        };
        let words: Vec<&str> = words.split_whitespace().collect();
        let (_, sources) = words.split_last().context("a COPY without words")?;
        // The program that was built before is there only when somebody makes an image of it.
        for source in sources.iter().filter(|source| !source.starts_with("target/")) {
            ensure!(repository(source).exists(), "{source} does not exist");
            ensure!(ignored.lines().any(|line| line == format!("!{source}")), "{source} is ignored");
            copied += 1;
        }
    }
    ensure!(copied >= 6, "only {copied} sources were found");
    Ok(())
}
