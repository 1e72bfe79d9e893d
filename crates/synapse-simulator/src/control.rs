//! The handle through which a test or a person watches and changes a running simulator, and the state
//! it shares with the server.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use crate::behaviour::Behaviour;
use crate::ledger::{Counters, Ledger, Recorded};
use crate::options::Options;
use crate::residents::Residents;
use crate::slots::Slots;
use crate::timeline::{Step, Timeline};
use crate::tokens::{Accounts, Totals};

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
    pub(crate) timeline: Timeline,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) accounts: Accounts,
    pub(crate) residents: Arc<Residents>,
    pub(crate) slots: Arc<Slots>,
}

impl Shared {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            behaviour: watch::Sender::new(Arc::new(options.behaviour())),
            timeline: Timeline::default(),
            phase: watch::Sender::new(Phase::Serving),
            ledger: Arc::new(Ledger::new(options.record)),
            accounts: Accounts::default(),
            residents: Arc::default(),
            slots: Arc::new(Slots::new(options.slots)),
            options,
        }
    }

    pub(crate) fn behaviour(&self) -> Arc<Behaviour> {
        Arc::clone(&self.behaviour.borrow())
    }

    /// Changes the behaviour; the one place that does.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        self.behaviour.send_modify(|behaviour| {
            change(Arc::make_mut(behaviour));
            // Still under the lock, so that the slots follow the last of two changes.
            self.slots.resize(behaviour.slots);
        });
    }

    /// Changes the behaviour as a document says, which may hold a `timeline`, too: all of it or none.
    pub(crate) fn apply(&self, changes: Value) -> Result<(), InvalidChange> {
        let Value::Object(mut changes) = changes else {
            return Err(InvalidChange("the behaviour is a JSON object".to_owned()));
        };
        let timeline = changes.shift_remove("timeline");
        let behaviour = self.behaviour().with(&changes).map_err(|error| InvalidChange(error.to_string()))?;
        let steps = timeline.map(|list| Step::read(list, &behaviour)).transpose().map_err(InvalidChange)?;
        self.change(|current| *current = behaviour);
        if let Some(steps) = steps {
            self.timeline.schedule(steps);
        }
        Ok(())
    }
}

/// Why a behaviour was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidChange(String);

impl fmt::Display for InvalidChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidChange {}

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
        self.shared.change(|current| *current = behaviour);
    }

    /// Changes the behaviour in place.
    pub fn update(&self, change: impl FnOnce(&mut Behaviour)) {
        self.shared.change(change);
    }

    /// Changes the behaviour as `POST /_sim` does with this document.
    ///
    /// # Errors
    /// When a field is unknown or has no such value; then nothing changes.
    pub fn apply(&self, changes: Value) -> Result<(), InvalidChange> {
        self.shared.apply(changes)
    }

    /// Changes that are to come by themselves, one after the other; they replace those still to come.
    pub fn schedule(&self, steps: impl IntoIterator<Item = Step>) {
        self.shared.timeline.schedule(steps.into_iter().collect());
    }

    /// How many calls came and how they ended, so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.ledger.counters()
    }

    /// The tokens of all calls so far, those found in the prefix cache among them.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.shared.accounts.totals()
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
