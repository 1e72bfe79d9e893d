//! How promising a place is for a request, now.

use std::time::{Duration, Instant};

use synapse_core::operation::Operation;

use super::{breaker::State, catalog::Candidate, fleet::Health};

/// How promising a candidate is; lower is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Ready,
    /// It would keep the request waiting.
    Busy,
    /// It is at its limit.
    Full,
    /// It has said lately that it does not know the model, or not the operation.
    Lacking,
    /// Most of its requests fail.
    Shaky,
    /// Its health checks fail.
    Down,
    /// It is no good choice, and at its limit besides.
    Stuck,
    /// It has asked for a pause.
    Limited,
    Open,
}

impl Standing {
    /// How `candidate` stands. A predicted wait of more than `spill_after` makes it busy.
    pub(super) fn of(
        candidate: &Candidate,
        operation: Operation,
        now: Instant,
        spill_after: Duration,
    ) -> Self {
        let endpoint = &candidate.endpoint;
        let backend = &endpoint.backend;
        let doubt = match endpoint.breaker.state(now) {
            State::Open if endpoint.breaker.pause_left(now).is_some() => return Self::Limited,
            State::Open => return Self::Open,
            State::Shaky => Some(Self::Shaky),
            State::Closed | State::HalfOpen if backend.health() == Health::Down => Some(Self::Down),
            State::Closed | State::HalfOpen => endpoint.lacks(operation, now).then_some(Self::Lacking),
        };
        match doubt {
            // What holds its places may never end: it is not waited for.
            Some(_) if !backend.has_room() => Self::Stuck,
            Some(doubt) => doubt,
            None if !backend.has_room() => Self::Full,
            None if backend.expected_wait(now) > spill_after => Self::Busy,
            None => Self::Ready,
        }
    }

    /// Whether it is left out for now, and the caller is to hear of it if nothing else is left.
    pub(super) const fn is_left_out(self) -> bool {
        matches!(self, Self::Full | Self::Stuck | Self::Limited | Self::Open)
    }
}
