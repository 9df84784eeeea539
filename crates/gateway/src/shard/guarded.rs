//! Tasks of a shard, whose panics end the node.

use std::pin::Pin;
use std::task::{Context, Poll};

/// Ends the node when a shard panics: a node with a dead shard, or one without its tick, would go on taking sockets for it and report that
/// it is healthy. Its clients are better off elsewhere.
pub(super) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a shard has failed; the node ends, so that its clients resume elsewhere");
            starling_telemetry::flush_before_abort();
            std::process::abort();
        }
    }
}

/// Starts a task of this shard. A panic in it ends the node, as one of the shard itself does: Tokio would catch it and say nothing.
pub(crate) fn spawn_guarded(work: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(Guarded { work });
}

pin_project_lite::pin_project! {
    /// An `async` block would keep its future twice, and there is one for each connection.
    struct Guarded<F> {
        #[pin]
        work: F,
    }
}

impl<F: Future> Future for Guarded<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _ends_the_node = AbortOnPanic;
        self.project().work.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use tokio::task::LocalSet;

    use super::*;

    /// The variable that lets the test below panic.
    const FAULT: &str = "STARLING_TEST_FAULT_OF_A_SHARD";

    #[test]
    fn a_process_whose_shard_has_a_task_that_panics_ends() {
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        let child = child.args(["--exact", "shard::guarded::tests::a_shard_with_a_fault", "--nocapture"]);
        let output = child.env(FAULT, "1").output().expect("the same program again");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("a fault of the task"), "{said}");
        // There is no exit status, since the process ended by a signal.
        assert_eq!(output.status.code(), None, "{said}");
    }

    /// The process that the test above starts. It does nothing on its own.
    #[tokio::test]
    async fn a_shard_with_a_fault() {
        if std::env::var(FAULT).is_err() {
            return;
        }
        let shard = LocalSet::new();
        shard.spawn_local(async { spawn_guarded(async { panic!("a fault of the task") }) });
        // This is far longer than needed. If the process does not end by then, the test above fails.
        let _ = tokio::time::timeout(Duration::from_secs(60), shard.run_until(std::future::pending::<()>()))
            .await;
    }
}
