//! Strict parser for Prometheus' text format.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// Contents of a page of metrics.
pub struct Exposition {
    /// Families by name. A histogram's series belong to the histogram.
    pub families: BTreeMap<String, Family>,
}

/// Series of one name.
pub struct Family {
    /// `# TYPE`
    pub kind: Kind,
    /// `# HELP`
    pub help: String,
    /// Samples, with `le` separated.
    pub series: Vec<Series>,
}

/// One sample.
pub struct Series {
    /// Suffix after the family's name: `_bucket`, `_sum`, `_count` of a histogram, or nothing.
    pub suffix: String,
    /// The labels without `le`.
    pub labels: BTreeMap<String, String>,
    /// The bucket's upper bound.
    pub le: Option<f64>,
    /// Value.
    pub value: f64,
}

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// Returns the word in `# TYPE`.
    pub fn parse(word: &str) -> Result<Kind> {
        match word {
            "counter" => Ok(Kind::Counter),
            "gauge" => Ok(Kind::Gauge),
            "histogram" => Ok(Kind::Histogram),
            other => bail!("metrics of the kind {other}"),
        }
    }
}

impl Exposition {
    /// Parses a page. Each family must be in one piece: its help, its type, its samples.
    pub fn parse(page: &str) -> Result<Exposition> {
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let (mut helps, mut current) = (BTreeMap::new(), String::new());
        for line in page.lines().filter(|line| !line.is_empty()) {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').with_context(|| format!("no help: {line}"))?;
                helps.insert(name.to_owned(), help.to_owned());
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').with_context(|| format!("no type: {line}"))?;
                let help = helps.remove(name).unwrap_or_default();
                let family = Family { kind: Kind::parse(kind)?, help, series: Vec::new() };
                ensure!(families.insert(name.to_owned(), family).is_none(), "{name} stands there twice");
                name.clone_into(&mut current);
            } else {
                let family = families.get_mut(&current).with_context(|| format!("no type before {line}"))?;
                let rest = line.strip_prefix(current.as_str());
                let rest = rest.with_context(|| format!("{line} stands under {current}"))?;
                family.series.push(Series::parse(rest).with_context(|| line.to_owned())?);
            }
        }
        ensure!(helps.is_empty(), "help without a type: {helps:?}");
        Ok(Exposition { families })
    }
}

impl Series {
    fn parse(rest: &str) -> Result<Series> {
        let (name, value) = rest.rsplit_once(' ').context("no value")?;
        let (suffix, labels) = name.split_once('{').unwrap_or((name, "}"));
        let labels = labels.strip_suffix('}').context("labels without an end")?;
        let mut series = Series {
            suffix: suffix.to_owned(),
            labels: BTreeMap::new(),
            le: None,
            value: value.parse().context("no number")?,
        };
        // No label value of Starling contains a comma or a quotation mark.
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (key, value) = label.split_once('=').context("a label without a value")?;
            let value =
                value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).context("quotes")?;
            match key {
                "quantile" => bail!("a summary"),
                "le" => series.le = Some(value.parse().context("a bound")?),
                key => {
                    let before = series.labels.insert(key.to_owned(), value.to_owned());
                    ensure!(before.is_none(), "the label {key} twice");
                }
            }
        }
        Ok(series)
    }
}

impl Family {
    /// Checks that each series of a histogram has buckets that rise to infinity, and that the last one contains all samples.
    pub fn expect_buckets(&self) -> Result<()> {
        let mut by_labels: BTreeMap<_, Vec<&Series>> = BTreeMap::new();
        for series in &self.series {
            by_labels.entry(&series.labels).or_default().push(series);
        }
        for (labels, series) in by_labels {
            let of =
                |suffix: &str| -> Vec<&&Series> { series.iter().filter(|s| s.suffix == suffix).collect() };
            let (buckets, sums, counts) = (of("_bucket"), of("_sum"), of("_count"));
            ensure!(sums.len() == 1 && counts.len() == 1, "{labels:?}: not one sum and one count");
            ensure!(buckets.len() >= 10, "{labels:?}: only {} buckets", buckets.len());
            ensure!(
                buckets.is_sorted_by(|a, b| a.le < b.le && a.value <= b.value),
                "{labels:?}: buckets fall"
            );
            let last = buckets.last().context("no buckets")?;
            ensure!(
                last.le == Some(f64::INFINITY) && last.value == counts[0].value,
                "{labels:?}: {}",
                last.value
            );
        }
        Ok(())
    }
}
