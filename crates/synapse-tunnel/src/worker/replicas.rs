//! The gateway processes that this worker is connected to: one session to each, by whatever address it
//! was found.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

/// The replicas with a session.
#[derive(Clone, Default)]
pub(super) struct Replicas(Arc<Shared>);

#[derive(Default)]
struct Shared {
    claimed: Mutex<HashSet<String>>,
    released: Notify,
}

/// The right to be the session with a replica; given back when dropped.
pub(super) struct Claimed {
    replicas: Replicas,
    replica: String,
}

impl Replicas {
    /// The right to be the session with this replica, if there is none yet.
    pub(super) fn claim(&self, replica: &str) -> Option<Claimed> {
        let mut claimed = self.0.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed
            .insert(replica.to_owned())
            .then(|| Claimed { replicas: self.clone(), replica: replica.to_owned() })
    }

    /// Waits until a session with any replica has ended.
    pub(super) async fn released(&self) {
        self.0.released.notified().await;
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.replicas.0.claimed.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.replica);
        self.replicas.0.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_has_one_session_at_a_time() {
        let replicas = Replicas::default();
        let first = replicas.claim("a").expect("the first");
        assert!(replicas.claim("a").is_none());
        assert!(replicas.claim("b").is_some());
        drop(first);
        assert!(replicas.claim("a").is_some());
    }
}
