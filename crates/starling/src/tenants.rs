//! Limits of single tenants, as the file's `[tenants.NAME]` sets them.

use std::collections::HashMap;

use starling_hub::TenantLimits;
use starling_model::{NAME_RULE, is_name};

use crate::config::{BadConfig, nearest};

/// The keys of a tenant's table.
const KEYS: [&str; 3] = ["user_writes_per_minute", "connections", "conversations"];

/// What the file sets for one tenant; for the rest the general limits hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnLimits {
    user_writes_per_minute: Option<u32>,
    connections: Option<u64>,
    conversations: Option<u64>,
}

impl OwnLimits {
    /// What is set, by key.
    pub fn entries(self) -> impl Iterator<Item = (&'static str, u64)> {
        let writes = self.user_writes_per_minute.map(u64::from);
        let all = [
            ("user_writes_per_minute", writes),
            ("connections", self.connections),
            ("conversations", self.conversations),
        ];
        all.into_iter().filter_map(|(key, limit)| Some((key, limit?)))
    }

    /// These limits, completed by the general ones.
    pub fn over(self, general: TenantLimits) -> TenantLimits {
        TenantLimits {
            user_writes_per_minute: self.user_writes_per_minute.unwrap_or(general.user_writes_per_minute),
            connections: self.connections.unwrap_or(general.connections),
            conversations: self.conversations.unwrap_or(general.conversations),
        }
    }
}

/// Reads the table `tenants`.
pub fn read(value: &toml::Value) -> Result<HashMap<String, OwnLimits>, BadConfig> {
    let bad = |what: String| BadConfig(format!("tenants: {what}"));
    let table = value.as_table().ok_or_else(|| bad("not a table; write [tenants.NAME]".into()))?;
    let mut tenants = HashMap::new();
    for (name, limits) in table {
        // No token names such a tenant, so that its limits would hold for nobody, unnoticed.
        if !is_name(name) {
            return Err(bad(format!("{name:?} is no name; {NAME_RULE}")));
        }
        let limits = limits.as_table().ok_or_else(|| bad(format!("{name} is not a table")))?;
        let mut of = OwnLimits::default();
        for (key, value) in limits {
            let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
            let number = number.ok_or_else(|| bad(format!("{name}.{key} is not a whole number")))?;
            match key.as_str() {
                "user_writes_per_minute" => {
                    let number =
                        u32::try_from(number).map_err(|_| bad(format!("{name}.{key} is too large")))?;
                    of.user_writes_per_minute = Some(number);
                }
                "connections" => of.connections = Some(number),
                "conversations" => of.conversations = Some(number),
                _ => {
                    let hint = nearest(key, KEYS.into_iter());
                    let hint = hint.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                    return Err(bad(format!("{name}: unknown key `{key}`{hint}")));
                }
            }
        }
        tenants.insert(name.clone(), of);
    }
    Ok(tenants)
}

/// The name of a tenant as a key of TOML: in quotes where it has to be.
pub fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.bytes().all(bare) {
        return name.to_owned();
    }
    toml::Value::String(name.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<HashMap<String, OwnLimits>, String> {
        let table: toml::Table = text.parse().expect("TOML");
        read(&table["tenants"]).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text| read_text(text).expect_err("bad");
        assert!(error("[tenants.a]\nfoo = 1").contains("unknown key `foo`"));
        assert!(error("[tenants.a]\nconnections = -1").contains("a.connections is not a whole number"));
        assert!(error("[tenants]\na = 1").contains("a is not a table"));
    }

    #[test]
    fn a_table_that_no_tenant_can_have_is_refused() {
        for name in ["", "a b", "a/b", "..", "ä", "a\nb", "\"", &"a".repeat(101)] {
            let error = read_text(&format!("[tenants.{name:?}]\nconnections = 1")).expect_err("no name");
            assert!(error.starts_with(&format!("tenants: {name:?} is no name")), "{error}");
        }
    }

    #[test]
    fn names_are_keys_of_their_own() {
        for name in ["acme", "a.b", "a:b", "a@b.example", "-", "1", "a_b"] {
            let read = read_text(&format!("[tenants.{}]\nconnections = 1", key(name))).expect("good");
            assert_eq!(read.keys().collect::<Vec<_>>(), [name]);
        }
        // Where it can be helped, without quotes.
        assert_eq!(key("acme-1_x"), "acme-1_x");
    }
}
