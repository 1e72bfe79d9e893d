//! Background work: the one place that starts tasks, so that each of them ends with whom it serves.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::task::JoinSet;

/// Tasks that end when this is dropped.
#[derive(Default)]
pub(crate) struct Tasks(Arc<Mutex<JoinSet<()>>>);

/// Starts tasks for as long as their owner lives. The tasks themselves may hold it.
#[derive(Clone)]
pub(crate) struct Starter(Weak<Mutex<JoinSet<()>>>);

impl Tasks {
    /// A way to start tasks.
    pub(crate) fn starter(&self) -> Starter {
        Starter(Arc::downgrade(&self.0))
    }
}

impl Starter {
    /// Starts `work` on the current runtime.
    pub(crate) fn start(&self, work: impl Future<Output = ()> + Send + 'static) {
        let Some(tasks) = self.0.upgrade() else { return };
        let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = tasks.try_join_next() {
            if ended.is_err_and(|error| error.is_panic()) {
                tracing::error!("a task of the tunnel panicked");
            }
        }
        tasks.spawn(work);
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Starter {
    fn execute(&self, work: F) {
        self.start(work);
    }
}
