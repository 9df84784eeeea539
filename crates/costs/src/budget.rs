//! Budgets: committed figures that counts may not exceed by more than a tolerance.

use anyhow::{Context, Result, ensure};
use toml::Table;

/// The committed figures.
const BUDGETS: &str = include_str!("../budgets.toml");
/// The entry of a section that says by how many percent a count may exceed its figure.
const TOLERANCE: &str = "tolerance_percent";
/// The entry that says by how much more it may exceed it, for figures that are nearly 0.
const ALLOWANCE: &str = "allowance";

/// What was counted, by name.
pub type Counts = Vec<(String, f64)>;

/// A section of `budgets.toml`.
#[derive(Clone, Debug)]
pub struct Budget {
    tolerance_percent: f64,
    allowance: f64,
    figures: Vec<(String, f64)>,
}

impl Budget {
    /// The section of this name.
    ///
    /// # Errors
    /// When there is none, or an entry is no number.
    pub fn section(name: &str) -> Result<Self> {
        Self::read(BUDGETS, name)
    }

    fn read(text: &str, name: &str) -> Result<Self> {
        let sections: Table = text.parse().context("budgets.toml")?;
        let section = sections.get(name).and_then(toml::Value::as_table);
        let section = section.with_context(|| format!("budgets.toml has no section {name}"))?;
        let number = |value: &toml::Value| value.as_float().or_else(|| Some(value.as_integer()? as f64));
        let mut figures = Vec::new();
        for (name, value) in section {
            figures.push((name.clone(), number(value).with_context(|| format!("{name} is no number"))?));
        }
        let mut take = |entry: &str| {
            let at = figures.iter().position(|(name, _)| name == entry);
            let at = at.with_context(|| format!("{name} has no {entry}"))?;
            Ok::<_, anyhow::Error>(figures.swap_remove(at).1)
        };
        let (tolerance_percent, allowance) = (take(TOLERANCE)?, take(ALLOWANCE)?);
        Ok(Self { tolerance_percent, allowance, figures })
    }

    /// One line for each count that exceeds its figure, and a hint for each one so far below it that the figure should follow.
    ///
    /// # Errors
    /// When something was counted that has no figure, or has a figure and was not counted.
    pub fn compare(&self, counts: &[(String, f64)]) -> Result<Comparison> {
        let mut comparison = Comparison::default();
        for (name, _) in &self.figures {
            ensure!(counts.iter().any(|(counted, _)| counted == name), "{name} was not counted");
        }
        for (name, count) in counts {
            let figure = self.figures.iter().find(|(known, _)| known == name);
            let (_, figure) = figure.with_context(|| format!("{name} has no budget; it costs {count:.2}"))?;
            let difference = figure * self.tolerance_percent / 100.0 + self.allowance;
            let line =
                format!("{name}: {count:.2}, and its budget is {figure}, give or take {difference:.2}");
            if *count > figure + difference {
                comparison.exceeded.push(line);
            } else if *count < figure - difference {
                comparison.below.push(line);
            }
        }
        Ok(comparison)
    }

    /// By how much a count may exceed its figure in addition to the tolerance.
    pub fn allowance(&self) -> f64 {
        self.allowance
    }

    /// The same budget with all figures multiplied, to check that counts are compared at all.
    #[must_use]
    pub fn times(&self, factor: f64) -> Self {
        let mut budget = self.clone();
        budget.figures.iter_mut().for_each(|(_, figure)| *figure *= factor);
        budget
    }
}

/// Counts that differ from their figures by more than the tolerance.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Those that are above.
    pub exceeded: Vec<String>,
    /// Those that are below.
    pub below: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "[a]\ntolerance_percent = 10\nallowance = 0.01\n\"one thing\" = 100\nother = 0.5\n[b]\nx = 1\n";

    fn counts(one: f64, other: f64) -> Counts {
        vec![("one thing".to_owned(), one), ("other".to_owned(), other)]
    }

    #[test]
    fn a_count_may_exceed_its_figure_by_the_tolerance_and_no_more() {
        let budget = Budget::read(TEXT, "a").unwrap();
        let held = budget.compare(&counts(109.0, 0.555)).unwrap();
        assert!(held.exceeded.is_empty() && held.below.is_empty());
        let broken = budget.compare(&counts(111.0, 0.4)).unwrap();
        assert!(broken.exceeded[0].contains("one thing: 111.00, and its budget is 100"), "{broken:?}");
        assert!(broken.exceeded.len() == 1 && broken.below.len() == 1);
        assert_eq!(budget.times(0.5).compare(&counts(100.0, 0.5)).unwrap().exceeded.len(), 2);
    }

    #[test]
    fn counts_and_figures_have_the_same_names() {
        let budget = Budget::read(TEXT, "a").unwrap();
        assert!(budget.compare(&counts(1.0, 1.0)[..1]).is_err());
        let mut more = counts(1.0, 1.0);
        more.push(("third".to_owned(), 1.0));
        assert!(budget.compare(&more).unwrap_err().to_string().contains("third has no budget"));
        assert!(Budget::read(TEXT, "b").is_err() && Budget::read(TEXT, "c").is_err());
    }
}
