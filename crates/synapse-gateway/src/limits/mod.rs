//! What keys and teams may spend: a request reserves before anything is done for it, and its record settles.
//! Where counting happens (here, or in Redis with others) is decided here, and nowhere else.

mod headers;
mod keep;
mod memory;
mod refusal;
mod shared;
mod tally;
#[cfg(test)]
mod tests;
mod ticket;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use synapse_core::{
    config::snapshot::OnRedisFailure,
    ledger::{Amounts, Meter, Reading, Scope, meters},
    principal::Principal,
    store::ledger::SharedLedger,
};

use crate::{metrics::Metrics, tasks::TaskGuard};
pub use headers::Standing;
pub use memory::MemoryLedger;
pub(crate) use refusal::{over, unavailable};
use shared::Shared;
pub use ticket::Ticket;

/// The meters of a caller: its key's, then its team's. Most have none.
pub fn meters_of(caller: &Principal) -> Vec<Meter> {
    let mut found = Vec::new();
    if !caller.binding.limits.is_empty() {
        meters(&Scope::Key(caller.key.clone()), &caller.binding.limits, &mut found);
    }
    if !caller.team_limits.is_empty() {
        meters(&Scope::Team(caller.team.clone()), &caller.team_limits, &mut found);
    }
    found
}

/// Why a request may not go on.
#[derive(Debug)]
pub enum Denied {
    /// It is over a limit.
    Over {
        /// What was to be counted where.
        meters: Vec<Meter>,
        /// The meter that has no room.
        meter: usize,
        /// When it will have some, in milliseconds.
        wait_ms: Option<u64>,
        /// How all of them stand.
        readings: Vec<Reading>,
    },
    /// The shared counters cannot be reached.
    Unavailable,
}

/// Counts what is spent.
pub struct Limiter {
    memory: MemoryLedger,
    shared: OnceLock<Arc<Shared>>,
    /// Tells the tickets of this process from those of others.
    process: u64,
    tickets: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Limiter {
    /// One that counts in memory. `instance` is this process's own name.
    pub fn new(instance: &str, metrics: Arc<Metrics>) -> Arc<Self> {
        let mut hasher = DefaultHasher::new();
        instance.hash(&mut hasher);
        Arc::new(Self {
            memory: MemoryLedger::new(now_ms),
            shared: OnceLock::new(),
            process: hasher.finish(),
            tickets: AtomicU64::new(0),
            metrics,
        })
    }

    /// Counts together with others from now on, and for good. The guard keeps what that takes running.
    pub async fn share(&self, ledger: Arc<dyn SharedLedger>) -> Option<TaskGuard> {
        let (shared, errands) = Shared::new(ledger, Arc::clone(&self.metrics));
        shared.look().await;
        self.shared.set(Arc::clone(&shared)).ok()?;
        Some(crate::tasks::spawn("shared limits", shared.keep(errands)))
    }

    /// The counters of this process alone.
    pub fn memory(&self) -> &MemoryLedger {
        &self.memory
    }

    /// Waits until what was settled is known to those who share it, for a second at most.
    pub async fn flush(&self) {
        if let Some(shared) = self.shared.get() {
            shared.flush().await;
        }
    }

    /// Takes `amounts` from all `meters`, or from none; and says how the caller stands then.
    ///
    /// # Errors
    /// When one of them has no room, or nobody can tell.
    pub async fn reserve(
        self: &Arc<Self>,
        meters: Vec<Meter>,
        amounts: Amounts,
        on_failure: OnRedisFailure,
    ) -> Result<(Ticket, Standing), Denied> {
        if let Some(shared) = self.shared.get() {
            if let Some(turn) = shared.turn().await {
                let number = self.tickets.fetch_add(1, Ordering::Relaxed);
                let id = u128::from(self.process) << 64 | u128::from(number);
                // Made before it is known what comes of it: whoever leaves meanwhile leaves nothing behind.
                let ticket = Ticket::asked(Arc::clone(self), meters.clone(), amounts, id);
                if let Some(verdict) = shared.reserve(turn, id, &meters, &amounts).await {
                    return ticket.conclude(verdict);
                }
                // What was asked is taken back as soon as somebody can be told.
            }
            if on_failure == OnRedisFailure::Closed {
                return Err(Denied::Unavailable);
            }
        }
        self.reserve_here(meters, amounts)
    }

    fn reserve_here(
        self: &Arc<Self>,
        meters: Vec<Meter>,
        amounts: Amounts,
    ) -> Result<(Ticket, Standing), Denied> {
        let verdict = self.memory.reserve(&meters, &amounts);
        Ticket::counted_here(Arc::clone(self), meters, amounts).conclude(verdict)
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
