//! How long what happened is kept, where the database has it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use synapse_core::store::StoreError;

/// How long incidents and alerts are kept.
const KEPT: SignedDuration = SignedDuration::from_hours(400 * 24);
/// Between two looks for old ones.
const FORGET_EVERY: Duration = Duration::from_secs(6 * 3600);

/// Forgets what is old enough, for as long as the gateway runs: `forget` forgets what was before a time, and gives how
/// much that was.
pub(crate) async fn forget_old(
    what: &'static str,
    forget: impl Fn(Timestamp) -> BoxFuture<'static, Result<u64, StoreError>> + Send,
) {
    loop {
        match Timestamp::now().checked_sub(KEPT) {
            Ok(end) => match forget(end).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(what, count, "what was old was forgotten"),
                Err(error) => tracing::warn!(what, %error, "what is old could not be forgotten"),
            },
            Err(error) => tracing::warn!(what, %error, "the clock is wrong: nothing is forgotten"),
        }
        tokio::time::sleep(FORGET_EVERY).await;
    }
}
