//! Settings that go together, or not. Whatever is wrong is found before the node starts, and named by its key.

use starling_jobs::{INTERNAL_QUEUES, is_internal};
use starling_model::{NAME_RULE, TenantName, is_name};
use starling_settings::{BadConfig, Table};

use crate::address::Address;
use crate::config::{IncomingSettings, OutgoingSettings, QueueType, RabbitmqSettings};
use crate::template::{JobField, MessageField, Template};

/// The most bridges in each direction. Each has a connection and a thread on each node.
const BRIDGES_MAX: usize = 32;
/// The longest name in AMQP, bytes.
pub(crate) const AMQP_NAME_BYTES_MAX: usize = 255;
/// What is added to the name of a queue for its dead letters.
const DEAD_LETTERS: &str = ".dead-letters";

/// Checked settings: where RabbitMQ is, and the bridges.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) address: Address,
    pub(crate) incoming: Vec<Incoming>,
    pub(crate) outgoing: Vec<Outgoing>,
}

/// A bridge in.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    /// Its name in the settings.
    pub name: String,
    pub exchange: String,
    pub routing_keys: Vec<String>,
    /// The queue of RabbitMQ.
    pub source: String,
    pub queue_type: Option<QueueType>,
    pub dead_letter_exchange: String,
    pub declare: bool,
    pub prefetch: u16,
    pub tenant: Template<MessageField>,
    pub allowed_tenants: Vec<String>,
    pub queue: Template<MessageField>,
    pub allowed_queues: Vec<String>,
    pub kind: Template<MessageField>,
    pub attempts: u16,
}

/// A bridge out.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    /// Its name in the settings.
    pub name: String,
    pub queue: String,
    pub tenant: Option<TenantName>,
    pub exchange: String,
    pub routing_key: Template<JobField>,
    pub declare: bool,
    pub at_once: u16,
    pub confirm_timeout: std::time::Duration,
}

impl Plan {
    /// Whether there is a bridge.
    #[must_use]
    pub fn has_bridges(&self) -> bool {
        !self.incoming.is_empty() || !self.outgoing.is_empty()
    }
}

impl Incoming {
    /// The queue of RabbitMQ for its dead letters, if the bridge declares it.
    pub fn dead_letter_queue(&self) -> String {
        self.dead_letter_exchange.clone()
    }
}

impl RabbitmqSettings {
    /// Checks the settings; `None`: there is no RabbitMQ for this node. One that does not carry the bridges needs no address, so that the same file
    /// serves nodes of all roles.
    ///
    /// # Errors
    /// [`BadConfig`] names the key.
    pub fn plan(&self, carries_bridges: bool) -> Result<Option<Plan>, BadConfig> {
        let (incoming, outgoing) = self.bridges()?;
        let Some(url) = &self.url else {
            let tables = incoming.iter().map(|bridge| ("in", &bridge.name));
            let mut tables = tables.chain(outgoing.iter().map(|bridge| ("out", &bridge.name)));
            return match tables.next() {
                Some((way, name)) if carries_bridges => {
                    Err(BadConfig(format!("rabbitmq_url: is not set, but [rabbitmq.{way}.{name}] needs it")))
                }
                _ => Ok(None),
            };
        };
        let address = Address::parse(url, self.ca_file.as_deref())
            .map_err(|(key, why)| BadConfig(format!("{key}: {why}")))?;
        Ok(Some(Plan { address, incoming, outgoing }))
    }

    /// Checks the bridges, each by itself and together.
    fn bridges(&self) -> Result<(Vec<Incoming>, Vec<Outgoing>), BadConfig> {
        let incoming = checked("rabbitmq.in", &self.incoming, Incoming::check)?;
        let outgoing = checked("rabbitmq.out", &self.outgoing, Outgoing::check)?;
        for (at, bridge) in incoming.iter().enumerate() {
            if let Some(other) = incoming[..at].iter().find(|other| other.source == bridge.source) {
                return Err(BadConfig(format!(
                    "rabbitmq.in.{}.rabbitmq_queue: `{}` is the queue of [rabbitmq.in.{}], too",
                    bridge.name, bridge.source, other.name
                )));
            }
        }
        for (at, bridge) in outgoing.iter().enumerate() {
            let same = |other: &&Outgoing| {
                other.queue == bridge.queue
                    && (other.tenant.is_none() || bridge.tenant.is_none() || other.tenant == bridge.tenant)
            };
            if let Some(other) = outgoing[..at].iter().find(same) {
                return Err(BadConfig(format!(
                    "rabbitmq.out.{}.queue: the jobs of `{}` go to [rabbitmq.out.{}]",
                    bridge.name, bridge.queue, other.name
                )));
            }
        }
        Ok((incoming, outgoing))
    }
}

/// Checks the sections of a table.
fn checked<S, T>(
    table: &str,
    sections: &Table<S>,
    check: fn(&str, &S) -> Result<T, (&'static str, String)>,
) -> Result<Vec<T>, BadConfig> {
    let bridges: Vec<T> = sections
        .iter()
        .map(|(name, section)| {
            check(name, section).map_err(|(key, why)| BadConfig(format!("{table}.{name}.{key}: {why}")))
        })
        .collect::<Result<_, _>>()?;
    if bridges.len() > BRIDGES_MAX {
        return Err(BadConfig(format!("{table}: has more than {BRIDGES_MAX} bridges")));
    }
    Ok(bridges)
}

impl Incoming {
    fn check(name: &str, section: &IncomingSettings) -> Result<Self, (&'static str, String)> {
        let source = section.rabbitmq_queue.clone().unwrap_or_else(|| format!("starling.{name}"));
        let dead_letter_exchange =
            section.dead_letter_exchange.clone().unwrap_or_else(|| format!("{source}{DEAD_LETTERS}"));
        let exchange = amqp_name("exchange", section.exchange.clone())?;
        if dead_letter_exchange == exchange {
            return Err(("dead_letter_exchange", "is the exchange that the messages come from".into()));
        }
        if section.queue == Template::default() {
            return Err(("queue", NEEDED.into()));
        }
        chosen("queue", "allowed_queues", &section.queue, &section.allowed_queues)?;
        if let Some(queue) = section.queue.fixed() {
            own("queue", &queue)?;
        }
        chosen("tenant", "allowed_tenants", &section.tenant, &section.allowed_tenants)?;
        if let Some(kind) = section.kind.fixed() {
            name_of("kind", &kind)?;
        }
        for key in &section.routing_keys {
            amqp_name("routing_keys", Some(key.clone()))?;
        }
        Ok(Self {
            name: name.to_owned(),
            exchange,
            routing_keys: section.routing_keys.clone(),
            source: amqp_name("rabbitmq_queue", Some(source))?,
            queue_type: section.queue_type,
            dead_letter_exchange: amqp_name("dead_letter_exchange", Some(dead_letter_exchange))?,
            declare: section.declare,
            prefetch: section.prefetch,
            tenant: section.tenant.clone(),
            allowed_tenants: section.allowed_tenants.clone(),
            queue: section.queue.clone(),
            allowed_queues: section.allowed_queues.clone(),
            kind: section.kind.clone(),
            attempts: section.attempts,
        })
    }
}

impl Outgoing {
    fn check(name: &str, section: &OutgoingSettings) -> Result<Self, (&'static str, String)> {
        let queue = section.queue.clone().ok_or_else(|| ("queue", NEEDED.to_owned()))?;
        own("queue", &queue)?;
        let tenant = section.tenant.clone();
        if let Some(tenant) = &tenant {
            name_of("tenant", tenant)?;
        }
        Ok(Self {
            name: name.to_owned(),
            queue,
            tenant: tenant.map(TenantName::from),
            exchange: amqp_name("exchange", section.exchange.clone())?,
            routing_key: section.routing_key.clone(),
            declare: section.declare,
            at_once: section.at_once,
            confirm_timeout: section.confirm_timeout,
        })
    }
}

const NEEDED: &str = "is needed";

/// Checks a name of RabbitMQ.
fn amqp_name(key: &'static str, name: Option<String>) -> Result<String, (&'static str, String)> {
    match name {
        None => Err((key, NEEDED.into())),
        Some(name) if name.len() > AMQP_NAME_BYTES_MAX => {
            Err((key, format!("has more than {AMQP_NAME_BYTES_MAX} bytes")))
        }
        Some(name) if name.starts_with("amq.") && key != "exchange" => {
            Err((key, format!("`{name}` is RabbitMQ's own: it begins with amq.")))
        }
        Some(name) => Ok(name),
    }
}

fn name_of(key: &'static str, name: &str) -> Result<(), (&'static str, String)> {
    if is_name(name) { Ok(()) } else { Err((key, format!("`{name}` is no name; {NAME_RULE}"))) }
}

/// Checks a queue of users.
fn own(key: &'static str, queue: &str) -> Result<(), (&'static str, String)> {
    name_of(key, queue)?;
    if is_internal(queue) {
        return Err((key, format!("`{queue}` is Starling's own: it begins with {INTERNAL_QUEUES}")));
    }
    Ok(())
}

/// Checks what messages may choose.
fn chosen(
    key: &'static str,
    allowed_key: &'static str,
    template: &Template<MessageField>,
    allowed: &[String],
) -> Result<(), (&'static str, String)> {
    match (template.fixed(), allowed.is_empty()) {
        (Some(name), true) => name_of(key, &name),
        (Some(_), false) => Err((allowed_key, format!("has no use, since `{key}` has no fields"))),
        (None, true) => Err((allowed_key, format!("is needed, since `{key}` has fields; * stands for all"))),
        (None, false) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use starling_settings::Loaded;

    use super::*;

    fn plan(file: &str) -> Result<Option<Plan>, String> {
        let mut loaded = Loaded::<RabbitmqSettings>::default();
        loaded.read_text(&"starling.toml", file).map_err(|error| error.to_string())?;
        loaded.settings.plan(true).map_err(|error| error.to_string())
    }

    fn error(file: &str) -> String {
        plan(&format!("rabbitmq_url = 'amqp://h'\n{file}")).map(|_| ()).expect_err("bad")
    }

    const IN: &str = "[rabbitmq.in.a]\nexchange = 'e'\nqueue = 'q'\n";
    const OUT: &str = "[rabbitmq.out.a]\nexchange = 'e'\nqueue = 'q'\n";

    #[test]
    fn without_a_setting_there_is_nothing() {
        assert!(plan("").unwrap().is_none());
        assert!(!plan("rabbitmq_url = 'amqp://h'").unwrap().unwrap().has_bridges());
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let plan = plan(&format!("rabbitmq_url = 'amqp://h'\n{IN}{OUT}")).unwrap().unwrap();
        let (incoming, outgoing) = (&plan.incoming[0], &plan.outgoing[0]);
        assert_eq!(incoming.routing_keys, ["#"]);
        assert_eq!(
            (&*incoming.source, &*incoming.dead_letter_exchange),
            ("starling.a", "starling.a.dead-letters")
        );
        assert_eq!((incoming.prefetch, incoming.attempts, incoming.declare), (50, 3, true));
        assert_eq!(incoming.tenant.fixed().as_deref(), Some("default"));
        assert_eq!((outgoing.at_once, outgoing.confirm_timeout.as_secs(), &outgoing.tenant), (16, 30, &None));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        let cases: [(&str, &str); 21] = [
            ("[rabbitmq.in.a]\nqueue = 'q'", "rabbitmq.in.a.exchange: is needed"),
            ("[rabbitmq.in.a]\nexchange = 'e'", "rabbitmq.in.a.queue: is needed"),
            ("[rabbitmq.in.a]", "rabbitmq.in.a.exchange: is needed"),
            ("[rabbitmq.out.a]\nqueue = 'q'", "rabbitmq.out.a.exchange: is needed"),
            ("[rabbitmq.out.a]\nexchange = 'e'", "rabbitmq.out.a.queue: is needed"),
            ("[rabbitmq.in.a]\nexchange = 'e'\nqueue = 'a b'", "rabbitmq.in.a.queue: `a b` is no name"),
            (
                "[rabbitmq.in.a]\nexchange = 'e'\nqueue = 'starling.x'",
                "rabbitmq.in.a.queue: `starling.x` is Starling's own",
            ),
            (
                "[rabbitmq.out.a]\nexchange = 'e'\nqueue = 'starling.x'",
                "rabbitmq.out.a.queue: `starling.x` is Starling's own",
            ),
            ("[rabbitmq.in.a]\nexchange = 'e'\nqueue = '{type}'", "rabbitmq.in.a.allowed_queues: is needed"),
            (
                "[rabbitmq.in.a]\nexchange = 'e'\nqueue = '{tpye}'",
                "rabbitmq.in.a.queue: `{tpye}` is not a field",
            ),
            (&format!("{IN}tenant = '{{header.t}}'"), "rabbitmq.in.a.allowed_tenants: is needed"),
            (&format!("{IN}allowed_queues = ['x']"), "rabbitmq.in.a.allowed_queues: has no use"),
            (&format!("{IN}kind = 'a b'"), "rabbitmq.in.a.kind: `a b` is no name"),
            (&format!("{IN}prefetch = 0"), "rabbitmq.in.a.prefetch: `0` is not a whole number"),
            (&format!("{IN}prefech = 1"), "rabbitmq.in.a: unknown key `prefech`; did you mean `prefetch`?"),
            (
                &format!("{IN}rabbitmq_queue = 'amq.x'"),
                "rabbitmq.in.a.rabbitmq_queue: `amq.x` is RabbitMQ's own",
            ),
            (
                &format!("{IN}dead_letter_exchange = 'e'"),
                "rabbitmq.in.a.dead_letter_exchange: is the exchange",
            ),
            (&format!("{IN}routing_keys = ''"), "rabbitmq.in.a.routing_keys: names no routing key"),
            (
                &format!("{IN}[rabbitmq.in.b]\nexchange = 'e'\nqueue = 'q'\nrabbitmq_queue = 'starling.a'"),
                "rabbitmq.in.b.rabbitmq_queue: `starling.a` is the queue of [rabbitmq.in.a]",
            ),
            (
                &format!("{OUT}[rabbitmq.out.b]\nexchange = 'x'\nqueue = 'q'\ntenant = 't'"),
                "rabbitmq.out.b.queue: the jobs of `q` go to [rabbitmq.out.a]",
            ),
            ("[rabbitmq.in.'a b']\nexchange = 'e'", "rabbitmq.in: \"a b\" is no name of a bridge"),
        ];
        for (file, why) in cases {
            let error = error(file);
            assert!(error.starts_with(why), "{file}: {error}");
        }
        let missing = plan(OUT).map(|_| ()).expect_err("no address");
        assert_eq!(missing, "rabbitmq_url: is not set, but [rabbitmq.out.a] needs it");
    }

    #[test]
    fn a_node_that_carries_no_bridges_needs_no_address_and_checks_them_all_the_same() {
        let elsewhere = |file: &str| {
            let mut loaded = Loaded::<RabbitmqSettings>::default();
            loaded.read_text(&"starling.toml", file).unwrap();
            loaded.settings.plan(false).map_err(|error| error.to_string())
        };
        assert!(elsewhere(&format!("{IN}{OUT}")).unwrap().is_none());
        let wrong = elsewhere("[rabbitmq.out.a]\nqueue = 'q'").map(|_| ()).expect_err("no exchange");
        assert!(wrong.starts_with("rabbitmq.out.a.exchange: is needed"), "{wrong}");
    }
}
