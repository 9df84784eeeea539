//! What a message becomes: a job, or a dead letter with a reason.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};
use lapin::BasicProperties;
use lapin::types::AMQPValue;
use starling_jobs::{InvalidJob, KEY_BYTES_MAX, KeyHeld, NewJob, PAYLOAD_BYTES_MAX, UniqueKey, is_internal};
use starling_model::{NAME_RULE, TenantName, is_name};

use crate::check::Incoming;
use crate::template::{MessageField, Template};

/// What the unique keys of jobs begin with that come from RabbitMQ, so that they never meet those that users choose.
const KEY_PREFIX: &str = "rabbitmq:";
/// The highest priority that jobs have which are added over HTTP.
const PRIORITY_MAX: u8 = 9;

/// Why a message can't become a job. It is at fault, and another try won't help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// A word for programs.
    pub reason: &'static str,
    /// A sentence for people. It quotes nothing of the body.
    pub error: String,
}

impl Refusal {
    pub fn new(reason: &'static str, error: impl Into<String>) -> Self {
        Self { reason, error: error.into() }
    }
}

/// A message, as far as a job depends on it.
pub(crate) struct Message<'a> {
    pub routing_key: &'a str,
    pub properties: &'a BasicProperties,
    pub body: &'a [u8],
}

impl Message<'_> {
    /// Returns the job that the message becomes.
    pub fn job(&self, bridge: &Incoming) -> Result<NewJob, Refusal> {
        let tenant = self.name("tenant", &bridge.tenant, &bridge.allowed_tenants)?;
        let queue = self.name("queue", &bridge.queue, &bridge.allowed_queues)?;
        if is_internal(&queue) {
            return Err(Refusal::new("queue", format!("the queue {queue} is Starling's own")));
        }
        let kind = self.name("kind", &bridge.kind, &[])?;
        if self.body.len() > PAYLOAD_BYTES_MAX {
            let error = InvalidJob::PayloadTooLarge(self.body.len()).to_string();
            return Err(Refusal::new("too_large", error));
        }
        let payload = std::str::from_utf8(self.body)
            .map_err(|_| Refusal::new("not_json", "the body is not UTF-8, and so not JSON"))?;
        let priority = self.properties.priority().unwrap_or_default().min(PRIORITY_MAX);
        let job = NewJob {
            priority: i16::from(priority),
            attempts_max: bridge.attempts,
            unique: self.key(),
            ..NewJob::new(TenantName::from(tenant), &queue, &kind, payload.to_owned())
        };
        match job.check() {
            Ok(()) => Ok(job),
            Err(error @ InvalidJob::Payload(_)) => Err(Refusal::new("not_json", error.to_string())),
            Err(error) => Err(Refusal::new("refused", error.to_string())),
        }
    }

    /// Returns what the template says, if that is a name and allowed. What a template without fields says was checked before.
    fn name(
        &self,
        what: &'static str,
        template: &Template<MessageField>,
        allowed: &[String],
    ) -> Result<String, Refusal> {
        let Some(name) = template.fill(|field| self.value(field)) else {
            return Err(Refusal::new(what, format!("the message lacks a field that its {what} is made of")));
        };
        if !is_name(&name) {
            return Err(Refusal::new(what, format!("the {what} must have {NAME_RULE}")));
        }
        if !allowed.is_empty() && !allowed.iter().any(|pattern| covers(pattern, &name)) {
            return Err(Refusal::new(
                what,
                format!("the {what} {name} is not among those that messages may choose"),
            ));
        }
        Ok(name)
    }

    fn value(&self, field: &MessageField) -> Option<Cow<'_, str>> {
        match field {
            MessageField::RoutingKey => Some(Cow::Borrowed(self.routing_key)),
            MessageField::Type => self.properties.kind().as_ref().map(|kind| Cow::Borrowed(kind.as_str())),
            MessageField::Header(name) => {
                let headers = self.properties.headers().as_ref()?;
                text_of(headers.inner().get(name.as_str())?)
            }
        }
    }

    /// Returns the key that prevents a second job. A message without an id has none.
    fn key(&self) -> Option<UniqueKey> {
        let id = self.properties.message_id().as_ref()?.as_str();
        if id.is_empty() {
            return None;
        }
        let mut key = format!("{KEY_PREFIX}{id}");
        if key.len() > KEY_BYTES_MAX || key.contains('\0') {
            let hash = digest(&SHA256, id.as_bytes());
            let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            // An id has no place for this many colons by chance.
            key = format!("{KEY_PREFIX}sha256::{hex}");
        }
        Some(UniqueKey { key, held: KeyHeld::UntilTrimmed })
    }
}

/// Whether a pattern covers a name: the same name, `PREFIX*`, or `*`.
fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

/// Returns the value of a header as a text.
fn text_of(value: &AMQPValue) -> Option<Cow<'_, str>> {
    match value {
        AMQPValue::ShortString(text) => Some(Cow::Borrowed(text.as_str())),
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok().map(Cow::Borrowed),
        AMQPValue::Boolean(value) => Some(value.to_string().into()),
        AMQPValue::ShortShortInt(number) => Some(number.to_string().into()),
        AMQPValue::ShortShortUInt(number) => Some(number.to_string().into()),
        AMQPValue::ShortInt(number) => Some(number.to_string().into()),
        AMQPValue::ShortUInt(number) => Some(number.to_string().into()),
        AMQPValue::LongInt(number) => Some(number.to_string().into()),
        AMQPValue::LongUInt(number) => Some(number.to_string().into()),
        AMQPValue::LongLongInt(number) => Some(number.to_string().into()),
        _ => None,
    }
}

/// For the fuzz targets.
pub(crate) mod fuzzing {
    use lapin::BasicProperties;
    use lapin::types::{AMQPValue, FieldTable, ShortString};
    use starling_jobs::{PAYLOAD_BYTES_MAX, is_internal};
    use starling_model::is_name;

    use super::Message;
    use crate::check::Incoming;
    use crate::template::Template;

    /// Makes a job of a message whose sender is a stranger, and checks what must hold of every job.
    pub fn message(routing_key: &str, id: &str, header: &str, body: &[u8]) {
        let any = || vec!["*".to_owned()];
        let template = |text| Template::parse(text).unwrap_or_default();
        let bridge = Incoming {
            name: "fuzz".into(),
            exchange: "e".into(),
            routing_keys: any(),
            source: "s".into(),
            queue_type: None,
            dead_letter_exchange: "d".into(),
            declare: true,
            prefetch: 1,
            tenant: template("{header.tenant}"),
            allowed_tenants: vec!["t*".into()],
            queue: template("{type}"),
            allowed_queues: any(),
            kind: template("{routing_key}"),
            attempts: 1,
        };
        let mut headers = FieldTable::default();
        headers.insert("tenant".into(), AMQPValue::LongString(header.into()));
        let short = |text: &str| ShortString::try_new(text).unwrap_or_default();
        let properties = BasicProperties::default()
            .with_message_id(short(id))
            .with_type(short(header))
            .with_headers(headers);
        let Ok(job) = (Message { routing_key, properties: &properties, body }).job(&bridge) else { return };
        assert!(is_name(&job.queue) && is_name(&job.kind) && is_name(&job.tenant));
        assert!(!is_internal(&job.queue) && job.tenant.starts_with('t'));
        assert!(job.payload.as_bytes() == body && body.len() <= PAYLOAD_BYTES_MAX);
        assert!(job.check().is_ok());
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldTable;
    use starling_settings::Loaded;

    use super::*;
    use crate::RabbitmqSettings;

    fn bridge(more: &str) -> Incoming {
        let file = format!("rabbitmq_url = 'amqp://h'\n[rabbitmq.in.a]\nexchange = 'e'\n{more}");
        let mut loaded = Loaded::<RabbitmqSettings>::default();
        loaded.read_text(&"starling.toml", &file).unwrap();
        loaded.settings.plan(true).unwrap().unwrap().incoming.remove(0)
    }

    fn job(bridge: &Incoming, properties: &BasicProperties, body: &str) -> Result<NewJob, Refusal> {
        Message { routing_key: "order.created", properties, body: body.as_bytes() }.job(bridge)
    }

    fn reason(bridge: &Incoming, properties: &BasicProperties, body: &str) -> &'static str {
        job(bridge, properties, body).unwrap_err().reason
    }

    fn headers(pairs: &[(&str, &str)]) -> BasicProperties {
        let mut table = FieldTable::default();
        for (name, value) in pairs {
            table.insert((*name).into(), AMQPValue::LongString((*value).into()));
        }
        BasicProperties::default().with_headers(table)
    }

    #[test]
    fn a_message_becomes_a_job_with_its_id_as_the_key() {
        let properties = BasicProperties::default().with_message_id("m1".into()).with_priority(200);
        let job = job(&bridge("queue = 'orders'\nattempts = 7"), &properties, r#"{"a": 1}"#).unwrap();
        assert_eq!((&*job.tenant, &*job.queue, &*job.kind), ("default", "orders", "order.created"));
        assert_eq!((&*job.payload, job.priority, job.attempts_max), (r#"{"a": 1}"#, 9, 7));
        let unique = job.unique.unwrap();
        assert_eq!((&*unique.key, unique.held), ("rabbitmq:m1", KeyHeld::UntilTrimmed));
    }

    #[test]
    fn a_message_without_an_id_has_no_key_and_a_long_id_is_hashed() {
        let bridge = bridge("queue = 'orders'");
        let key = |id: Option<&str>| {
            let properties = match id {
                Some(id) => BasicProperties::default().with_message_id(id.into()),
                None => BasicProperties::default(),
            };
            job(&bridge, &properties, "1").unwrap().unique.map(|unique| unique.key)
        };
        assert_eq!((key(None), key(Some(""))), (None, None));
        let (long, other) = ("x".repeat(250), "x".repeat(249));
        assert!(key(Some(&long)).unwrap().starts_with("rabbitmq:sha256::"));
        assert_ne!(key(Some(&long)), key(Some(&other)));
    }

    #[test]
    fn fields_of_a_message_choose_within_what_is_allowed() {
        let bridge = bridge(
            "queue = '{header.queue}'\nallowed_queues = ['mail', 'import-*']\ntenant = '{header.tenant}'\n\
             allowed_tenants = ['*']\nkind = '{type}'",
        );
        let good = headers(&[("queue", "import-a"), ("tenant", "t")]).with_type("k".into());
        let job = job(&bridge, &good, "1").unwrap();
        assert_eq!((&*job.tenant, &*job.queue, &*job.kind), ("t", "import-a", "k"));
        for (properties, why) in [
            (headers(&[("queue", "other"), ("tenant", "t")]).with_type("k".into()), "queue"),
            (headers(&[("queue", "starling.x"), ("tenant", "t")]).with_type("k".into()), "queue"),
            (headers(&[("tenant", "t")]).with_type("k".into()), "queue"),
            (headers(&[("queue", "mail"), ("tenant", "a b")]).with_type("k".into()), "tenant"),
            (headers(&[("queue", "mail")]).with_type("k".into()), "tenant"),
            (headers(&[("queue", "mail"), ("tenant", "t")]), "kind"),
        ] {
            assert_eq!(reason(&bridge, &properties, "1"), why);
        }
    }

    #[test]
    fn nobody_chooses_starlings_own_queues() {
        let bridge = bridge("queue = '{header.queue}'\nallowed_queues = '*'");
        assert_eq!(reason(&bridge, &headers(&[("queue", "starling.test")]), "1"), "queue");
    }

    #[test]
    fn a_body_that_no_job_can_have_is_refused_and_not_quoted() {
        let (bridge, none) = (bridge("queue = 'q'"), BasicProperties::default());
        assert_eq!(reason(&bridge, &none, "hush"), "not_json");
        assert_eq!(reason(&bridge, &none, ""), "not_json");
        assert_eq!(reason(&bridge, &none, &format!("\"{}\"", "x".repeat(PAYLOAD_BYTES_MAX))), "too_large");
        assert_eq!(reason(&bridge, &none, &"[".repeat(1000)), "not_json");
        assert!(!job(&bridge, &none, "{\"hush\": hush").unwrap_err().error.contains("hush"));
        let binary = Message { routing_key: "k", properties: &none, body: b"\xff" }.job(&bridge);
        assert_eq!(binary.unwrap_err().reason, "not_json");
    }
}
