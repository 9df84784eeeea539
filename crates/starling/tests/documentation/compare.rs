//! A documented frame held against a real one.

use std::collections::HashMap;

use serde_json::Value;

/// What the texts of the page that are different each time stand for: by what is documented, what was received.
#[derive(Default)]
pub struct Bindings(HashMap<String, String>);

impl Bindings {
    /// Says what is different, and where; nothing if a received value is as documented.
    pub fn difference(&mut self, path: &str, documented: &Value, received: &Value) -> Option<String> {
        let key = path.rsplit('.').next().unwrap_or_default();
        match (key, documented, received) {
            ("at" | "last_seen" | "expires_at", Value::String(_), Value::String(time)) if is_time(time) => {
                None
            }
            ("reconnect_after_ms" | "retry_after_ms", Value::Number(_), Value::Number(ms)) if ms.is_u64() => {
                None
            }
            ("id" | "session" | "ticket" | "epoch" | "log", Value::String(name), Value::String(is))
                if !is.is_empty() =>
            {
                let was = self.0.entry(name.clone()).or_insert_with(|| is.clone());
                (was != is).then(|| format!("{path}: {name} was {was}, and now is {is}"))
            }
            ("online", Value::Array(names), Value::Array(are)) => {
                let sorted = |names: &[Value]| {
                    let mut names: Vec<String> = names.iter().map(Value::to_string).collect();
                    names.sort();
                    names
                };
                (sorted(names) != sorted(are)).then(|| format!("{path}: {names:?} is {are:?}"))
            }
            (_, Value::Object(fields), Value::Object(are)) => {
                if let Some(extra) = are.keys().find(|key| !fields.contains_key(*key)) {
                    return Some(format!("{path}.{extra} is not documented"));
                }
                fields.iter().find_map(|(key, value)| match are.get(key) {
                    Some(is) => self.difference(&format!("{path}.{key}"), value, is),
                    None => Some(format!("{path}.{key} is missing")),
                })
            }
            (_, Value::Array(items), Value::Array(are)) if items.len() == are.len() => {
                let mut pairs = items.iter().zip(are).enumerate();
                pairs.find_map(|(at, (item, is))| self.difference(&format!("{path}[{at}]"), item, is))
            }
            _ => (documented != received).then(|| format!("{path}: {documented} is {received}")),
        }
    }

    /// Puts what was received in the place of what is documented, in a frame that is to be sent. `token` makes a user's token.
    pub fn filled(&self, frame: &Value, token: &impl Fn(&str) -> String) -> Value {
        match frame {
            Value::String(text) => match (text.strip_prefix("eyJ…"), self.0.get(text)) {
                (Some(user), _) => token(user).into(),
                (None, Some(is)) => is.clone().into(),
                (None, None) => frame.clone(),
            },
            Value::Array(items) => items.iter().map(|item| self.filled(item, token)).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(key, value)| (key.clone(), self.filled(value, token)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            _ => frame.clone(),
        }
    }
}

/// Whether this is a time in UTC with milliseconds.
fn is_time(text: &str) -> bool {
    let pattern = "0000-00-00T00:00:00.000Z";
    let fits = |(is, wanted): (char, char)| if wanted == '0' { is.is_ascii_digit() } else { is == wanted };
    text.len() == pattern.len() && text.chars().zip(pattern.chars()).all(fits)
}

#[test]
fn what_is_documented_and_what_is_received_are_told_apart() {
    use serde_json::json;
    let mut bindings = Bindings::default();
    let documented = json!({"ok": {"session": "abc", "at": "2026-01-01T00:00:00.000Z", "seq": 1}});
    let mut differs = |received: Value| bindings.difference("", &documented, &received);
    assert_eq!(differs(json!({"ok": {"session": "x1", "at": "2027-02-02T11:11:11.123Z", "seq": 1}})), None);
    for wrong in [
        json!({"ok": {"session": "x2", "at": "2027-02-02T11:11:11.123Z", "seq": 1}}),
        json!({"ok": {"session": "x1", "at": "2027-02-02", "seq": 1}}),
        json!({"ok": {"session": "x1", "at": "2027-02-02T11:11:11.123Z", "seq": 2}}),
        json!({"ok": {"session": "x1", "at": "2027-02-02T11:11:11.123Z"}}),
        json!({"ok": {"session": "x1", "at": "2027-02-02T11:11:11.123Z", "seq": 1, "more": 1}}),
    ] {
        assert!(differs(wrong.clone()).is_some(), "{wrong}");
    }
    let sent = bindings.filled(&json!({"resume": {"session": "abc"}, "token": "eyJ…ada"}), &|user| {
        format!("token of {user}")
    });
    assert_eq!(sent, json!({"resume": {"session": "x1"}, "token": "token of ada"}));
}
