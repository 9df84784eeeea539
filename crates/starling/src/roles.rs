//! The roles of a node: which parts of the program it runs.

use std::fmt;

/// The roles of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// It takes clients: the public port, sockets, and everything that commands need.
    pub gateway: bool,
    /// It works in the background for the whole cluster.
    pub worker: bool,
}

impl Roles {
    /// The name of the role that takes clients.
    const GATEWAY: &str = "gateway";
    /// The name of the role that works in the background.
    const WORKER: &str = "worker";
    /// All roles, as they are written.
    pub const ALL: &str = "gateway,worker";

    /// Reads a list of roles with commas between them.
    pub fn parse(text: &str) -> Result<Roles, String> {
        let mut roles = Roles { gateway: false, worker: false };
        for role in starling_settings::elements(text) {
            match role {
                Roles::GATEWAY => roles.gateway = true,
                Roles::WORKER => roles.worker = true,
                _ => return Err(format!("`{role}` is not a role; the roles are {}", Roles::ALL)),
            }
        }
        if roles.gateway || roles.worker {
            return Ok(roles);
        }
        Err(format!("names no role; the roles are {}", Roles::ALL))
    }

    /// Returns the names of the roles.
    pub fn names(self) -> Vec<&'static str> {
        let named = [(self.gateway, Roles::GATEWAY), (self.worker, Roles::WORKER)];
        named.into_iter().filter_map(|(is, name)| is.then_some(name)).collect()
    }
}

impl Default for Roles {
    fn default() -> Roles {
        Roles { gateway: true, worker: true }
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_in_any_order_and_written_in_one() {
        for (text, written) in [
            ("gateway", "gateway"),
            (" worker ", "worker"),
            ("worker,gateway", Roles::ALL),
            ("gateway,,gateway", "gateway"),
        ] {
            assert_eq!(Roles::parse(text).map(|roles| roles.to_string()).as_deref(), Ok(written));
        }
        assert_eq!(Roles::parse(Roles::ALL), Ok(Roles::default()));
    }

    #[test]
    fn an_unknown_role_and_no_role_are_refused() {
        for (text, why) in
            [("gateway,jobs", "`jobs` is not a role"), ("", "names no role"), (",", "names no role")]
        {
            assert!(Roles::parse(text).expect_err("bad").starts_with(why));
        }
    }
}
