//! The part of the chart's schema that describes `config`, `tenants` and `rabbitmq`: the settings of the program, from docs/configuration.md.

use std::fmt::Write;

use anyhow::{Context, Result, bail};

/// Settings that the chart sets itself, and secrets, which have values of their own.
const NOT_IN_CONFIG: [&str; 14] = [
    "listen",
    "metrics_listen",
    // `worker.enabled` says which pods take clients and which work in the background.
    "roles",
    "node",
    "address",
    "redis_url",
    "database_url",
    "database_read_url",
    "rabbitmq_url",
    "database_migrate",
    "jwt_jwks_url",
    "jwt_public_key_file",
    "jwt_algorithm",
    "log_format",
];
/// Where the settings of a tenant begin in docs/configuration.md.
const TENANTS: &str = "## `[tenants.NAME]`";
/// Where the settings of a bridge begin there, for both directions.
const BRIDGES: [&str; 2] = ["## `[rabbitmq.in.NAME]`\n", "## `[rabbitmq.out.NAME]`\n"];
/// What stands in the schema of `rabbitmq` before the bridges.
const RABBITMQ: &str = r#"    "rabbitmq": {
      "type": "object",
      "additionalProperties": false,
      "properties": {
        "ca": {
          "type": "string"
        },
        "ports": {
          "type": "array",
          "items": {
            "type": "integer",
            "minimum": 1,
            "maximum": 65535
          }
        },
"#;

/// A row of a table of docs/configuration.md.
struct Setting<'a> {
    key: &'a str,
    values: &'a str,
    meaning: &'a str,
}

/// The schema with `config`, `tenants` and `rabbitmq` as the page of the program's settings says.
pub fn schema(schema: &str, page: &str) -> Result<String> {
    let (settings, _) = page.split_once(TENANTS).context("docs/configuration.md has no tenants")?;
    let tenants = section(page, TENANTS)?;
    let mut in_config = Vec::new();
    for setting in rows(settings) {
        let secret = setting.values.contains("SECRET")
            || setting
                .key
                .strip_suffix("_file")
                .is_some_and(|key| settings.contains(&format!("| `{key}` |")));
        if !secret && !NOT_IN_CONFIG.contains(&setting.key) {
            in_config.push(setting);
        }
    }
    let config = format!("    \"config\": {},\n", object(&in_config, 4)?);
    let of_tenant: Vec<Setting<'_>> = rows(tenants).collect();
    let tenants = format!(
        "    \"tenants\": {{\n      \"type\": \"object\",\n      \"additionalProperties\": {}\n    }},\n",
        object(&of_tenant, 6)?
    );
    let [bridges_in, bridges_out] = BRIDGES;
    let rabbitmq = format!(
        "{RABBITMQ}        \"in\": {},\n        \"out\": {}\n      }}\n    }},\n",
        bridges(section(page, bridges_in)?)?,
        bridges(section(page, bridges_out)?)?
    );
    let (before, rest) = schema.split_once("    \"config\": {\n").context("the schema has no config")?;
    let end = rest.find("\n    \"secrets\": {").context("the schema has no secrets after config")?;
    Ok(format!("{before}{config}{tenants}{rabbitmq}{}", &rest[end + 1..]))
}

/// The text of the page from a heading to the next one.
fn section<'a>(page: &'a str, heading: &str) -> Result<&'a str> {
    let (_, text) =
        page.split_once(heading).with_context(|| format!("docs/configuration.md lacks {heading}"))?;
    Ok(text.split_once("\n## ").map_or(text, |(text, _)| text))
}

/// Named bridges with the settings of this section. Their names are those that the program accepts, and as many.
fn bridges(section: &str) -> Result<String> {
    let of_bridge: Vec<Setting<'_>> = rows(section).collect();
    Ok(format!(
        "{{\n          \"type\": \"object\",\n          \"maxProperties\": 32,\n          \"additionalProperties\": false,\n          \"patternProperties\": {{\n            \"^[A-Za-z0-9_-]{{1,60}}$\": {}\n          }}\n        }}",
        object(&of_bridge, 12)?
    ))
}

/// The rows of tables with four columns.
fn rows(text: &str) -> impl Iterator<Item = Setting<'_>> {
    text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let (key, _default, values) = (cells.next()?, cells.next()?, cells.next()?);
        let begin = line.find(values)? + values.len();
        let meaning = line[begin..].trim_start_matches(" | ").strip_suffix(" |")?;
        Some(Setting { key: key.strip_suffix('`')?, values, meaning })
    })
}

/// An object with these settings and no others, as JSON at this indentation.
fn object(settings: &[Setting<'_>], indent: usize) -> Result<String> {
    let space = " ".repeat(indent);
    let mut properties = Vec::new();
    for setting in settings {
        properties.push(format!("{space}    \"{}\": {}", setting.key, property(setting, indent + 4)?));
    }
    let needed: Vec<String> = settings
        .iter()
        .filter(|setting| setting.meaning.ends_with(" Needed."))
        .map(|setting| format!("\"{}\"", setting.key))
        .collect();
    let needed = if needed.is_empty() {
        String::new()
    } else {
        format!("{space}  \"required\": [{}],\n", needed.join(", "))
    };
    Ok(format!(
        "{{\n{space}  \"type\": \"object\",\n{space}  \"additionalProperties\": false,\n{needed}{space}  \"properties\": {{\n{}\n{space}  }}\n{space}}}",
        properties.join(",\n")
    ))
}

/// The schema of a setting's value.
fn property(setting: &Setting<'_>, indent: usize) -> Result<String> {
    let space = " ".repeat(indent);
    let mut lines = Vec::new();
    let number = |text: &str| text.parse::<u64>().with_context(|| format!("{}: {text}", setting.key));
    if setting.values == "`true`, `false`" {
        lines.push("\"type\": \"boolean\"".to_owned());
    } else if let Some((low, high)) = setting.values.split_once(" to ") {
        lines.push("\"type\": \"integer\"".to_owned());
        lines.push(format!("\"minimum\": {}", number(low)?));
        lines.push(format!("\"maximum\": {}", number(high)?));
    } else if let Some(low) = setting.values.strip_suffix(" or more") {
        lines.push("\"type\": \"integer\"".to_owned());
        lines.push(format!("\"minimum\": {}", number(low)?));
    } else if setting.values.starts_with('`') {
        lines.push(format!("\"enum\": [{}]", setting.values.replace('`', "\"")));
    } else if setting.values == "LIST" {
        // As in the file: a text with commas, or a list.
        lines.push("\"type\": [\"string\", \"array\"]".to_owned());
        lines.push("\"items\": { \"type\": \"string\" }".to_owned());
    } else if setting.values.chars().all(|c| c.is_ascii_uppercase()) {
        lines.push("\"type\": \"string\"".to_owned());
    } else {
        bail!("the values of {} are not understood: {}", setting.key, setting.values);
    }
    lines.push(format!("\"description\": {}", text(&setting.meaning.replace('`', ""))));
    let mut json = String::from("{\n");
    for (index, line) in lines.iter().enumerate() {
        let comma = if index + 1 < lines.len() { "," } else { "" };
        let _ = writeln!(json, "{space}  {line}{comma}");
    }
    Ok(format!("{json}{space}}}"))
}

/// A JSON string.
fn text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "| key | default | values | meaning |\n|---|---|---|---|\n| `drain_seconds` | `30` | 0 to 86400 | How \"long\". |\n| `jwt_secret` | – | SECRET | A secret. |\n| `jwt_secret_file` | – | FILE | Its file. |\n| `tls_key_file` | – | FILE | A `key`. |\n\n## `[tenants.NAME]`\n\n| `connections` | – | 0 or more | Some. |\n\n## `[others.NAME]`\n\n| `words` | – | any words | Some. |\n\n## `[rabbitmq.in.NAME]`\n\n| `exchange` | – | TEXT | From. Needed. |\n| `keys` | – | LIST | Which. |\n\n## `[rabbitmq.out.NAME]`\n\n| `queue` | – | TEXT | Whose. Needed. |\n";

    #[test]
    fn settings_become_properties_and_secrets_do_not() -> Result<()> {
        let before = "{\n    \"config\": {\n      \"old\": 1\n    },\n    \"secrets\": {}\n";
        let made = schema(before, PAGE)?;
        assert!(made.contains("\"drain_seconds\": {\n          \"type\": \"integer\",\n          \"minimum\": 0,\n          \"maximum\": 86400,\n          \"description\": \"How \\\"long\\\".\"\n        }"));
        assert!(made.contains("tls_key_file") && !made.contains("jwt_secret") && !made.contains("old"));
        assert!(made.ends_with("    \"secrets\": {}\n") && made.contains("\"connections\""));
        assert!(!made.contains("words"), "other tables are no values of the chart");
        let (_, bridges) = made.split_once("\"in\": {").context("bridges in")?;
        let (bridges_in, bridges_out) = bridges.split_once("\"out\": {").context("bridges out")?;
        assert!(bridges_in.contains("\"required\": [\"exchange\"]"), "{bridges_in}");
        assert!(bridges_in.contains("\"type\": [\"string\", \"array\"]"), "{bridges_in}");
        assert!(bridges_out.contains("\"required\": [\"queue\"]"), "{bridges_out}");
        serde_json::from_str::<serde_json::Value>(&format!("{made}}}"))?;
        assert_eq!(schema(&made, PAGE)?, made, "generating it again changes nothing");
        Ok(())
    }

    #[test]
    fn values_that_are_not_understood_are_an_error_that_names_the_setting() {
        let page = PAGE.replace("0 to 86400", "any of these").replace("drain_seconds", "new");
        assert!(schema("    \"config\": {\n", &page).unwrap_err().to_string().contains("new"));
    }
}
