//! The links with tokens that a node without configuration prints at its start.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use starling_auth::{ClaimNames, sign_claims};

use crate::cli::SCOPE;

/// How long the printed tokens are valid: a day of trying it out.
const TTL_SECONDS: u64 = 86_400;

/// Shows links for two people, with tokens, for a node that serves alone and signs with its own secret. They never go to the log:
/// without a terminal, output is likely kept. Tokens of a node that only this machine can reach are written all the same; for any
/// other node a line of the log tells how to make one.
pub fn show(secret: &[u8], claims: &ClaimNames, address: SocketAddr, tls: bool) {
    let scheme = if tls { "https" } else { "http" };
    let host = if address.ip().is_unspecified() {
        format!("127.0.0.1:{}", address.port())
    } else {
        address.to_string()
    };
    let url = format!("{scheme}://{host}");
    if !address.ip().is_loopback() {
        tracing::warn!(
            "other machines can reach this node, and it signs tokens with a secret that it made itself; set jwt_secret to one of \
             your own before you use it for more than a trial"
        );
    }
    // Output that can't be written is not missed.
    match place(stdout().is_terminal(), stderr().is_terminal(), address.ip().is_loopback()) {
        Place::Output => drop(stdout().write_all(links(secret, claims, &url, true).as_bytes())),
        Place::Error => {
            drop(stderr().write_all(links(secret, claims, &url, stderr().is_terminal()).as_bytes()));
        }
        Place::Log => tracing::info!(
            %url,
            "a page to try it out is served here; `starling token --user alice`, run in the same folder with the same \
             configuration, prints a token for it"
        ),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
    /// A line of the log, without tokens.
    Log,
}

fn place(output_is_terminal: bool, error_is_terminal: bool, only_this_machine: bool) -> Place {
    // Standard output may be a pipe or a file while somebody watches: `starling | tee log`.
    match (output_is_terminal, error_is_terminal || only_this_machine) {
        (true, _) => Place::Output,
        (false, true) => Place::Error,
        (false, false) => Place::Log,
    }
}

fn links(secret: &[u8], claims: &ClaimNames, url: &str, styled: bool) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let link = |user: &str, scope: &str| {
        let token = sign_claims(secret, &claims.of(user, "default", scope), now_ms, TTL_SECONDS);
        format!("{url}/#token={token}")
    };
    let (bold, dim, end) = if styled { ("\x1b[1m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
    format!(
        "\n{bold}Starling serves on {url}{end}\n\n\
         Open this as alice, who may also see the nodes:\n\n  {}\n\n\
         and this in another window as bob:\n\n  {}\n\n\
         {dim}The links hold for a day. More: starling token --user carol{end}\n\n",
        link("alice", &format!("{SCOPE} admin")),
        link("bob", SCOPE),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_shown_at_a_terminal_or_when_only_this_machine_can_use_them() {
        assert_eq!(place(true, true, false), Place::Output);
        assert_eq!(place(true, false, true), Place::Output);
        assert_eq!(place(false, true, false), Place::Error);
        assert_eq!(place(false, false, true), Place::Error);
        assert_eq!(place(false, false, false), Place::Log);
    }
}
