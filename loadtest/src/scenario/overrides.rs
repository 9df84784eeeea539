//! Values of a scenario that the command line replaces.

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

/// Reads a scenario's file, and replaces the values that the assignments name.
///
/// # Errors
/// When it is not TOML, or as [`apply`].
pub fn table(text: &str, assignments: &[String]) -> Result<Table> {
    let mut table: Table = text.parse().context("the scenario is not valid TOML")?;
    for assignment in assignments {
        apply(&mut table, assignment)?;
    }
    Ok(table)
}

/// Sets what `KEY=VALUE` names. A key is a path such as `sessions.per_room` or `stages.0.seconds`.
///
/// # Errors
/// When it is no assignment, or the path leads nowhere.
fn apply(scenario: &mut Table, assignment: &str) -> Result<()> {
    let (path, value) = assignment
        .split_once('=')
        .with_context(|| format!("--set {assignment}: write KEY=VALUE, such as sessions.per_room=50"))?;
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    let last = keys.pop().unwrap_or_default();
    let mut table = scenario;
    let mut keys = keys.into_iter();
    while let Some(key) = keys.next() {
        let inner = table.entry(key).or_insert_with(|| Value::Table(Table::new()));
        table = match inner {
            Value::Table(inner) => inner,
            Value::Array(list) => {
                let index = keys.next().unwrap_or_default();
                let entry = index.parse().ok().and_then(|index: usize| list.get_mut(index));
                entry.and_then(Value::as_table_mut).with_context(|| {
                    format!("--set {path}: `{key}` is a list; name an entry, such as {key}.0.seconds")
                })?
            }
            _ => bail!("--set {path}: `{key}` is a value, not a table"),
        };
    }
    table.insert(last.to_owned(), parse(value.trim()));
    Ok(())
}

/// A number or truth value if it reads as one, else a text.
fn parse(value: &str) -> Value {
    let document: Result<Table, _> = format!("value = {value}").parse();
    let parsed = document.ok().and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| Value::String(value.to_owned()))
}
