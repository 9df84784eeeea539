//! The configuration: where each value comes from, what it hides, and whether all of them go together.

use std::path::Path;

use starling_settings::{Given, Origin, Place, Setting};

use super::examination::Examination;
use crate::config::Values;
use crate::setup::Setup;

/// Examines the configuration.
pub fn examine(examination: &mut Examination, values: &Values, file: Option<&Path>) {
    examination.section("configuration");
    let sources = match file {
        Some(file) => format!(
            "flags win over variables, these over the file {}, and that over defaults",
            file.display()
        ),
        None => "flags win over variables, and these over defaults; there is no file (--config)".to_owned(),
    };
    examination.good("sources", sources);
    for setting in &values.catalogue().settings {
        let place = Place::of(setting.key);
        if let Some(given) = values.given(&place) {
            examine_given(examination, values, setting, given, values.overridden(&place));
        }
    }
    for (table, _) in &values.catalogue().tables {
        let names = values.sections(table.key);
        if !names.is_empty() {
            examination.good(table.key, format!("the file has settings for {}", names.join(", ")));
        }
    }
    for name in &values.unknown_variables {
        let advice = match values.near_variable(name) {
            Some(near) => format!("if {near} was meant, rename it; otherwise remove it"),
            None => "Kubernetes makes such variables for a Service that is called starling: set enableServiceLinks: \
                     false, or ignore this"
                .to_owned(),
        };
        examination.warning(name, "this variable is no setting, and is ignored", advice);
    }
    match Setup::check(&values.settings) {
        Ok(()) => examination.good("together", "a node would start with these settings"),
        Err(error) => examination.problem(
            "together",
            error.to_string(),
            "mend this first: a node ends its start with status 64, before it opens a port",
        ),
    }
}

fn examine_given(
    examination: &mut Examination,
    values: &Values,
    setting: &Setting,
    given: &Given,
    overridden: &[Given],
) {
    let shown = values.shown(setting, &Place::of(setting.key)).unwrap_or_default();
    let hidden: Vec<String> = overridden.iter().map(source).collect();
    let hides = if hidden.is_empty() { String::new() } else { format!(", over {}", hidden.join(" and ")) };
    examination.good(setting.key, format!("{shown}, from {}{hides}", source(given)));
}

/// Where a value comes from.
fn source(given: &Given) -> String {
    let source = match given.origin {
        Origin::File => "the file".to_owned(),
        Origin::Variable => format!("the variable {}", given.name()),
        Origin::Flag => format!("the flag {}", given.name()),
    };
    match &given.path {
        None => source,
        Some(path) => format!("{}, which {source} names", path.display()),
    }
}
