//! Going down gracefully: once draining, no new work is taken, and whoever waits is told when the
//! last open request has ended.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::watch;

/// The gateway's open work.
#[derive(Debug)]
pub struct Drain {
    draining: AtomicBool,
    expired: watch::Sender<bool>,
    /// The same, for those who ask often.
    is_over: AtomicBool,
    open: AtomicUsize,
    idle: tokio::sync::Notify,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            draining: AtomicBool::new(false),
            expired: watch::Sender::new(false),
            is_over: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            idle: tokio::sync::Notify::new(),
        }
    }
}

impl Drain {
    /// Takes no new work from now on.
    pub fn begin(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether no new work is taken.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Open requests.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Counts a request until the guard is dropped.
    pub fn enter(self: &std::sync::Arc<Self>) -> OpenRequest {
        self.open.fetch_add(1, Ordering::SeqCst);
        OpenRequest(std::sync::Arc::clone(self))
    }

    /// Waits for the last open request to end.
    pub async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            if self.open() == 0 {
                return;
            }
            notified.await;
        }
    }

    /// The grace period is over: streams still open end with an error event.
    pub fn expire(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.expired.send_replace(true);
    }

    /// Whether the grace period is over.
    pub fn is_expired(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Resolves when the grace period is over.
    pub fn expiry(&self) -> watch::Receiver<bool> {
        self.expired.subscribe()
    }
}

/// A request that is counted as open.
#[derive(Debug)]
pub struct OpenRequest(std::sync::Arc<Drain>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
