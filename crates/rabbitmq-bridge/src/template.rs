//! Texts with fields in braces, such as `{queue}.{kind}`.

use std::borrow::Cow;

/// A text with fields in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template<F> {
    parts: Vec<Part<F>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part<F> {
    Text(String),
    Field(F),
}

/// What can stand in braces.
pub trait TemplateField: Sized {
    /// All fields, as a message for an operator who wrote another one.
    const KNOWN: &str;

    /// Reads a field, without its braces.
    fn parse(name: &str) -> Option<Self>;
}

/// A field of a message of RabbitMQ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageField {
    /// The routing key.
    RoutingKey,
    /// The property `type`.
    Type,
    /// A header.
    Header(String),
}

impl TemplateField for MessageField {
    const KNOWN: &str = "{routing_key}, {type} and {header.NAME}";

    fn parse(name: &str) -> Option<Self> {
        match name {
            "routing_key" => Some(Self::RoutingKey),
            "type" => Some(Self::Type),
            _ => name
                .strip_prefix("header.")
                .filter(|name| !name.is_empty())
                .map(|name| Self::Header(name.into())),
        }
    }
}

/// A field of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobField {
    /// The tenant.
    Tenant,
    /// The queue.
    Queue,
    /// The kind.
    Kind,
}

impl TemplateField for JobField {
    const KNOWN: &str = "{tenant}, {queue} and {kind}";

    fn parse(name: &str) -> Option<Self> {
        match name {
            "tenant" => Some(Self::Tenant),
            "queue" => Some(Self::Queue),
            "kind" => Some(Self::Kind),
            _ => None,
        }
    }
}

impl<F: TemplateField> Template<F> {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(format!("`{text}` has a {{ without its }}"));
            };
            let Some(field) = F::parse(name) else {
                return Err(format!("`{{{name}}}` is not a field; the fields are {}", F::KNOWN));
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Field(field));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }
}

impl<F> Template<F> {
    /// Returns the text, with what `value` says of each field. `None` if it does not know one.
    pub fn fill<'a>(&self, value: impl Fn(&F) -> Option<Cow<'a, str>>) -> Option<String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Field(field) => text.push_str(&value(field)?),
            }
        }
        Some(text)
    }

    /// Returns the text if it has no fields.
    pub fn fixed(&self) -> Option<String> {
        self.fill(|_| None)
    }
}

impl<F> Default for Template<F> {
    fn default() -> Self {
        Self { parts: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_filled_in() {
        let template = Template::<JobField>::parse("jobs.{tenant}.{queue}-{kind}").unwrap();
        let filled = template.fill(|field| {
            Some(Cow::Borrowed(match field {
                JobField::Tenant => "t",
                JobField::Queue => "q",
                JobField::Kind => "k",
            }))
        });
        assert_eq!(filled.as_deref(), Some("jobs.t.q-k"));
        assert_eq!(template.fixed(), None);
        assert_eq!(Template::<JobField>::parse("jobs").unwrap().fixed().as_deref(), Some("jobs"));
        assert_eq!(template.fill(|_| None), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |text| Template::<MessageField>::parse(text).unwrap_err();
        assert_eq!(
            wrong("a{queue}"),
            "`{queue}` is not a field; the fields are {routing_key}, {type} and {header.NAME}"
        );
        assert!(wrong("{header.}").contains("`{header.}` is not a field"));
        assert_eq!(wrong("a{type"), "`a{type` has a { without its }");
    }
}
