//! One command to Redis, as data: so that it can stand in a pipeline and be sent once more.

use fred::types::scripts::Script;
use fred::types::{ClusterHash, CustomCommand, Value};

/// A command and where it goes in a cluster.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) name: CustomCommand,
    pub(super) arguments: Vec<Value>,
}

impl Command {
    /// A command whose first argument is its key.
    pub(super) fn new(name: &'static str, key: String) -> Self {
        Self { name: in_slot_of(name, &key), arguments: vec![key.into()] }
    }

    /// A script; all keys are in the slot of the first.
    pub(super) fn script(script: &Script, keys: Vec<String>) -> Self {
        let name = in_slot_of("EVALSHA", keys.first().map_or("", String::as_str));
        let mut arguments = Vec::with_capacity(16);
        arguments.push(Value::from(script.sha1().clone()));
        arguments.push(Value::from(keys.len() as i64));
        arguments.extend(keys.into_iter().map(Value::from));
        Self { name, arguments }
    }

    /// A command without a key.
    pub(super) fn keyless(name: &'static str, arguments: Vec<Value>) -> Self {
        Self { name: CustomCommand::new_static(name, ClusterHash::Random, false), arguments }
    }

    pub(super) fn with(mut self, argument: impl Into<Value>) -> Self {
        self.arguments.push(argument.into());
        self
    }
}

/// The client looks at no other way to name a slot in a command of ours: it would take the first argument.
fn in_slot_of(name: &'static str, key: &str) -> CustomCommand {
    CustomCommand::new_static(name, ClusterHash::from(key), false)
}
