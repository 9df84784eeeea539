use fred::types::Value;

use crate::{Command, Error};

/// The oldest Redis with all commands that are used.
pub const VERSION_MIN: u32 = 7;

/// Asks Redis for its version; `None` if this user has no right to. `ask` sends a command.
///
/// # Errors
/// Those of `ask`, except for a missing right.
pub async fn version<F>(ask: impl Fn(Command) -> F) -> Result<Option<String>, Error>
where
    F: Future<Output = Result<Value, Error>>,
{
    let mut version = None;
    for (name, arguments) in [("INFO", vec![Value::from_static_str("server")]), ("HELLO", Vec::new())] {
        match ask(Command::keyless(name, arguments)).await {
            Ok(answer) => match version_in(answer) {
                Some(version) => return Ok(Some(version)),
                None => version = Some("unknown".to_owned()),
            },
            // One of the two may be denied.
            Err(Error::Refused(why)) if why.starts_with("NOPERM") => {
                tracing::debug!(why, "Redis does not report its version in this way");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(version)
}

/// Checks that a version of Redis is supported.
///
/// # Errors
/// [`Error::Unsupported`] if it is too old or can't be read.
pub fn check_version(version: &str) -> Result<(), Error> {
    match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major >= VERSION_MIN => Ok(()),
        _ => Err(Error::Unsupported(format!(
            "redis_url: Redis {VERSION_MIN} or later is needed, and this one is {version}"
        ))),
    }
}

/// Reads the version out of an answer to INFO, which is text, or to HELLO, which is a list or a map of names and values.
fn version_in(answer: Value) -> Option<String> {
    let version = match answer {
        Value::Array(fields) => fields
            .chunks(2)
            .find(|pair| pair[0].as_str().as_deref() == Some("version"))
            .and_then(|pair| pair.get(1)?.as_string()),
        Value::Map(fields) => fields.get(&"version".into()).and_then(Value::as_string),
        text => text.as_str().and_then(|text| {
            text.lines().find_map(|line| line.strip_prefix("redis_version:").map(str::to_owned))
        }),
    };
    version.map(|version| version.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_out_of_either_answer() {
        let info = Value::from("# Server\r\nredis_version:7.2.4\r\nredis_mode:standalone\r\n");
        assert_eq!(version_in(info).as_deref(), Some("7.2.4"));
        let hello = ["server", "redis", "version", "8.0.1"].map(Value::from_static_str);
        assert_eq!(version_in(Value::Array(hello.into())).as_deref(), Some("8.0.1"));
        assert_eq!(version_in(Value::from_static_str("OK")), None);
    }

    #[test]
    fn an_old_version_is_refused() {
        assert!(check_version("7.0.0").is_ok() && check_version("10.1").is_ok());
        for version in ["6.2.14", "", "unknown"] {
            assert!(matches!(check_version(version), Err(Error::Unsupported(_))), "{version}");
        }
    }
}
