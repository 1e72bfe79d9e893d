//! The handle through which a test or a person watches and changes a running simulator, and the state
//! it shares with the server.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::behaviour::Behaviour;
use crate::ledger::{Counters, Ledger, Recorded};
use crate::options::Options;
use crate::residents::Residents;
use crate::tokens::Totals;

/// How far a simulator is on its way, which leads in one direction only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    Stopping,
    Killed,
}

/// What the server and every [`Control`] share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) behaviour: watch::Sender<Arc<Behaviour>>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) totals: Totals,
    pub(crate) residents: Residents,
    pub(crate) slots: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(options: Options) -> Self {
        let slots = options.slots.map_or(Semaphore::MAX_PERMITS, |slots| slots as usize);
        Self {
            behaviour: watch::Sender::new(Arc::new(options.behaviour())),
            phase: watch::Sender::new(Phase::Serving),
            ledger: Arc::new(Ledger::new(options.record)),
            totals: Totals::default(),
            residents: Residents::default(),
            slots: Arc::new(Semaphore::new(slots)),
            options,
        }
    }

    pub(crate) fn behaviour(&self) -> Arc<Behaviour> {
        Arc::clone(&self.behaviour.borrow())
    }
}

/// Watches and changes a simulator, also while it serves. Clones share the same simulator.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

impl Control {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The behaviour new requests meet.
    #[must_use]
    pub fn behaviour(&self) -> Behaviour {
        Behaviour::clone(&self.shared.behaviour())
    }

    /// Replaces the behaviour whole, models included: begin with [`Control::behaviour`], or use
    /// [`Control::update`].
    pub fn set(&self, behaviour: Behaviour) {
        self.shared.behaviour.send_replace(Arc::new(behaviour));
    }

    /// Changes the behaviour in place.
    pub fn update(&self, change: impl FnOnce(&mut Behaviour)) {
        self.shared.behaviour.send_modify(|behaviour| change(Arc::make_mut(behaviour)));
    }

    /// How many calls came and how they ended, so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.ledger.counters()
    }

    /// The most recent calls, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.ledger.entries(true)
    }

    /// The most recent requests for discovery, health and metrics, oldest first.
    #[must_use]
    pub fn probes(&self) -> Vec<Recorded> {
        self.shared.ledger.entries(false)
    }

    /// Waits until the counters satisfy `condition` and returns them. A value that lasts only an
    /// instant may be missed: wait on what grows, or on a state that stays.
    pub async fn until(&self, condition: impl FnMut(&Counters) -> bool) -> Counters {
        let mut watch = self.shared.ledger.watch();
        let met = watch.wait_for(condition).await.map(|counters| *counters);
        // The sender lives in `shared`, which this handle keeps alive.
        met.unwrap_or_else(|_| self.counters())
    }

    /// Stops serving in an orderly way: no new connections, open replies are finished.
    pub fn stop(&self) {
        self.advance(Phase::Stopping);
    }

    /// Dies like a killed process: the listener closes and every connection is reset.
    pub fn kill(&self) {
        self.advance(Phase::Killed);
    }

    fn advance(&self, to: Phase) {
        self.shared.phase.send_if_modified(|phase| {
            let advances = *phase < to;
            *phase = to.max(*phase);
            advances
        });
    }
}
