//! The recording rules, the alerts, and where Alertmanager sends them.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use starling_deployment::{repository, run};

use crate::expressions::{self, rules};

const TESTS: &str = "deploy/prometheus/tests";
const ALERTMANAGER: &str = "deploy/alertmanager/alertmanager.yml";

#[test]
fn prometheus_accepts_the_rules_and_each_alert_fires_stays_silent_and_resolves() -> Result<()> {
    run(
        "promtool",
        [
            "check",
            "rules",
            "helm/starling/files/rules/alerts.yaml",
            "helm/starling/files/rules/recording.yaml",
        ],
    )?;
    let mut command = vec!["test".to_owned(), "rules".to_owned()];
    for path in expressions::files(TESTS, "yaml")? {
        command.push(path.into_os_string().into_string().ok().context("a path in UTF-8")?);
    }
    ensure!(command.len() > 4, "only {} files of tests were found", command.len() - 2);
    run("promtool", command.iter().map(String::as_str)).map(drop)
}

#[test]
fn every_alert_has_a_test_in_which_it_is_silent_fires_and_is_silent_again() -> Result<()> {
    let mut of_alert = std::collections::BTreeMap::<String, Vec<bool>>::new();
    let mut tests_of_all = Vec::new();
    for path in expressions::files(TESTS, "yaml")? {
        let file: Value = serde_yaml_ng::from_str(&fs::read_to_string(path)?)?;
        tests_of_all.extend(file["tests"].as_array().context("tests")?.iter().cloned());
    }
    for test in &tests_of_all {
        let mut looks = Vec::new();
        for look in test["alert_rule_test"].as_array().context("alert_rule_test")? {
            let fires = look["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
            looks.push((
                minutes(&look["eval_time"])?,
                look["alertname"].as_str().context("alertname")?,
                fires,
            ));
        }
        looks.sort_unstable();
        for (_, name, fires) in looks {
            of_alert.entry(name.to_owned()).or_default().push(fires);
        }
    }
    for name in alerts()? {
        let looks = of_alert.get(&name).with_context(|| format!("{name} has no test"))?;
        ensure!(
            looks.windows(3).any(|looks| looks == [false, true, false]),
            "{name} is not seen silent, firing and silent again: {looks:?}"
        );
    }
    Ok(())
}

fn minutes(time: &Value) -> Result<u64> {
    let text = time.as_str().context("eval_time")?;
    text.strip_suffix('m').context("minutes")?.parse().context("a number of minutes")
}

fn alerts() -> Result<BTreeSet<String>> {
    let rules = rules()?;
    let names: BTreeSet<String> =
        rules.iter().filter_map(|rule| rule["alert"].as_str()).map(str::to_owned).collect();
    ensure!(names.len() > 20, "only {} alerts were found", names.len());
    Ok(names)
}

#[test]
fn every_alert_says_how_urgent_it_is_and_has_a_page_that_says_what_to_do() -> Result<()> {
    for rule in rules()?.iter().filter(|rule| rule["alert"].is_string()) {
        let name = rule["alert"].as_str().context("a name")?;
        let severity = rule["labels"]["severity"].as_str().context("severity")?;
        ensure!(["page", "ticket"].contains(&severity), "{name}: {severity}");
        for annotation in ["summary", "description", "runbook"] {
            ensure!(rule["annotations"][annotation].is_string(), "{name} has no {annotation}");
        }
        let page = rule["annotations"]["runbook"].as_str().context("runbook")?;
        let page = fs::read_to_string(repository(page)).with_context(|| format!("{name}: {page}"))?;
        ensure!(page.contains(name), "the runbook of {name} does not name it");
    }
    Ok(())
}

#[test]
fn every_recorded_series_that_is_asked_for_is_recorded_and_used() -> Result<()> {
    let rules = rules()?;
    let recorded: BTreeSet<String> =
        rules.iter().filter_map(|rule| rule["record"].as_str()).map(str::to_owned).collect();
    let mut expressions = expressions::of_rules()?;
    expressions.extend(expressions::of_dashboards()?);
    let mut asked = BTreeSet::new();
    for expression in &expressions {
        asked.extend(expressions::selectors(expression)?.into_iter().map(|selector| selector.metric));
    }
    asked.retain(|name| name.contains(':'));
    assert_eq!(asked, recorded);
    for path in expressions::files("docs/runbooks", "md")? {
        let page = fs::read_to_string(&path)?;
        let words = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        for word in words.filter(|word| word.contains(":ratio_rate")) {
            ensure!(recorded.contains(word), "{}: {word} is not recorded", path.display());
        }
    }
    Ok(())
}

#[test]
fn alertmanager_accepts_its_configuration_and_knows_where_each_severity_goes() -> Result<()> {
    run("amtool", ["check-config", ALERTMANAGER])?;
    for severity in ["page", "ticket"] {
        let file = format!("--config.file={ALERTMANAGER}");
        let label = format!("severity={severity}");
        let receiver =
            run("amtool", ["config", "routes", "test", &file, &label, "alertname=StarlingNodeDown"])?;
        assert_eq!(receiver.trim(), severity);
    }
    Ok(())
}

#[test]
fn alertmanager_silences_only_alerts_that_exist() -> Result<()> {
    let config: Value = serde_yaml_ng::from_str(&fs::read_to_string(repository(ALERTMANAGER))?)?;
    let alerts = alerts()?;
    for rule in config["inhibit_rules"].as_array().context("inhibit_rules")? {
        for matchers in ["source_matchers", "target_matchers"] {
            for matcher in rule[matchers].as_array().context(matchers)? {
                let matcher = matcher.as_str().context("a matcher")?;
                let Some(names) = matcher.strip_prefix("alertname") else { continue };
                for pattern in names.trim_start_matches(['=', '~']).trim_matches('"').split('|') {
                    // `.+` stands for something within a name.
                    let (begin, end) = pattern.split_once(".+").unwrap_or((pattern, ""));
                    let exists = |name: &String| {
                        name == pattern
                            || (pattern.contains(".+") && name.starts_with(begin) && name.ends_with(end))
                    };
                    ensure!(alerts.iter().any(exists), "no alert matches {pattern}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn prometheus_accepts_its_configuration_for_compose() -> Result<()> {
    // The rules and targets exist only in Compose.
    run("promtool", ["check", "config", "--syntax-only", "deploy/prometheus/prometheus.yml"]).map(drop)
}
