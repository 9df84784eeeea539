//! Essential tasks: a node without one of them can't work.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Starts an essential task on `runtime`, and ends the node if the task panics. Without its append lane or its beat, a node would go on
/// taking clients and report that it is healthy. The clients are better off on another node.
#[expect(clippy::disallowed_methods, reason = "this is what replaces it")]
pub fn spawn<T: Send + 'static>(
    runtime: &Handle,
    task: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    runtime.spawn(async move {
        if let Ok(done) = AssertUnwindSafe(work).catch_unwind().await {
            return done;
        }
        tracing::error!(task, "a task has failed; the node ends, so that its clients resume elsewhere");
        starling_telemetry::flush_before_abort();
        std::process::abort();
    })
}

#[cfg(test)]
mod tests {
    use starling_model::{TenantName, TopicName};
    use std::process::Command;
    use std::sync::Arc;
    use std::time::Duration;

    use async_trait::async_trait;
    use bytes::Bytes;
    use starling_fanout::memory::MemoryFanout;
    use starling_fanout::{
        Error, Fanout, LinkStatus, Position, Publication, Receiver, TopicHistory, TopicPublication,
        TopicSettings,
    };

    use crate::testing;

    /// The variable that names the call of the fan-out that must panic.
    const FAULT: &str = "STARLING_TEST_FAULT";

    #[test]
    fn a_node_whose_lane_or_loop_panics_ends() {
        for fault in ["publish", "probe"] {
            let mut child = Command::new(std::env::current_exe().expect("this program"));
            let child = child.args(["--exact", "essential::tests::a_node_with_a_fault", "--nocapture"]);
            let output = child.env(FAULT, fault).output().expect("the same program again");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(&format!("a fault of {fault}")), "{said}");
            // There is no exit status, since the process ended by a signal.
            assert_eq!(output.status.code(), None, "{fault}: {said}");
        }
    }

    /// The process that the test above starts. It does nothing on its own.
    #[tokio::test]
    async fn a_node_with_a_fault() {
        let Ok(fault) = std::env::var(FAULT) else { return };
        let sound = MemoryFanout::alone("a", TopicSettings { history: 1, history_seconds: 1 });
        let hub = testing::hub(|_| {}, Arc::new(Faulty { fault, sound })).await;
        hub.start().await.expect("a start");
        // This is far longer than needed. If the node does not end by then, the test above fails.
        tokio::time::sleep(Duration::from_secs(60)).await;
    }

    /// A fan-out with a fault that it should not have.
    struct Faulty {
        fault: String,
        sound: Arc<dyn Fanout>,
    }

    impl Faulty {
        fn enter(&self, call: &str) {
            assert!(self.fault != call, "a fault of {call}");
        }
    }

    #[async_trait]
    impl Fanout for Faulty {
        async fn start(&self, receiver: Arc<dyn Receiver>) -> Result<(), Error> {
            self.sound.start(receiver).await
        }
        async fn publish(&self, _batch: &[Publication]) -> Result<(), Error> {
            self.enter("publish");
            Ok(())
        }
        async fn publish_to(&self, node: &str, body: Bytes) -> Result<(), Error> {
            self.sound.publish_to(node, body).await
        }
        async fn publish_topics(&self, batch: &[TopicPublication]) -> Vec<Result<Position, Error>> {
            self.sound.publish_topics(batch).await
        }
        async fn topic_history(
            &self,
            tenant: &TenantName,
            topic: &TopicName,
            since: Option<&Position>,
        ) -> Result<TopicHistory, Error> {
            self.sound.topic_history(tenant, topic, since).await
        }
        async fn probe(&self, _nonce: u64) -> Result<(), Error> {
            self.enter("probe");
            Ok(())
        }
        async fn reconnect(&self) {}
        fn link(&self) -> Option<LinkStatus> {
            Some(LinkStatus { connected: true, subscribed: true, fault: None })
        }
    }
}
