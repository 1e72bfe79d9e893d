//! Work that goes on until it is asked to end, and then brings its task to an end itself.

use std::future::Future;

use synapse_gateway::tasks;
use tokio::sync::watch;

/// Such work.
pub(super) struct Work {
    stop: watch::Sender<bool>,
    done: watch::Receiver<bool>,
    _task: tasks::TaskGuard,
}

impl Work {
    /// Begins it; it is told by what it is given when to end.
    pub(super) fn begin<F: Future<Output = ()> + Send + 'static>(
        name: &'static str,
        work: impl FnOnce(watch::Receiver<bool>) -> F,
    ) -> Self {
        let (stop, stopping) = watch::channel(false);
        let (has_done, done) = watch::channel(false);
        let work = work(stopping);
        let work = async move {
            work.await;
            has_done.send_replace(true);
        };
        Self { stop, done, _task: tasks::spawn(name, work) }
    }

    /// Asks it to end, and waits until it has.
    pub(super) async fn finish(&mut self) {
        self.stop.send_replace(true);
        // Work that is gone has nothing more to do.
        let _gone = self.done.wait_for(|done| *done).await;
    }
}

/// Waits until work is asked to end.
pub(super) async fn asked_to(stop: &mut watch::Receiver<bool>) {
    // Nobody who could ask is as good as being asked.
    let _asked = stop.wait_for(|stop| *stop).await;
}
