//! The commands that a person types: `kubectl` and `helm`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use starling_deployment::repository;
use starling_testkit::programs;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The longest time that a single command may take.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// A program that is called with different arguments.
#[derive(Clone, Debug)]
pub struct Tool {
    program: PathBuf,
}

impl Tool {
    /// Finds the program.
    pub fn find(name: &str) -> Result<Self> {
        Ok(Self { program: programs::find(name)? })
    }

    /// Runs it in the root of the repository, and returns what it printed.
    pub async fn run<S: AsRef<str>>(&self, arguments: &[S]) -> Result<String> {
        self.run_with(arguments, "").await
    }

    /// Runs it with an input.
    pub async fn run_with<S: AsRef<str>>(&self, arguments: &[S], input: &str) -> Result<String> {
        let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        let name = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let shown = || format!("{name} {}", arguments.join(" "));
        let mut command = Command::new(&self.program);
        command.args(&arguments).current_dir(repository("")).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(shown)?;
        let mut stdin = child.stdin.take().context("the input of a command")?;
        // A command that fails early does not read its input.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let ended = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
        let output = ended.with_context(|| format!("{} takes longer than {LIMIT:?}", shown()))??;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{} failed: {}: {}", shown(), output.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it, and reads what it printed as JSON.
    pub async fn json<S: AsRef<str>>(&self, arguments: &[S]) -> Result<Value> {
        let text = self.run(arguments).await?;
        serde_json::from_str(&text).context("the output is not JSON")
    }
}
