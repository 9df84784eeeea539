//! What the process needs before any part of it can work.

use anyhow::Context;
use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::output::warn;

/// Most threads for the database, Redis and HTTP's waiting. Sockets have threads of their own. With a single processor there is one: a
/// second would only add switches between the two.
const CONTROL_THREADS_MAX: usize = 2;
/// The most open files that are asked for. Each connection is one.
const FILES_MAX: u64 = 1_048_576;

/// Makes the runtime of everything but sockets.
pub fn runtime() -> Result<Runtime, Failure> {
    let processors = std::thread::available_parallelism().map_or(CONTROL_THREADS_MAX, usize::from);
    let threads = processors.min(CONTROL_THREADS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("control")
        .enable_all()
        .build()
        .context("the runtime can't be started")?;
    Ok(runtime)
}

/// Installs the one provider of cryptography for everything that speaks TLS.
pub fn use_crypto() {
    // An error means that one is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Raises the limit of open files as far as the system allows.
pub fn raise_file_limit() {
    if let Ok((_, hard)) = rlimit::Resource::NOFILE.get()
        && let Err(error) = rlimit::Resource::NOFILE.set(hard.min(FILES_MAX), hard)
    {
        warn(&format!("warning: the limit of open files could not be raised: {error}"));
    }
}
