//! A small Redis client, so that tests do not depend on the one under test.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one command may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest string and the longest array that is read.
const LENGTH_MAX: usize = 64 << 20;

/// A reply of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// No value.
    Nil,
    /// A number.
    Integer(i64),
    /// A string, simple or bulk.
    Text(String),
    /// An array of replies.
    Array(Vec<Reply>),
}

impl Reply {
    /// The string, or the number as one; empty for anything else.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Nil | Self::Array(_) => String::new(),
        }
    }

    /// The strings of an array; empty for anything else.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Array(items) => items.iter().map(Self::text).collect(),
            _ => Vec::new(),
        }
    }

    /// The number, also where it stands in a string.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
            Self::Nil | Self::Array(_) => None,
        }
    }
}

/// Runs one command on a connection of its own.
///
/// # Errors
/// When the server can't be reached, does not answer within ten seconds, or answers with an error.
pub async fn call(address: SocketAddr, command: &[&str]) -> Result<Reply> {
    let exchange = async {
        let stream = TcpStream::connect(address).await.context("connect")?;
        let mut stream = BufReader::new(stream);
        stream.write_all(&encode(command)).await?;
        read(&mut stream).await
    };
    let reply = timeout(LIMIT, exchange).await.context("no answer in time").and_then(|reply| reply);
    reply.with_context(|| format!("Redis at {address}: {}", command.join(" ")))
}

fn encode(command: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

async fn read(stream: &mut BufReader<TcpStream>) -> Result<Reply> {
    let mut line = String::new();
    ensure!(stream.read_line(&mut line).await? > 0, "the connection was closed");
    let line = line.trim_end();
    let (kind, rest) = line.split_at_checked(1).context("an empty answer")?;
    match kind {
        "+" => Ok(Reply::Text(rest.to_owned())),
        "-" => bail!("{rest}"),
        ":" => Ok(Reply::Integer(rest.parse()?)),
        "$" | "*" if rest == "-1" => Ok(Reply::Nil),
        "$" => {
            let mut bytes = vec![0; length(rest)? + 2];
            stream.read_exact(&mut bytes).await?;
            bytes.truncate(bytes.len() - 2);
            Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
        }
        "*" => {
            let mut items = Vec::new();
            for _ in 0..length(rest)? {
                items.push(Box::pin(read(stream)).await?);
            }
            Ok(Reply::Array(items))
        }
        _ => bail!("an answer that is none: {line}"),
    }
}

fn length(text: &str) -> Result<usize> {
    let length = text.parse()?;
    ensure!(length <= LENGTH_MAX, "an answer of length {length}");
    Ok(length)
}
