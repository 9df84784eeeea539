//! The user that a server runs as.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result};

/// A user of this machine, for servers that refuse to run as root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// The user for servers that refuse to run as root. `None` if this process is not root: they run as its own user.
    pub(crate) fn for_servers() -> Result<Option<Self>> {
        if !is_root()? {
            return Ok(None);
        }
        let accounts = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        let user = ["postgres", "nobody"].iter().find_map(|name| Self::parse(&accounts, name));
        user.map(Some).context("neither a user postgres nor a user nobody is on this machine")
    }

    pub(crate) fn setpriv_args(&self) -> Vec<String> {
        vec![format!("--reuid={}", self.uid), format!("--regid={}", self.gid), "--clear-groups".to_owned()]
    }

    fn parse(accounts: &str, name: &str) -> Option<Self> {
        let mut fields =
            accounts.lines().map(|line| line.split(':')).find(|line| line.clone().next() == Some(name))?;
        let uid = fields.nth(2)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { uid, gid })
    }
}

fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self").context("read /proc")?.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read_from_the_accounts() {
        let accounts = "root:x:0:0::/root:/bin/sh\npostgres:x:105:113:,,,:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(User::parse(accounts, "postgres"), Some(User { uid: 105, gid: 113 }));
        assert_eq!(User::parse(accounts, "nobody"), None);
    }
}
