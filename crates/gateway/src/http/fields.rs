//! Fields of a body whose meaning only its call knows.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use starling_model::{NAME_RULE, is_name};
use starling_wire::protocol::{BadRequest, Json, decode_object};

use super::error::ApiError;

/// Fields of a body. An optional field may be null, which is the same as absent. Each method takes a field out.
pub(super) struct BodyFields(BTreeMap<String, Result<Json, BadRequest>>);

impl BodyFields {
    /// Reads a body. An empty one has no fields.
    pub fn read(body: &[u8]) -> Result<BodyFields, ApiError> {
        Ok(BodyFields(if body.is_empty() { BTreeMap::new() } else { decode_object(body)? }))
    }

    /// Any value; null is one, too.
    pub fn value(&mut self, field: &str) -> Result<Option<Json>, ApiError> {
        Ok(self.0.remove(field).transpose()?)
    }

    /// Removes the field and returns its text. `None`: it is absent or null.
    pub fn text(&mut self, field: &str) -> Result<Option<String>, ApiError> {
        let Some(value) = self.given(field)? else { return Ok(None) };
        let text = serde_json::from_str(value.as_str());
        text.map(Some).map_err(|_| ApiError::bad_request(format!("`{field}` must be a string")))
    }

    /// A name.
    pub fn name(&mut self, field: &str) -> Result<Option<String>, ApiError> {
        match self.text(field)? {
            Some(name) if !is_name(&name) => {
                Err(ApiError::bad_request(format!("`{field}` must be a name: {NAME_RULE}")))
            }
            name => Ok(name),
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, field: &str) -> Result<Option<Vec<String>>, ApiError> {
        let Some(value) = self.given(field)? else { return Ok(None) };
        let texts = serde_json::from_str(value.as_str());
        texts.map(Some).map_err(|_| ApiError::bad_request(format!("`{field}` must be a list of strings")))
    }

    /// True or false.
    pub fn boolean(&mut self, field: &str) -> Result<Option<bool>, ApiError> {
        match self.given(field)?.as_ref().map(Json::as_str) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(ApiError::bad_request(format!("`{field}` must be true or false"))),
        }
    }

    /// An integer in this range. The value counts, not how it is written.
    pub fn integer(&mut self, field: &str, range: RangeInclusive<u16>) -> Result<Option<u16>, ApiError> {
        let (least, most) = (f64::from(*range.start()), f64::from(*range.end()));
        match self.number(field)? {
            None => Ok(None),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in the range")]
            Some(Some(number)) if number.fract() == 0.0 && (least..=most).contains(&number) => {
                Ok(Some(number as u16))
            }
            Some(_) => {
                Err(ApiError::bad_request(format!("`{field}` must be an integer from {least} to {most}")))
            }
        }
    }

    /// A time in seconds, which need not be whole, in this range.
    pub fn seconds(&mut self, field: &str, range: RangeInclusive<u32>) -> Result<Option<Duration>, ApiError> {
        let (least, most) = (f64::from(*range.start()), f64::from(*range.end()));
        match self.number(field)? {
            None => Ok(None),
            Some(Some(number)) if (least..=most).contains(&number) => {
                Ok(Some(Duration::from_secs_f64(number)))
            }
            Some(_) => {
                Err(ApiError::bad_request(format!("`{field}` must be a number from {least} to {most}")))
            }
        }
    }

    /// A number, which need not be whole, in this range.
    pub fn decimal(&mut self, field: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        match self.number(field)? {
            None => Ok(None),
            Some(Some(number)) if range.contains(&number) => Ok(Some(number)),
            Some(_) => {
                let (least, most) = (range.start(), range.end());
                Err(ApiError::bad_request(format!("`{field}` must be a number from {least} to {most}")))
            }
        }
    }

    /// An object with fields of its own.
    pub fn object(&mut self, field: &str) -> Result<Option<BodyFields>, ApiError> {
        let Some(value) = self.given(field)? else { return Ok(None) };
        let fields = BodyFields::read(value.as_str().as_bytes());
        fields.map(Some).map_err(|_| ApiError::bad_request(format!("`{field}` must be an object")))
    }

    /// A number; `Some(None)`: something else.
    fn number(&mut self, field: &str) -> Result<Option<Option<f64>>, ApiError> {
        let value = self.given(field)?;
        Ok(value.map(|value| serde_json::from_str(value.as_str()).ok()))
    }

    fn given(&mut self, field: &str) -> Result<Option<Json>, ApiError> {
        Ok(self.value(field)?.filter(|value| value.as_str() != "null"))
    }
}

/// Returns the value of a field that must be there.
pub(super) fn required<T>(field: &str, value: Option<T>) -> Result<T, ApiError> {
    value.ok_or_else(|| ApiError::bad_request(format!("`{field}` is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> BodyFields {
        BodyFields::read(body.as_bytes()).expect("an object")
    }

    #[test]
    fn fields_are_taken_by_their_types() {
        let mut body = fields(
            r#"{"t": "a\n\u00e4", "n": "mail", "b": true, "i": 5e0, "s": 0.25, "v": {"a" : [1, 2]}, "null": null}"#,
        );
        assert_eq!(body.text("t").expect("text").as_deref(), Some("a\nä"));
        assert_eq!(body.name("n").expect("a name").as_deref(), Some("mail"));
        assert_eq!(body.boolean("b").expect("a boolean"), Some(true));
        assert_eq!(body.integer("i", 1..=9).expect("an integer"), Some(5));
        assert_eq!(body.seconds("s", 0..=1).expect("a time"), Some(Duration::from_millis(250)));
        assert_eq!(body.value("v").expect("a value").as_ref().map(Json::as_str), Some(r#"{"a":[1,2]}"#));
        assert_eq!(body.text("null").expect("absent"), None);
        let mut inner = fields(r#"{"o": {"d": 0.5}}"#).object("o").expect("an object").expect("it is there");
        assert_eq!(inner.decimal("d", 0.5..=1.0).expect("a number"), Some(0.5));
        assert_eq!(fields(r#"{"l": ["a"]}"#).texts("l").expect("texts"), Some(vec!["a".to_owned()]));
        assert!(
            fields(r#"{"l": ["a", 1]}"#).texts("l").is_err() && fields(r#"{"l": "a"}"#).texts("l").is_err()
        );
        assert_eq!(body.integer("absent", 0..=1).expect("absent"), None);
        assert!(required("t", body.text("t").expect("taken")).is_err());
    }

    #[test]
    fn what_is_out_of_range_or_of_another_type_is_refused() {
        for value in ["0", "10", "1.5", "-1", "1e300", "\"5\"", "true", "[]", "{}"] {
            let body = || fields(&format!("{{\"i\": {value}}}"));
            assert!(body().integer("i", 1..=9).is_err(), "{value}");
        }
        for value in ["-1", "61", "\"5\"", "[]"] {
            assert!(fields(&format!("{{\"s\": {value}}}")).seconds("s", 0..=60).is_err(), "{value}");
        }
        for value in ["5", "{}", "\"a b\"", "\"\"", "\"..\"", "\"a\\u0000\""] {
            assert!(fields(&format!("{{\"n\": {value}}}")).name("n").is_err(), "{value}");
        }
        for value in ["0.4", "1.1", "\"1\"", "[]"] {
            assert!(fields(&format!("{{\"d\": {value}}}")).decimal("d", 0.5..=1.0).is_err(), "{value}");
        }
        for value in ["1", "[]", "\"{}\""] {
            assert!(fields(&format!("{{\"o\": {value}}}")).object("o").is_err(), "{value}");
        }
        assert!(fields("{\"b\": 1}").boolean("b").is_err());
        assert!(fields("{\"v\": \"\\u0000\"}").value("v").is_err());
        assert!(fields("{\"unknown\": \"\\u0000\"}").value("v").is_ok(), "unknown fields are ignored");
    }

    #[test]
    fn a_body_is_an_object_or_empty() {
        assert!(BodyFields::read(b"").is_ok() && BodyFields::read(b" {} ").is_ok());
        for body in [&b"[]"[..], b"{", b"{}x", b"\xff", b"null"] {
            assert!(BodyFields::read(body).is_err(), "{body:?}");
        }
        let deep = format!("{{\"a\": {}1{}}}", "[".repeat(100), "]".repeat(100));
        assert!(BodyFields::read(deep.as_bytes()).and_then(|mut body| body.value("a")).is_err());
    }
}
