//! Changes that come by themselves: after a time, or after a number of calls. One step waits at a time;
//! the next begins to count when it was taken.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::behaviour::Behaviour;
use crate::control::Shared;
use crate::durations::seconds;

type Change = Box<dyn FnOnce(&mut Behaviour) + Send>;

/// A change of the behaviour that comes by itself.
pub struct Step {
    when: When,
    change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    After(Duration),
    Calls(u64),
}

impl Step {
    /// A change this long after the step before it.
    pub fn after(time: Duration, change: impl FnOnce(&mut Behaviour) + Send + 'static) -> Self {
        Self { when: When::After(time), change: Box::new(change) }
    }

    /// A change once this many calls have come after the step before it; they still meet the old
    /// behaviour.
    pub fn after_calls(calls: u64, change: impl FnOnce(&mut Behaviour) + Send + 'static) -> Self {
        Self { when: When::Calls(calls), change: Box::new(change) }
    }

    /// The steps written in a JSON list, each of which must fit `behaviour`.
    pub(crate) fn read(list: Value, behaviour: &Behaviour) -> Result<Vec<Self>, String> {
        let written: Vec<Written> = serde_json::from_value(list).map_err(|error| error.to_string())?;
        (1..).zip(written).map(|(number, step)| step.read(number, behaviour)).collect()
    }
}

/// A step as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, with = "seconds")]
    after_s: Option<Duration>,
    after_calls: Option<u64>,
    set: Map<String, Value>,
}

impl Written {
    fn read(self, number: u32, behaviour: &Behaviour) -> Result<Step, String> {
        let when = match (self.after_s, self.after_calls) {
            (Some(time), None) => When::After(time),
            (None, Some(calls)) => When::Calls(calls),
            _ => return Err(format!("step {number} of `timeline` needs `after_s` or `after_calls`")),
        };
        let set = self.set;
        behaviour.with(&set).map_err(|error| format!("step {number} of `timeline`: {error}"))?;
        let change = move |behaviour: &mut Behaviour| match behaviour.with(&set) {
            Ok(changed) => *behaviour = changed,
            Err(error) => tracing::warn!(%error, "a step of the timeline no longer fits"),
        };
        Ok(Step { when, change: Box::new(change) })
    }
}

struct Pending {
    steps: VecDeque<Step>,
    since: Instant,
    calls: u64,
}

impl Pending {
    /// Takes the first step if it is due.
    fn due(&mut self, now: Instant) -> Option<Change> {
        let at = match self.steps.front()?.when {
            When::After(time) => self.since + time,
            When::Calls(calls) if self.calls >= calls => now,
            When::Calls(_) => return None,
        };
        if at > now {
            return None;
        }
        // A timed step counts from when it was due, not from when somebody looked.
        (self.since, self.calls) = (at, 0);
        self.steps.pop_front().map(|step| step.change)
    }

    fn next_time(&self) -> Option<Instant> {
        match self.steps.front()?.when {
            When::After(time) => Some(self.since + time),
            When::Calls(_) => None,
        }
    }
}

/// The steps that are still to come.
pub(crate) struct Timeline {
    pending: Mutex<Pending>,
    changed: Notify,
}

impl Default for Timeline {
    fn default() -> Self {
        let pending = Pending { steps: VecDeque::new(), since: Instant::now(), calls: 0 };
        Self { pending: Mutex::new(pending), changed: Notify::new() }
    }
}

impl Timeline {
    /// Replaces all steps; the first begins to count now.
    pub(crate) fn schedule(&self, steps: Vec<Step>) {
        *self.pending() = Pending { steps: steps.into(), since: Instant::now(), calls: 0 };
        self.changed.notify_one();
    }

    /// How many steps are still to come.
    pub(crate) fn len(&self) -> usize {
        self.pending().steps.len()
    }

    /// Takes the steps that a call brings about, and counts it; the behaviour that it meets.
    pub(crate) fn call_arrives(&self, shared: &Shared) -> Arc<Behaviour> {
        let mut pending = self.pending();
        self.take_due(&mut pending, shared);
        pending.calls += 1;
        // Still under the lock: the next call may bring the next step about.
        shared.behaviour()
    }

    /// Takes timed steps when they are due, for ever.
    pub(crate) async fn keep(shared: Arc<Shared>) {
        let timeline = &shared.timeline;
        loop {
            let next = {
                let mut pending = timeline.pending();
                timeline.take_due(&mut pending, &shared);
                pending.next_time()
            };
            let changed = timeline.changed.notified();
            match next {
                Some(at) => drop(tokio::time::timeout_at(at, changed).await),
                None => changed.await,
            }
        }
    }

    fn take_due(&self, pending: &mut Pending, shared: &Shared) {
        while let Some(change) = pending.due(Instant::now()) {
            shared.change(change);
            // What comes next may be timed.
            self.changed.notify_one();
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_that_does_not_fit_is_refused_with_its_number() {
        let read = |list| Step::read(list, &Behaviour::default()).err().unwrap_or_default();
        let good = json!({"after_s": 1, "set": {"tokens": 3}});
        assert_eq!(read(json!([good])), "");
        let unknown = read(json!([good, {"after_s": 1, "set": {"tokenz": 3}}]));
        assert!(unknown.contains("step 2") && unknown.contains("tokenz"), "{unknown}");
        assert!(read(json!([{"set": {}}])).contains("`after_s` or `after_calls`"));
        assert!(read(json!({"after_s": 1})).contains("sequence"));
    }
}
