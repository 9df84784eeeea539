//! The Grafana dashboards.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_deployment::{repository, run};

use crate::expressions::{self, files};

/// The questions that dashboards answer, one each.
const DASHBOARDS: [&str; 7] =
    ["capacity", "conversation-store", "deploys", "jobs", "node", "overview", "redis-and-fan-out"];

#[test]
fn there_is_a_dashboard_for_each_question_and_its_panels_are_drawn() -> Result<()> {
    let mut names = Vec::new();
    let mut uids = BTreeSet::new();
    for path in files("helm/starling/files/dashboards", "json")? {
        let name = path.file_stem().and_then(|stem| stem.to_str()).context("a name")?.to_owned();
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(path)?).context(name.clone())?;
        check(&dashboard).with_context(|| name.clone())?;
        ensure!(uids.insert(dashboard["uid"].to_string()), "{name}: another dashboard has its uid");
        names.push(name);
    }
    assert_eq!(names, DASHBOARDS);
    Ok(())
}

fn check(dashboard: &Value) -> Result<()> {
    ensure!(dashboard["uid"].is_string() && dashboard["title"].is_string(), "a uid and a title");
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in dashboard["panels"].as_array().context("panels")? {
        let title = panel["title"].as_str().context("a title")?;
        ensure!(ids.insert(panel["id"].as_u64()), "{title}: another panel has its id");
        let side =
            |key: &str| panel["gridPos"][key].as_u64().with_context(|| format!("{title}: gridPos.{key}"));
        ensure!(side("x")? + side("w")? <= 24, "{title}: wider than the page");
        for x in side("x")?..side("x")? + side("w")? {
            for y in side("y")?..side("y")? + side("h")? {
                ensure!(cells.insert((x, y)), "{title}: covers another panel");
            }
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            ensure!(target["expr"].is_string(), "{title}: a target without an expression");
            ensure!(
                panel["datasource"]["uid"] == "${datasource}",
                "{title}: the source that the reader chooses"
            );
        }
    }
    Ok(())
}

#[test]
fn the_page_says_how_to_read_every_panel() -> Result<()> {
    let page = fs::read_to_string(repository("docs/operating/dashboards.md"))?;
    for path in files("helm/starling/files/dashboards", "json")? {
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
        let title = dashboard["title"].as_str().context("a title")?.trim_start_matches("Starling / ");
        let section = page.split("\n## ").find(|section| section.starts_with(&format!("{title}\n")));
        let section = section.with_context(|| format!("the page has no section {title}"))?;
        // The first cell of each row names panels.
        let rows = section.lines().filter_map(|line| line.strip_prefix("| *")?.split(" | ").next());
        let described: BTreeSet<&str> =
            rows.flat_map(|cell| cell.trim_end_matches('*').split("*, *")).collect();
        let panels = dashboard["panels"].as_array().context("panels")?.iter();
        let panels = panels.filter(|panel| panel["type"] != "row");
        let panels: BTreeSet<&str> = panels.filter_map(|panel| panel["title"].as_str()).collect();
        let differ: Vec<_> = panels.symmetric_difference(&described).collect();
        ensure!(differ.is_empty(), "{title}: not in both the dashboard and the page: {differ:?}");
    }
    Ok(())
}

#[test]
fn prometheus_understands_every_expression_of_the_dashboards() -> Result<()> {
    let expressions = expressions::of_dashboards()?;
    ensure!(expressions.len() > 60, "only {} expressions were found", expressions.len());
    let rules: Vec<Value> = expressions
        .iter()
        .enumerate()
        .map(|(number, expression)| json!({ "record": format!("panel:{number}"), "expr": expression.text }))
        .collect();
    check_rules(&rules)?;
    let refusal = check_rules(&[json!({ "record": "panel", "expr": "sum by (rate(x[5m])" })]);
    ensure!(refusal.is_err(), "a broken expression was accepted");
    Ok(())
}

fn check_rules(rules: &[Value]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("rules.json");
    fs::write(&path, json!({ "groups": [{ "name": "panels", "rules": rules }] }).to_string())?;
    run("promtool", ["check", "rules", path.to_str().context("a path in UTF-8")?]).map(drop)
}
