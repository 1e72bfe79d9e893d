//! Background work: the one place that starts tasks, so that each has a name and an end.

use std::{future::Future, pin::Pin};

use tokio::task::{AbortHandle, JoinError};

/// Stops its task when dropped.
#[derive(Debug)]
#[must_use = "dropping the guard stops the task"]
pub struct TaskGuard(AbortHandle);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts `work` on the current runtime; a panic in it is logged under `name`.
pub fn spawn(name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> TaskGuard {
    TaskGuard(start(name, work))
}

/// Starts `work` that ends by itself, such as a connection.
pub fn detach(name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    let _handle = start(name, work);
}

/// Does `work` that may make its thread wait, on a thread for such work.
pub async fn block<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime ends before it could begin, and whoever waits here ends with it.
        Err(Err(_)) => std::future::pending().await,
    }
}

/// Begins the same at once, whether or not anybody waits for it, and gives what waits: for `None`, where the runtime
/// ends first. Gives the work back where there is no runtime.
pub fn begin_block<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
    work: W,
) -> Result<Pin<Box<dyn Future<Output = Option<T>> + Send>>, W> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => {
            let done = runtime.spawn_blocking(work);
            Ok(Box::pin(async move { done.await.ok() }))
        }
        Err(_) => Err(work),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the place that the rule points to")]
fn start(name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    tokio::spawn(async move {
        let _named = PanicReport(name);
        work.await;
    })
    .abort_handle()
}

struct PanicReport(&'static str);

impl Drop for PanicReport {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.0, "a task panicked");
        }
    }
}
