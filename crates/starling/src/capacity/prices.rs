//! Money, by a list of prices.

use std::path::Path;

use serde_json::{Value, json};
use starling_settings::BadConfig;

use super::constants as c;
use super::model::Plan;

/// The list that the program contains.
pub const EXAMPLES: &str = include_str!("prices.toml");
/// The longest list.
const BYTES_MAX: u64 = 64 * 1024;

/// Prices of a month, and of a GiB that is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Prices {
    /// In what.
    pub currency: String,
    node_core: f64,
    node_gib: f64,
    redis_core: f64,
    redis_gib: f64,
    postgres_core: f64,
    postgres_gib: f64,
    disk_gib: f64,
    traffic_gib: f64,
}

/// What a month costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Money {
    /// The parts, with their names.
    pub parts: Vec<(&'static str, f64)>,
}

impl Prices {
    /// Reads a list from a file, or the examples.
    ///
    /// # Errors
    /// When the file can't be read, or a price is missing or no number.
    pub fn read(path: Option<&Path>) -> Result<Self, BadConfig> {
        let Some(path) = path else { return Self::parse(EXAMPLES) };
        let wrong = |why: String| BadConfig(format!("--prices {}: {why}", path.display()));
        let length = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
        if length > BYTES_MAX {
            return Err(wrong(format!("is longer than {BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(|BadConfig(why)| wrong(why))
    }

    fn parse(text: &str) -> Result<Self, BadConfig> {
        let table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| BadConfig(error.message().to_owned()))?;
        let price = |name: &str| {
            let value = table.get(name).ok_or_else(|| BadConfig(format!("{name} is missing")))?;
            let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
            let number = number.filter(|number| number.is_finite() && *number >= 0.0);
            number.ok_or_else(|| BadConfig(format!("{name}: {value} is no price")))
        };
        let currency = table.get("currency").and_then(toml::Value::as_str);
        Ok(Self {
            currency: currency.ok_or_else(|| BadConfig("currency is missing".to_owned()))?.to_owned(),
            node_core: price("node_core")?,
            node_gib: price("node_gib")?,
            redis_core: price("redis_core")?,
            redis_gib: price("redis_gib")?,
            postgres_core: price("postgres_core")?,
            postgres_gib: price("postgres_gib")?,
            disk_gib: price("disk_gib")?,
            traffic_gib: price("traffic_gib")?,
        })
    }

    /// What a plan costs in a month. PostgreSQL is counted with 4 GiB of memory for each core, and with the disk of all months.
    pub fn of(&self, plan: &Plan) -> Money {
        let node = c::NODE_CORES.value * self.node_core + c::NODE_GIB.value * self.node_gib;
        let postgres = self.postgres_core + 4.0 * self.postgres_gib;
        Money {
            parts: vec![
                ("nodes", plan.nodes * node),
                ("redis", plan.redis_shards * self.redis_core + plan.redis_gib * self.redis_gib),
                ("postgres", plan.postgres_cores * postgres),
                ("disk", plan.disk_gib * self.disk_gib),
                ("traffic", plan.traffic_gib * self.traffic_gib),
            ],
        }
    }
}

impl Money {
    /// All parts together.
    pub fn total(&self) -> f64 {
        self.parts.iter().map(|(_, part)| part).sum()
    }

    /// As JSON.
    pub fn json(&self, currency: &str) -> Value {
        let parts: serde_json::Map<String, Value> =
            self.parts.iter().map(|(name, part)| ((*name).to_owned(), json!(part))).collect();
        json!({"currency": currency, "parts": parts, "total": self.total()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_that_is_missing_or_no_number_is_named() {
        assert!(Prices::parse(EXAMPLES).is_ok());
        for (price, wrong) in [
            ("node_core = 25.0", ""),
            ("disk_gib = 0.25", "disk_gib = \"cheap\""),
            ("traffic_gib = 0.05", "traffic_gib = -1"),
        ] {
            let name = price.split(' ').next().unwrap();
            let BadConfig(why) = Prices::parse(&EXAMPLES.replace(price, wrong)).unwrap_err();
            assert!(why.contains(name), "{why}");
        }
    }
}
