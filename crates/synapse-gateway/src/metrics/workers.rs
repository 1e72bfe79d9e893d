//! What is counted of workers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use synapse_tunnel::gateway::{Counters, Session};

use super::{EventLabel, GroupLabel, Label, Metrics, WorkerLabel};

/// The groups and workers whose series exist.
#[derive(Default)]
pub(crate) struct Seen {
    groups: BTreeMap<Arc<str>, i64>,
    workers: BTreeSet<String>,
}

impl Metrics {
    /// Counts the workers that are in; a group without one stays, at zero.
    pub(crate) fn count_workers(&self, seen: &mut Seen, sessions: &[Session], counters: &Counters) {
        seen.groups.values_mut().for_each(|count| *count = 0);
        let mut gone = std::mem::take(&mut seen.workers);
        for session in sessions {
            let identity = session.identity();
            *seen.groups.entry(Arc::clone(&identity.group)).or_default() += 1;
            let name = identity.to_string();
            gone.remove(&name);
            let worker = WorkerLabel { worker: Label::from(name.as_str()) };
            self.tunnel_streams.get_or_create(&worker).set(session.in_flight().into());
            seen.workers.insert(name);
        }
        for name in gone {
            self.tunnel_streams.remove(&WorkerLabel { worker: Label::from(name) });
        }
        for (group, count) in &seen.groups {
            self.workers_connected.get_or_create(&GroupLabel { group: Label(Arc::clone(group)) }).set(*count);
        }
        self.count_sessions(counters);
    }

    fn count_sessions(&self, counters: &Counters) {
        let events: [(&'static str, &AtomicU64); 7] = [
            ("welcomed", &counters.welcomed),
            ("refused", &counters.refused),
            ("turned_away", &counters.turned_away),
            ("superseded", &counters.superseded),
            ("revoked", &counters.revoked),
            ("lost", &counters.lost),
            ("flapping", &counters.flapping),
        ];
        for (event, count) in events {
            let counter = self.worker_sessions.get_or_create_owned(&EventLabel { event });
            counter.inner().store(count.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}
