//! Archives that are the same whenever they are made of the same files, and the checksums of all files.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// What an archive has beside the program.
const BESIDE: [&str; 4] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "CHANGELOG.md"];
/// The file of checksums.
const CHECKSUMS: &str = "SHA256SUMS";

/// Writes the archive of this name with the program and the licences.
pub fn write_program(folder: &Path, name: &str, program: &Path) -> Result<()> {
    let inner = folder.join(name);
    fs::create_dir(&inner).with_context(|| format!("make {}", inner.display()))?;
    fs::copy(program, inner.join("starling")).context("copy the program")?;
    for file in BESIDE {
        fs::copy(workspace::root().join(file), inner.join(file)).with_context(|| format!("copy {file}"))?;
    }
    write(folder, &format!("{name}.tar.gz"), name)?;
    fs::remove_dir_all(&inner).with_context(|| format!("remove {}", inner.display()))
}

/// Writes a folder beside it into an archive. Neither times nor users of this computer get into it.
pub fn write(folder: &Path, archive: &str, inner: &str) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args([
        "--sort=name",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mode=u+rw,go+r,go-w",
    ])
    .args(["--use-compress-program", "gzip --no-name --best", "--create", "--file", archive, inner])
    .current_dir(folder);
    ensure!(tar.status().context("run tar")?.success(), "tar can't write {archive}");
    Ok(())
}

/// Writes the checksums of all files, as `sha256sum --check` reads them.
pub fn write_checksums(folder: &Path) -> Result<()> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .context("read the folder")?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name != CHECKSUMS)
        .collect();
    names.sort();
    let output =
        Command::new("sha256sum").args(&names).current_dir(folder).output().context("run sha256sum")?;
    ensure!(output.status.success(), "sha256sum: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(folder.join(CHECKSUMS), output.stdout).context("write the checksums")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_the_same_when_it_is_made_again_and_its_checksum_is_right() {
        let folder = std::env::temp_dir().join(format!("starling-dist-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let program = folder.join("program");
        fs::write(&program, "no program").unwrap();
        write_program(&folder, "one", &program).unwrap();
        let first = fs::read(folder.join("one.tar.gz")).unwrap();
        fs::remove_file(folder.join("one.tar.gz")).unwrap();
        write_program(&folder, "one", &program).unwrap();
        assert_eq!(first, fs::read(folder.join("one.tar.gz")).unwrap());
        write_checksums(&folder).unwrap();
        let check = || {
            let mut command = Command::new("sha256sum");
            command.args(["--check", "--status", CHECKSUMS]).current_dir(&folder).status().unwrap().success()
        };
        assert!(check());
        fs::write(&program, "another").unwrap();
        assert!(!check());
        fs::remove_dir_all(&folder).unwrap();
    }
}
