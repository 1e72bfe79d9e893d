//! The gateway processes that this worker is connected to: one session to each, by whatever address it
//! was found.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// The replicas with a session.
#[derive(Clone, Default)]
pub(super) struct Replicas(Arc<Shared>);

struct Shared {
    claimed: Mutex<HashSet<String>>,
    /// Grows whenever a session was lost that another address may take the place of.
    lost: watch::Sender<u64>,
    /// Another worker has this one's name: nobody dials before that.
    yields_until: Mutex<Option<Instant>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { claimed: Mutex::default(), lost: watch::Sender::new(0), yields_until: Mutex::default() }
    }
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

    /// Tells when a session was lost.
    pub(super) fn losses(&self) -> watch::Receiver<u64> {
        self.0.lost.subscribe()
    }

    /// A session was lost.
    pub(super) fn note_loss(&self) {
        self.0.lost.send_modify(|number| *number += 1);
    }

    /// Another worker has taken this one's name; it is left alone with it, whatever the address.
    pub(super) fn give_way(&self, time: Duration) {
        *self.0.yields_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + time);
    }

    /// Waits for as long as this worker gives way to another.
    pub(super) async fn may_dial(&self) {
        let until = *self.0.yields_until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = until {
            sleep_until(until).await;
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.replicas.0.claimed.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.replica);
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
