//! The page of the chart: a table of its values, from the comments in `values.yaml`.
//!
//! Reads the subset of YAML that the file keeps to: maps in block style with two spaces for each level. A comment that begins with
//! `# --` describes the key below it. `# === Title` begins a section. A map is described itself or by its keys.

use std::fmt::Write;

use anyhow::{Result, bail, ensure};

const BEGIN: &str = "# The chart starling

<!-- Made from values.yaml; `cargo xtask docs` writes it anew. -->

Installs the nodes of a Starling cluster on Kubernetes, with everything around them that is enabled. Each node needs a Redis and a
PostgreSQL; for a first try the chart brings both:

```sh
helm install starling helm/starling --set trial.enabled=true
```

`ci/production-values.yaml` shows what a production installation sets. A key that is not in this table, a value of the wrong type and
values that contradict each other end the rendering with a message that names the key.
";

/// A key of `values.yaml`.
#[derive(Debug, PartialEq, Eq)]
struct Value {
    path: String,
    default: String,
    meaning: String,
}

/// What the lines read so far lead to.
#[derive(Default)]
struct Reader {
    /// The keys of the maps around the current line.
    path: Vec<String>,
    /// The description of the next key, and whether the last line belonged to it.
    meaning: Option<String>,
    /// The indentation of a described key, whose children are not listed.
    inside: Option<usize>,
    sections: Vec<(String, Vec<Value>)>,
}

/// The page for this `values.yaml`.
pub fn page(values: &str) -> Result<String> {
    let mut page = BEGIN.to_owned();
    for (title, values) in sections(values)? {
        let _ = write!(page, "\n## {title}\n\n| value | default | meaning |\n|---|---|---|\n");
        for Value { path, default, meaning } in values {
            let _ = writeln!(page, "| `{path}` | {default} | {meaning} |");
        }
    }
    Ok(page)
}

fn sections(values: &str) -> Result<Vec<(String, Vec<Value>)>> {
    let mut reader = Reader::default();
    for (number, line) in values.lines().enumerate() {
        if let Err(error) = reader.read(line) {
            bail!("values.yaml, line {}: {error}", number + 1);
        }
    }
    ensure!(reader.meaning.is_none(), "values.yaml ends with a description of nothing");
    Ok(reader.sections)
}

impl Reader {
    fn read(&mut self, line: &str) -> Result<()> {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if text.is_empty() || self.inside.is_some_and(|outer| indent > outer) {
            return Ok(());
        }
        self.inside = None;
        if let Some(title) = text.strip_prefix("# === ") {
            self.sections.push((title.to_owned(), Vec::new()));
        } else if let Some(meaning) = text.strip_prefix("# -- ") {
            ensure!(self.meaning.is_none(), "a description without a key above");
            self.meaning = Some(meaning.to_owned());
        } else if let Some(more) = text.strip_prefix("# ") {
            if let Some(meaning) = &mut self.meaning {
                *meaning = format!("{meaning} {more}");
            }
        } else {
            self.key(indent, text)?;
        }
        Ok(())
    }

    fn key(&mut self, indent: usize, text: &str) -> Result<()> {
        ensure!(indent.is_multiple_of(2) && indent / 2 <= self.path.len(), "unexpected indentation");
        let Some((key, value)) = text.split_once(':') else { bail!("a key is expected") };
        self.path.truncate(indent / 2);
        self.path.push(key.to_owned());
        let (path, value) = (self.path.join("."), value.trim());
        let Some(meaning) = self.meaning.take() else {
            ensure!(value.is_empty(), "{path} has no description: `# -- …` on the line above");
            return Ok(());
        };
        self.inside = Some(indent);
        let default = if value.is_empty() { "see values.yaml".to_owned() } else { format!("`{value}`") };
        let Some((_, values)) = self.sections.last_mut() else { bail!("a section is expected: `# === …`") };
        values.push(Value { path, default, meaning: meaning.replace('|', "\\|") });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn described_keys_are_listed_with_their_path_and_default() -> Result<()> {
        let text = "# A file.\n\n# === One\n\na:\n  # -- First,\n  # and more.\n  b: \"\"\n# -- A map.\nc:\n  d: 1\n  e:\n    - f\n";
        let value = |path: &str, default: &str, meaning: &str| Value {
            path: path.to_owned(),
            default: default.to_owned(),
            meaning: meaning.to_owned(),
        };
        let expected =
            vec![value("a.b", "`\"\"`", "First, and more."), value("c", "see values.yaml", "A map.")];
        assert_eq!(sections(text)?, [("One".to_owned(), expected)]);
        Ok(())
    }

    #[test]
    fn a_value_without_a_description_is_an_error_that_names_it() {
        let error = page("# === One\na:\n  b: 1\n").unwrap_err().to_string();
        assert_eq!(error, "values.yaml, line 3: a.b has no description: `# -- …` on the line above");
    }
}
