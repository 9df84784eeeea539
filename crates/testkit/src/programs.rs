//! Where the programs are that the tests run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Finds a program: in the folder of tools that `cargo xtask test` installs, in that of the newest PostgreSQL, in `PATH`, and in the
/// folders of system programs.
///
/// # Errors
/// When it is not installed.
pub fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let folders =
        tools().into_iter().chain(newest_postgres()).chain(std::env::split_paths(&path)).chain(system);
    let found = folders.map(|folder| folder.join(program)).find(|candidate| is_executable(candidate));
    found.with_context(|| format!("{program} is not installed; `cargo xtask test --only install` does it"))
}

/// `target/tools/bin`. The running test lies in `target/PROFILE/deps`, another program in `target/PROFILE`.
fn tools() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    own.ancestors().skip(2).take(2).map(|folder| folder.join("tools/bin")).find(|folder| folder.is_dir())
}

fn newest_postgres() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let newest = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max()?;
    Some(PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin")))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_or_the_error_says_how_to_install_it() {
        assert!(find("sh").is_ok());
        assert!(find("no-such-program").unwrap_err().to_string().contains("xtask"));
    }
}
