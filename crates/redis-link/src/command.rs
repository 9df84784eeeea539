use fred::types::{ClusterHash, CustomCommand, Value};

/// A command as data, so that it can be part of a pipeline and be sent again. In a cluster it goes to the server of its slot.
#[derive(Clone, Debug)]
pub struct Command {
    name: CustomCommand,
    arguments: Vec<Value>,
}

impl Command {
    /// Makes a command whose first argument is its key.
    pub fn new(name: &'static str, key: String) -> Self {
        // Without the hash the client would take the first argument of a custom command for its slot.
        Self { name: custom(name, ClusterHash::from(key.as_str())), arguments: vec![key.into()] }
    }

    /// Makes a command with these arguments, for the server of a slot.
    pub fn in_slot(name: &'static str, slot: u16, arguments: Vec<Value>) -> Self {
        Self { name: custom(name, ClusterHash::Custom(slot)), arguments }
    }

    /// Makes a command for any server.
    pub fn keyless(name: &'static str, arguments: Vec<Value>) -> Self {
        Self { name: custom(name, ClusterHash::Random), arguments }
    }

    /// Adds an argument.
    #[must_use]
    pub fn with(mut self, argument: impl Into<Value>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Returns the number of arguments.
    pub fn argument_count(&self) -> usize {
        self.arguments.len()
    }

    /// Returns the name and the arguments, as a client takes them.
    pub fn into_parts(self) -> (CustomCommand, Vec<Value>) {
        (self.name, self.arguments)
    }

    pub(crate) fn with_arguments(name: &'static str, first_key: &str, arguments: Vec<Value>) -> Self {
        Self { name: custom(name, ClusterHash::from(first_key)), arguments }
    }
}

fn custom(name: &'static str, hash: ClusterHash) -> CustomCommand {
    CustomCommand::new_static(name, hash, false)
}
