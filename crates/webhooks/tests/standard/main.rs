//! The convention's own libraries verify what Starling signs, and Starling verifies what they sign.
//!
//! `cargo xtask test --only install` installs the packages, in the versions of `crates/xtask/tools`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_testkit::programs;
use starling_webhooks::{Secret, SignedHeaders};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/standard");
const ID: &str = "0193a2b4-7c1d-7e3f-8a5b-123456789abc";
const BODY: &str = r#"{"type":"message.created","data":{"content":"Grüße, 世界 👋\n\"quoted\""}}"#;

#[test]
fn the_package_from_npm_and_starling_verify_each_other() -> Result<()> {
    let mut node = Command::new(programs::find("node")?);
    // The folder of tools has the program `helm4` in `bin`, and the npm packages beside that.
    let tools = programs::find("helm4")?;
    let tools = tools.ancestors().nth(2).context("the folder of tools")?;
    node.env("NODE_PATH", tools.join("npm/node_modules")).arg(Path::new(SCRIPTS).join("library.cjs"));
    verify_each_other(&mut node)
}

#[test]
fn the_package_from_pypi_and_starling_verify_each_other() -> Result<()> {
    let mut python = Command::new(programs::find("python3")?);
    verify_each_other(python.arg(Path::new(SCRIPTS).join("library.py")))
}

fn verify_each_other(library: &mut Command) -> Result<()> {
    let (old, new, foreign) = (Secret::generate(), Secret::generate(), Secret::generate());
    let now = SystemTime::now();
    let signed = SignedHeaders::sign(std::slice::from_ref(&new), ID, now, BODY.as_bytes());
    let rotating = SignedHeaders::sign(&[new.clone(), old.clone()], ID, now, BODY.as_bytes());
    let request = |secret: &Secret, headers: &SignedHeaders, body: &str| {
        json!({ "secret": secret.expose(), "id": headers.id, "timestamp": headers.timestamp,
            "signature": headers.signature, "body": body })
    };
    let late = SignedHeaders { timestamp: signed.timestamp - 301, ..signed.clone() };
    let requests = [
        (request(&new, &signed, BODY), true),
        (request(&new, &rotating, BODY), true),
        (request(&old, &rotating, BODY), true),
        (request(&foreign, &rotating, BODY), false),
        (request(&old, &signed, BODY), false),
        (request(&new, &signed, &BODY.replace("created", "deleted")), false),
        (request(&new, &late, BODY), false),
    ];
    let asked = json!({
        "requests": requests.iter().map(|(request, _)| request).collect::<Vec<_>>(),
        "sign": [{ "secret": old.expose(), "id": ID, "timestamp": signed.timestamp, "body": BODY }],
    });
    let answer = ask(library, &asked)?;
    for (place, (request, expected)) in requests.iter().enumerate() {
        ensure!(answer["verified"][place] == *expected, "{request}: {}", answer["verified"][place]);
    }
    let signature = answer["signed"][0].as_str().context("a signature")?.to_owned();
    let theirs = SignedHeaders { signature, ..signed };
    ensure!(theirs.verify(&old, now, BODY.as_bytes()).is_ok(), "{theirs:?}");
    ensure!(theirs.verify(&new, now, BODY.as_bytes()).is_err(), "another secret verifies it");
    Ok(())
}

/// Runs the script of a library with a question, and returns its answer.
fn ask(library: &mut Command, asked: &Value) -> Result<Value> {
    let mut child = library
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start it")?;
    child.stdin.take().context("its input")?.write_all(asked.to_string().as_bytes())?;
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{error}\n`cargo xtask test --only install` installs the packages");
    serde_json::from_slice(&output.stdout).context("read its answer")
}
