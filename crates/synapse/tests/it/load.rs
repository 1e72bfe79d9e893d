//! Load: callers who go on until told to stop.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use synapse_testkit::{Client, Gateway, within};
use tokio::{sync::watch, task::JoinSet};

/// Callers who go on until told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    served: watch::Sender<u64>,
    callers: JoinSet<u64>,
}

impl Load {
    /// This many callers of `m`, one request after the other.
    pub(crate) fn plain(gateway: &Gateway, callers: usize) -> Self {
        Self::of(gateway, callers, false)
    }

    /// The same, with every second request streamed.
    pub(crate) fn mixed(gateway: &Gateway, callers: usize) -> Self {
        Self::of(gateway, callers, true)
    }

    fn of(gateway: &Gateway, callers: usize, mixed: bool) -> Self {
        let (stop, served) = (Arc::<AtomicBool>::default(), watch::Sender::new(0));
        let mut load = Self { stop, served, callers: JoinSet::new() };
        for _ in 0..callers {
            let (stop, served) = (Arc::clone(&load.stop), load.served.clone());
            load.callers.spawn(call_until_told(gateway.client(), mixed, stop, served));
        }
        load
    }

    /// Waits until this many more requests have been served.
    pub(crate) async fn serves(&self, more: u64) {
        let mut served = self.served.subscribe();
        let goal = *served.borrow() + more;
        let reached = within("the load to be served", served.wait_for(|served| *served >= goal)).await;
        reached.expect("callers");
    }

    /// Stops it; how many requests failed, and of how many.
    pub(crate) async fn stop(mut self) -> (u64, u64) {
        self.stop.store(true, Ordering::SeqCst);
        let mut failed = 0;
        while let Some(caller) = self.callers.join_next().await {
            failed += caller.expect("a caller");
        }
        (failed, *self.served.borrow())
    }
}

async fn call_until_told(
    client: Client,
    mixed: bool,
    stop: Arc<AtomicBool>,
    served: watch::Sender<u64>,
) -> u64 {
    let mut failed = 0;
    while !stop.load(Ordering::SeqCst) {
        failed += u64::from(client.chat("m").await.status != 200);
        served.send_modify(|served| *served += 1);
        if mixed {
            failed += u64::from(!client.stream("m").await.is_done());
            served.send_modify(|served| *served += 1);
        }
    }
    failed
}
