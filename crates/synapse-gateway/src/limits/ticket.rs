//! A reservation in the hands of its request. It settles exactly once, however the request ends: when it goes.

use std::sync::Arc;

use synapse_core::{
    ledger::{Amounts, Measure, Meter, Reading, Verdict},
    limits::Money,
    store::ledger::Settlement,
};

use super::{Denied, Limiter, Standing};

/// What a request has reserved.
pub struct Ticket {
    limiter: Arc<Limiter>,
    meters: Vec<Meter>,
    reserved: Amounts,
    /// What will have been spent if it goes now.
    spent: Amounts,
    held: Held,
}

/// Where it is counted.
enum Held {
    Nowhere,
    Here(Vec<Reading>),
    Shared(u128),
}

impl Ticket {
    /// One of which only the memory here can know.
    pub(super) const fn counted_here(limiter: Arc<Limiter>, meters: Vec<Meter>, reserved: Amounts) -> Self {
        let spent = Amounts { running: 0, ..reserved };
        Self { limiter, meters, reserved, spent, held: Held::Nowhere }
    }

    /// One that is being asked for elsewhere; if it goes before the answer, nothing was spent.
    pub(super) fn asked(limiter: Arc<Limiter>, meters: Vec<Meter>, reserved: Amounts, id: u128) -> Self {
        Self { limiter, meters, reserved, spent: Amounts::default(), held: Held::Shared(id) }
    }

    /// What the answer makes of it, and how its caller stands then.
    pub(super) fn conclude(mut self, verdict: Verdict) -> Result<(Self, Standing), Denied> {
        match verdict {
            Verdict::Granted(readings) => {
                self.spent = Amounts { running: 0, ..self.reserved };
                let standing = Standing::of(&self.meters, &readings);
                match self.held {
                    Held::Shared(id) => self.limiter.hold(id, &self.meters),
                    Held::Nowhere | Held::Here(_) => self.held = Held::Here(readings),
                }
                Ok((self, standing))
            }
            Verdict::Refused { meter, wait_ms, readings } => {
                self.held = Held::Nowhere;
                let meters = std::mem::take(&mut self.meters);
                Err(Denied::Over { meters, meter, wait_ms, readings })
            }
        }
    }

    /// Ends it with what was really spent. One that ends otherwise has spent what it reserved.
    pub fn settle(mut self, tokens: u64, cost: Money) {
        self.spent = Amounts { tokens, cost, ..self.spent };
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.held, Held::Nowhere) {
            Held::Nowhere => {}
            Held::Here(readings) => {
                self.limiter.memory.settle(&self.meters, &readings, &self.reserved, &self.spent);
            }
            Held::Shared(ticket) => self.limiter.settle_shared(Settlement {
                ticket,
                meters: std::mem::take(&mut self.meters),
                reserved: self.reserved,
                spent: self.spent,
            }),
        }
    }
}

impl Limiter {
    /// Keeps the places of a ticket from coming back by themselves.
    fn hold(&self, ticket: u128, meters: &[Meter]) {
        let places: Vec<_> = meters.iter().filter(|m| m.measure == Measure::Concurrent).cloned().collect();
        if let Some(shared) = self.shared.get().filter(|_| !places.is_empty()) {
            shared.hold(ticket, places);
        }
    }

    fn settle_shared(&self, settlement: Settlement) {
        if let Some(shared) = self.shared.get() {
            shared.settle(settlement);
        }
    }
}
