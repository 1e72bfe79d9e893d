//! Waiting for conditions, never for time; but not for ever.

use std::time::Duration;

/// How long anything may take before the test is given up: far more than it ever should.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what cannot be waited on.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The outcome of `work`, which must come within half a minute.
///
/// # Panics
/// When it does not.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("waited for {} s: {what}", PATIENCE.as_secs()),
    }
}

/// Looks until there is something, for half a minute.
///
/// # Panics
/// When there is nothing for so long.
pub async fn poll<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await
}
