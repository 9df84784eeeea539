//! What a newcomer sees: links to open, with tokens.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use starling_auth::sign_hs256;

use crate::cli::SCOPE;

/// How long the printed tokens are valid, seconds: a day of trying out.
const TTL_SECONDS: u64 = 86_400;

/// Prints links for two people. Only for a node that serves alone with a secret of its own.
pub fn print(secret: &[u8], address: SocketAddr, tls: bool) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let scheme = if tls { "https" } else { "http" };
    let host = if address.ip().is_unspecified() {
        format!("127.0.0.1:{}", address.port())
    } else {
        address.to_string()
    };
    let link = |user: &str, scope: &str| {
        let token = sign_hs256(secret, user, "default", scope, now_ms, TTL_SECONDS);
        format!("{scheme}://{host}/#token={token}")
    };
    let (bold, dim, end) =
        if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
    println!(
        "\n{bold}Starling serves on {scheme}://{host}{end}\n\n\
         Open this as alice, who may also see the nodes:\n\n  {}\n\n\
         and this in another window as bob:\n\n  {}\n\n\
         {dim}The links hold for a day. More: starling token --user carol{end}\n",
        link("alice", &format!("{SCOPE} admin")),
        link("bob", SCOPE),
    );
}
