//! Expressions of Prometheus in rules and dashboards, and the metrics that they name.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use promql_parser::label::MatchOp;
use promql_parser::parser::{Expr, parse};
use serde_json::Value;
use starling_deployment::repository;

/// An expression, and where it stands.
pub struct Expression {
    /// A file and the title or the name in it.
    pub place: String,
    /// The text, with Grafana's variables replaced.
    pub text: String,
}

/// A selection of series: a metric, and its labels with the values that are asked for.
#[derive(Debug)]
pub struct Selector {
    /// The name of the metric.
    pub metric: String,
    /// Labels, each with a value that is named. A pattern such as `a|b` names two.
    pub labels: Vec<(String, String)>,
}

/// The files with this ending in a folder of the repository, by name.
pub fn files(folder: &str, ending: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(repository(folder)).with_context(|| folder.to_owned())?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == ending));
    paths.sort();
    ensure!(!paths.is_empty(), "{folder} has no *.{ending}");
    Ok(paths)
}

/// The rules: objects with `alert` or `record`.
pub fn rules() -> Result<Vec<Value>> {
    let mut rules = Vec::new();
    for path in files("helm/starling/files/rules", "yaml")? {
        let file: Value = serde_yaml_ng::from_str(&fs::read_to_string(path)?)?;
        for group in file["groups"].as_array().context("groups")? {
            rules.extend(group["rules"].as_array().context("rules")?.iter().cloned());
        }
    }
    Ok(rules)
}

/// The expressions of all rules.
pub fn of_rules() -> Result<Vec<Expression>> {
    let named = |rule: &Value| {
        let place = rule["alert"].as_str().or(rule["record"].as_str()).context("a name")?.to_owned();
        Ok(Expression { place, text: rule["expr"].as_str().context("expr")?.to_owned() })
    };
    rules()?.iter().map(named).collect()
}

/// The expressions of all dashboards: of panels, annotations and variables.
pub fn of_dashboards() -> Result<Vec<Expression>> {
    let mut expressions = Vec::new();
    for path in files("helm/starling/files/dashboards", "json")? {
        let name = path.file_stem().and_then(|stem| stem.to_str()).context("a name")?.to_owned();
        collect(&name, &serde_json::from_str(&fs::read_to_string(path)?)?, &mut expressions);
    }
    Ok(expressions)
}

/// The queries that pages show: the lines of blocks that begin with ```` ```promql ````.
pub fn of_pages() -> Result<Vec<Expression>> {
    let mut expressions = Vec::new();
    for folder in ["docs", "docs/operating", "docs/runbooks"] {
        for path in files(folder, "md")? {
            let place = path.strip_prefix(repository("")).unwrap_or(&path).display().to_string();
            let page = fs::read_to_string(&path)?;
            let blocks = page.split("\n```promql\n").skip(1).filter_map(|rest| rest.split("\n```").next());
            let queries = blocks.flat_map(str::lines);
            expressions
                .extend(queries.map(|query| Expression { place: place.clone(), text: query.to_owned() }));
        }
    }
    ensure!(expressions.len() > 50, "pages show only {} queries", expressions.len());
    Ok(expressions)
}

fn collect(place: &str, value: &Value, expressions: &mut Vec<Expression>) {
    match value {
        Value::Object(map) => {
            let titled = map.get("title").and_then(Value::as_str).map(|title| format!("{place}: {title}"));
            let place = titled.as_deref().unwrap_or(place);
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "expr" => expressions
                        .push(Expression { place: place.to_owned(), text: without_variables(text) }),
                    Value::String(text) if key == "query" && text.starts_with("label_values(") => {
                        let selector = text.trim_start_matches("label_values(").rsplit_once(',');
                        let selector = selector.map_or("", |(selector, _)| selector);
                        expressions
                            .push(Expression { place: place.to_owned(), text: without_variables(selector) });
                    }
                    _ => collect(place, value, expressions),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(place, value, expressions)),
        _ => {}
    }
}

/// Grafana's variables as it would fill them in.
fn without_variables(text: &str) -> String {
    text.replace("$__rate_interval", "5m").replace("$job", ".+").replace("$instance", ".+")
}

/// The selectors in an expression.
pub fn selectors(expression: &Expression) -> Result<Vec<Selector>> {
    let parsed = parse(&expression.text);
    let parsed = parsed.map_err(|error| anyhow::anyhow!("{}: {error}", expression.place))?;
    let mut selectors = Vec::new();
    visit(&parsed, &mut selectors)?;
    Ok(selectors)
}

fn visit(expression: &Expr, selectors: &mut Vec<Selector>) -> Result<()> {
    match expression {
        Expr::Aggregate(aggregate) => {
            visit(&aggregate.expr, selectors)?;
            aggregate.param.iter().try_for_each(|param| visit(param, selectors))
        }
        Expr::Unary(unary) => visit(&unary.expr, selectors),
        Expr::Binary(binary) => visit(&binary.lhs, selectors).and(visit(&binary.rhs, selectors)),
        Expr::Paren(paren) => visit(&paren.expr, selectors),
        Expr::Subquery(subquery) => visit(&subquery.expr, selectors),
        Expr::Call(call) => call.args.args.iter().try_for_each(|argument| visit(argument, selectors)),
        Expr::MatrixSelector(matrix) => visit(&Expr::VectorSelector(matrix.vs.clone()), selectors),
        Expr::VectorSelector(vector) => {
            let mut labels = Vec::new();
            for matcher in &vector.matchers.matchers {
                let values: Vec<&str> = match matcher.op {
                    MatchOp::Re(_) | MatchOp::NotRe(_) => matcher.value.split('|').collect(),
                    MatchOp::Equal | MatchOp::NotEqual => vec![&matcher.value],
                };
                labels.extend(values.into_iter().map(|value| (matcher.name.clone(), value.to_owned())));
            }
            let metric = vector.name.clone().context("a selector without a metric")?;
            selectors.push(Selector { metric, labels });
            Ok(())
        }
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Ok(()),
        other => anyhow::bail!("an expression of an unknown kind: {other:?}"),
    }
}

/// The metrics that an expression names, without what the recording rules make.
pub fn metrics(expressions: &[Expression]) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for expression in expressions {
        names.extend(selectors(expression)?.into_iter().map(|selector| selector.metric));
    }
    names.retain(|name| !name.contains(':'));
    Ok(names)
}

#[test]
fn metrics_and_labels_are_found_wherever_they_stand() -> Result<()> {
    let text = "(a{x=~\"y|z\"} and on (i) b) / scalar(avg(c)) > 0.5 * rate(d_total[5m]) + max_over_time(sum(e)[1h:1m])";
    let expression = Expression { place: "a test".to_owned(), text: text.to_owned() };
    let found = selectors(&expression)?;
    assert_eq!(
        found.iter().map(|selector| selector.metric.as_str()).collect::<Vec<_>>(),
        ["a", "b", "c", "d_total", "e"]
    );
    let label = |value: &str| ("x".to_owned(), value.to_owned());
    assert_eq!(found[0].labels, [label("y"), label("z")]);
    Ok(())
}
