//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Interval between two checks of a condition.
const PAUSE: Duration = Duration::from_millis(10);

/// Checks until `condition` gives a value, and returns it.
///
/// # Errors
/// When `limit` has passed without one: `what`, and the last error that the condition met.
pub async fn until<T, F>(limit: Duration, what: &str, mut condition: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<Option<T>>,
{
    let deadline = Instant::now() + limit;
    let mut last = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("waited {limit:?} in vain for {what}{}", explain(last.as_ref()));
        }
        match tokio::time::timeout(left, condition()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => last = None,
            Ok(Err(error)) => last = Some(error),
            Err(_elapsed) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Checks until `condition` is true.
///
/// # Errors
/// When `limit` has passed and it still is not.
pub async fn until_true<F>(limit: Duration, what: &str, mut condition: F) -> Result<()>
where
    F: AsyncFnMut() -> Result<bool>,
{
    until(limit, what, async || Ok(condition().await?.then_some(()))).await
}

fn explain(last: Option<&anyhow::Error>) -> String {
    last.map(|error| format!("; last error: {error:#}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        let value = until(Duration::from_secs(5), "the third look", async || {
            looks += 1;
            Ok((looks == 3).then_some("there"))
        });
        assert_eq!(value.await.unwrap(), "there");
    }

    #[tokio::test]
    async fn a_wait_in_vain_names_what_was_awaited_and_the_last_error() {
        let error =
            until_true(Duration::from_millis(50), "rain", async || bail!("blue sky")).await.unwrap_err();
        assert!(error.to_string().contains("rain") && error.to_string().contains("blue sky"), "{error}");
    }

    #[tokio::test]
    async fn a_look_that_hangs_does_not_outlast_the_deadline() {
        let begun = Instant::now();
        let hangs = async || {
            std::future::pending::<()>().await;
            Ok(true)
        };
        until_true(Duration::from_millis(50), "nothing", hangs).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
