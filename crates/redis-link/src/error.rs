use fred::error::ErrorKind;

/// Why Redis could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Redis can't be reached or took too long. Try again.
    #[error("Redis is not available: {0}")]
    Unavailable(String),
    /// Redis refuses this node: a wrong user or password, or a missing right. The operator has to act.
    #[error("Redis refuses this node: {0}")]
    Refused(String),
    /// The address in `REDIS_URL` can't be used. The operator has to act.
    #[error("redis_url: {0}")]
    Address(String),
    /// Redis is of a version that Starling can't use. The operator has to act.
    #[error("{0}")]
    Unsupported(String),
}

impl From<fred::error::Error> for Error {
    fn from(error: fred::error::Error) -> Error {
        match Fault::of(&error) {
            Fault::Refusal => Error::Refused(error.details().to_owned()),
            _ => Error::Unavailable(error.to_string()),
        }
    }
}

/// What an error of a command says about Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Redis refuses this node itself: a wrong user or password, or a missing right.
    Refusal,
    /// Redis has reached `maxmemory` and evicts nothing.
    Full,
    /// The server is a master that has become a replica: it stays connected and refuses to write.
    ReadOnly,
    /// The server does not know a script by its hash.
    UnknownScript,
    /// The key holds something else than the command expects. Other keys are not affected.
    WrongType,
    /// The answer did not come in time.
    Timeout,
    /// Anything else.
    Other,
}

impl Fault {
    /// Classifies an error of a client or of a server.
    pub fn of(error: &fred::error::Error) -> Fault {
        let details = error.details();
        let begins = |code: &str| details.starts_with(code);
        if ["WRONGPASS", "NOAUTH", "NOPERM"].into_iter().any(begins)
            || details.contains("ACL failure in script")
            || details.contains("The user executing the script can't")
            || details.contains("called without any password configured")
        {
            return Fault::Refusal;
        }
        match error.kind() {
            ErrorKind::Timeout => Fault::Timeout,
            _ if begins("READONLY") => Fault::ReadOnly,
            _ if begins("NOSCRIPT") => Fault::UnknownScript,
            // Redis puts a script's own error inside another one.
            _ if details.contains("OOM command not allowed") => Fault::Full,
            _ if details.contains("WRONGTYPE") => Fault::WrongType,
            _ => Fault::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_their_codes() {
        let of = |kind, details: &'static str| Fault::of(&fred::error::Error::new(kind, details));
        for (details, fault) in [
            ("WRONGPASS invalid username-password pair", Fault::Refusal),
            ("NOPERM this user has no permissions", Fault::Refusal),
            ("ERR ACL failure in script: User n has no permissions", Fault::Refusal),
            ("OOM command not allowed when used memory > 'maxmemory'", Fault::Full),
            ("ERR Error running script: -OOM command not allowed", Fault::Full),
            ("READONLY You can't write against a read only replica.", Fault::ReadOnly),
            ("NOSCRIPT No matching script.", Fault::UnknownScript),
            ("WRONGTYPE Operation against a key", Fault::WrongType),
            ("ERR unknown command", Fault::Other),
        ] {
            assert_eq!(of(ErrorKind::Unknown, details), fault, "{details}");
        }
        assert_eq!(of(ErrorKind::Timeout, "Request timed out."), Fault::Timeout);
    }

    #[test]
    fn only_a_refusal_is_one() {
        let error = |details: &'static str| Error::from(fred::error::Error::new(ErrorKind::Auth, details));
        assert_eq!(
            error("NOAUTH Authentication required."),
            Error::Refused("NOAUTH Authentication required.".into())
        );
        assert!(matches!(error("LOADING Redis is loading"), Error::Unavailable(_)));
    }
}
