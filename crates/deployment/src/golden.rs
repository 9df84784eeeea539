//! Files that hold what was rendered, so that a reviewer sees what a change does.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::repository;

/// Compares a text with the file of this name in `tests/golden`. With the variable `UPDATE` set, writes the file.
///
/// # Errors
/// When they differ, with the first line that does.
pub fn compare(name: &str, text: &str) -> Result<()> {
    let path = repository("crates/deployment/tests/golden").join(name);
    if std::env::var_os("UPDATE").is_some() {
        return fs::write(&path, text).with_context(|| format!("write {}", path.display()));
    }
    let golden = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut lines = golden.lines().zip(text.lines()).enumerate();
    let first = lines
        .find(|(_, (old, new))| old != new)
        .map(|(number, (old, new))| format!("line {}: `{}` became `{}`", number + 1, old.trim(), new.trim()));
    ensure!(
        golden == text,
        "the rendering differs from tests/golden/{name}: {}; run this test with UPDATE=1 and look at the difference",
        first.as_deref().unwrap_or("one is longer")
    );
    Ok(())
}
