//! The parts of `docs/performance.md` that are made from results, and the charts beside it.

use std::path::Path;

use anyhow::{Context, Result};

use crate::jobs::{self, JobsComparison};
use crate::report;
use crate::results::{Comparison, Growth};

/// Replaces what stands between `<!-- begin NAME -->` and `<!-- end NAME -->`.
fn replace(page: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- begin {name} -->"), format!("<!-- end {name} -->"));
    let (before, rest) = page.split_once(&begin).with_context(|| format!("the page lacks {begin}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("the page lacks {end}"))?;
    Ok(format!("{before}{begin}\n\n{}\n\n{end}{after}", text.trim()))
}

/// The page with the tables of these results.
///
/// # Errors
/// When the page lacks a mark.
pub fn filled(
    page: &str,
    comparison: Option<&Comparison>,
    growth: Option<&Growth>,
    jobs: Option<&JobsComparison>,
) -> Result<String> {
    let none = |command: &str| format!("No results are kept: `cargo xtask {command} --keep` measures.");
    let peers = comparison.map_or_else(|| none("peers"), report::comparison);
    let page = replace(page, "peers", &peers)?;
    let page = replace(&page, "growth", &growth.map_or_else(|| none("growth"), report::growth))?;
    replace(&page, "jobs", &jobs.map_or_else(|| none("jobs"), jobs::markdown))
}

/// Writes the tables into the page, and the charts into its folder of images.
///
/// # Errors
/// When the page lacks a mark, or a file can't be written.
pub fn write(
    docs: &Path,
    comparison: Option<&Comparison>,
    growth: Option<&Growth>,
    jobs: Option<&JobsComparison>,
) -> Result<()> {
    let path = docs.join("performance.md");
    let page = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    std::fs::write(&path, filled(&page, comparison, growth, jobs)?)?;
    for (name, text) in report::charts(comparison, growth) {
        std::fs::write(docs.join("images").join(&name), text).context(name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n";
        let new = replace(page, "x", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- begin x -->\n\nnew\n\n<!-- end x -->\nb\n");
        assert_eq!(replace(&new, "x", "new").unwrap(), new);
        assert!(replace(page, "y", "new").is_err());
    }

    #[test]
    fn the_page_on_performance_shows_the_committed_results() {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let docs = own.join("../../docs");
        let comparison: Option<Comparison> = results::kept("peers").unwrap();
        let growth: Option<Growth> = results::kept("growth").unwrap();
        let jobs: Option<JobsComparison> = results::kept("jobs").unwrap();
        let (comparison, growth) = (comparison.as_ref(), growth.as_ref());
        let page = std::fs::read_to_string(docs.join("performance.md")).unwrap();
        assert!(
            filled(&page, comparison, growth, jobs.as_ref()).unwrap() == page,
            "run `cargo xtask performance`"
        );
        for (name, text) in report::charts(comparison, growth) {
            let written = std::fs::read_to_string(docs.join("images").join(&name)).unwrap_or_default();
            assert!(written == text, "docs/images/{name} is old: run `cargo xtask performance`");
        }
    }
}
