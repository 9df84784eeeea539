//! What a check does over its connections.

use anyhow::{Context, anyhow};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use starling_trust::{Authorities, Trust};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::progress::{Progress, STEP_LIMIT, Wrong};
use super::session::Session;
use crate::failure::Failure;
use crate::outbound::{Answer, NodeAddress, Request, Stream, connect, secure};

/// What the names of a check's conversations begin with.
const CONVERSATION: &str = "starling-check";

/// What a check does over its connections.
pub struct Talk {
    address: NodeAddress,
    token: String,
    conversation: String,
    /// Whether the conversation may exist, and has to be deleted.
    made: bool,
}

impl Talk {
    /// A talk with the node at this address, in a conversation of its own.
    pub fn new(address: NodeAddress, token: String) -> Talk {
        let conversation = format!("{CONVERSATION}-{:016x}", rand::random::<u64>());
        Talk { address, token, conversation, made: false }
    }

    /// Sends a message, reads it, and reads it again over another connection, which may lead to another node.
    pub async fn through(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        let stream = progress.step("connect", reached(&self.address)).await?;
        let stream = match self.address.tls {
            true => progress.step("tls", secured(stream, &self.address)).await?,
            false => Box::new(stream),
        };
        let mut first = progress.step("upgrade", upgraded(stream, &self.address)).await?;
        progress.step("session", begun(&mut first, &self.token)).await?;
        self.made = true;
        progress.step("create", created(&mut first, &self.conversation)).await?;
        let content = format!("{:016x}", rand::random::<u64>());
        let id = progress.step("send", sent(&mut first, &self.conversation, &content)).await?;
        progress.step("receive", received(&mut first, &id, &content)).await?;
        let (address, token, conversation) = (&self.address, &self.token, &self.conversation);
        let mut second = progress.step("again", another(address, token)).await?;
        progress.step("read", read(&mut second, conversation, &id, &content)).await?;
        // Closing is polite, and is not waited for.
        let _ = timeout(STEP_LIMIT, async { tokio::join!(first.close(), second.close()) }).await;
        Ok(())
    }

    /// Deletes the conversation if it may exist.
    pub async fn clean_up(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        if !std::mem::take(&mut self.made) {
            return Ok(());
        }
        progress.step("clean up", deleted(&self.address, &self.token, &self.conversation)).await
    }
}

async fn reached(address: &NodeAddress) -> Result<(TcpStream, String), Wrong> {
    let stream = connect(address).await.map_err(|error| {
        Wrong::new(error.to_string(), "nothing listens there, or a firewall or a name leads elsewhere")
    })?;
    let peer = stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
    Ok((stream, peer))
}

async fn secured(stream: TcpStream, address: &NodeAddress) -> Result<(Box<dyn Stream>, String), Wrong> {
    let trust = Trust::AuthorityAndName(Authorities::System);
    let stream = secure(stream, address, trust).await.map_err(|error| {
        Wrong::new(format!("{error:#}"), "for an authority of your own, set SSL_CERT_FILE to its certificate")
    })?;
    Ok((stream, format!("the certificate is good for {}", address.host)))
}

async fn upgraded(stream: Box<dyn Stream>, address: &NodeAddress) -> Result<(Session, String), Wrong> {
    Ok((Session::upgrade(stream, address).await?, "a WebSocket".to_owned()))
}

async fn begun(session: &mut Session, token: &str) -> Result<((), String), Wrong> {
    let welcome = session.command("connect", json!({ "token": token })).await?;
    let text = |key: &str| welcome[key].as_str().unwrap_or("?").to_owned();
    Ok(((), format!("{} of {}, on {}", text("user"), text("tenant"), text("node"))))
}

async fn created(session: &mut Session, conversation: &str) -> Result<((), String), Wrong> {
    session.command("create", json!({ "conversation": conversation })).await?;
    session.command("join", json!({ "conversation": conversation })).await?;
    Ok(((), conversation.to_owned()))
}

async fn sent(session: &mut Session, conversation: &str, content: &str) -> Result<(Value, String), Wrong> {
    let message = json!({ "conversation": conversation, "key": "check", "content": content });
    let mut sent = session.command("send", message).await?;
    if sent["seq"] != 1 {
        return Err(anyhow!("the first message has the number {}", sent["seq"]).into());
    }
    Ok((sent["id"].take(), "committed to the log".to_owned()))
}

async fn received(session: &mut Session, id: &Value, content: &str) -> Result<((), String), Wrong> {
    let message = session.message(id).await?;
    if message["content"] != content {
        return Err(anyhow!("the message arrived with another content").into());
    }
    Ok(((), "as an event".to_owned()))
}

/// Opens another connection. A load balancer may lead it to another node.
async fn another(address: &NodeAddress, token: &str) -> Result<(Session, String), Wrong> {
    let (stream, _) = reached(address).await?;
    let (stream, _) = secured(stream, address).await?;
    let mut session = Session::upgrade(stream, address).await?;
    let ((), found) = begun(&mut session, token).await?;
    Ok((session, found))
}

async fn read(
    session: &mut Session,
    conversation: &str,
    id: &Value,
    content: &str,
) -> Result<((), String), Wrong> {
    session.command("join", json!({ "conversation": conversation, "after": 0 })).await?;
    received(session, id, content).await?;
    Ok(((), "from the log".to_owned()))
}

async fn deleted(address: &NodeAddress, token: &str, conversation: &str) -> Result<((), String), Wrong> {
    let (stream, _) = reached(address).await?;
    let (stream, _) = secured(stream, address).await?;
    let path = address.path(&format!("/v1/conversations/{conversation}"));
    let (authority, path) = (&address.authority(), path.as_str());
    let request = Request { method: Method::DELETE, authority, path, token: Some(token) };
    let Answer { status, body } = request.send(stream).await.context("over HTTP")?;
    match status {
        StatusCode::NO_CONTENT => Ok(((), "the conversation is deleted".to_owned())),
        // It was not made, after all.
        StatusCode::NOT_FOUND if serde_json::from_slice::<Value>(&body).is_ok() => {
            Ok(((), "there is nothing to delete".to_owned()))
        }
        status => Err(Wrong::new(
            format!("DELETE {path}: HTTP {}", status.as_u16()),
            format!(
                "the conversation {conversation} is left; the load balancer must pass /v1/ on, with DELETE"
            ),
        )),
    }
}
