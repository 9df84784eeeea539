use fred::bytes_utils::Str;
use fred::types::Value;
use fred::util::sha1_hash;

use crate::Command;

/// The capacity for arguments, enough for most scripts.
const ARGUMENTS: usize = 16;

/// A Lua script, and the hash by which Redis remembers it.
#[derive(Clone, Debug)]
pub struct Script {
    text: Str,
    hash: Str,
}

impl Script {
    /// Makes a script from its text.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { hash: sha1_hash(&text).into(), text: text.into() }
    }

    /// Returns the command that runs the script by its hash, with keys that are all in the slot of the first. Arguments are added with
    /// [`Command::with`].
    pub fn call(&self, keys: Vec<String>) -> Command {
        let mut arguments = Vec::with_capacity(ARGUMENTS);
        arguments.push(Value::String(self.hash.clone()));
        arguments.push(Value::from(keys.len() as i64));
        let mut command =
            Command::with_arguments("EVALSHA", keys.first().map_or("", String::as_str), arguments);
        for key in keys {
            command = command.with(key);
        }
        command
    }

    /// Returns the command that runs the script by its hash. The arguments begin with the number of keys.
    pub fn by_hash(&self, slot: u16, mut arguments: Vec<Value>) -> Command {
        arguments.insert(0, Value::String(self.hash.clone()));
        Command::in_slot("EVALSHA", slot, arguments)
    }

    /// Returns the command that runs the script by its text, after which the server knows it. The arguments begin with the number of keys.
    pub fn by_text(&self, slot: u16, mut arguments: Vec<Value>) -> Command {
        arguments.insert(0, Value::String(self.text.clone()));
        Command::in_slot("EVAL", slot, arguments)
    }

    pub(crate) fn text(&self) -> Str {
        self.text.clone()
    }
}
