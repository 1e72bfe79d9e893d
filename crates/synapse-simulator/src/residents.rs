//! The models an engine holds in memory, for those engines that load them on demand: unloaded, being
//! loaded, loaded, or asleep. Time alone moves them; who waits for it is in `dispatch`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::behaviour::Behaviour;

/// What a model is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Unloaded,
    Loading,
    Loaded,
    Sleeping,
}

impl State {
    /// As llama.cpp writes it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Loading => "loading",
            Self::Loaded => "loaded",
            Self::Sleeping => "sleeping",
        }
    }
}

struct Resident {
    ready: Instant,
    used: Instant,
    /// Calls that are being worked on, which keep it awake.
    calls: u32,
}

impl Resident {
    fn state(&self, behaviour: &Behaviour, now: Instant) -> State {
        let idle = now.saturating_duration_since(self.used.max(self.ready));
        if now < self.ready {
            State::Loading
        } else if self.calls == 0 && behaviour.sleep_after.is_some_and(|limit| idle >= limit) {
            State::Sleeping
        } else {
            State::Loaded
        }
    }
}

/// The models of one simulator.
#[derive(Default)]
pub(crate) struct Residents {
    models: Mutex<BTreeMap<String, Resident>>,
}

impl Residents {
    pub(crate) fn state(&self, model: &str, behaviour: &Behaviour) -> State {
        let now = Instant::now();
        self.models().get(model).map_or(State::Unloaded, |resident| resident.state(behaviour, now))
    }

    /// The loaded models in alphabetical order.
    pub(crate) fn loaded(&self, behaviour: &Behaviour) -> Vec<String> {
        let now = Instant::now();
        let models = self.models();
        let loaded = models.iter().filter(|(_, resident)| resident.state(behaviour, now) == State::Loaded);
        loaded.map(|(model, _)| model.clone()).collect()
    }

    /// Begins to load or wake `model`, unless it is awake.
    pub(crate) fn load(&self, model: &str, behaviour: &Behaviour) {
        self.with(model, behaviour, |resident| resident.used = Instant::now());
    }

    /// Forgets `model`.
    pub(crate) fn unload(&self, model: &str) {
        self.models().remove(model);
    }

    /// A call's stay at `model`, which is loaded or woken for it. `keeps` says whether it stays
    /// loaded afterwards.
    pub(crate) fn enter(self: &Arc<Self>, model: &str, behaviour: &Behaviour, keeps: bool) -> Stay {
        let ready = self.with(model, behaviour, |resident| {
            resident.calls += 1;
            resident.ready
        });
        Stay { residents: Arc::clone(self), model: model.to_owned(), ready, keeps }
    }

    fn with<T>(&self, model: &str, behaviour: &Behaviour, work: impl FnOnce(&mut Resident) -> T) -> T {
        let now = Instant::now();
        let fresh = || Resident { ready: now + behaviour.load, used: now, calls: 0 };
        let mut models = self.models();
        let resident = models.entry(model.to_owned()).or_insert_with(fresh);
        if resident.state(behaviour, now) == State::Sleeping {
            *resident = fresh();
        }
        work(resident)
    }

    fn models(&self) -> MutexGuard<'_, BTreeMap<String, Resident>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's stay at a model, which keeps it awake until dropped.
pub(crate) struct Stay {
    residents: Arc<Residents>,
    model: String,
    ready: Instant,
    keeps: bool,
}

impl Stay {
    /// When the model is loaded.
    pub(crate) fn ready(&self) -> Instant {
        self.ready
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut models = self.residents.models();
        if let Some(resident) = models.get_mut(&self.model) {
            resident.used = Instant::now();
            resident.calls = resident.calls.saturating_sub(1);
            if !self.keeps {
                models.remove(&self.model);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rules() -> Behaviour {
        Behaviour { load: 5 * SECOND, sleep_after: Some(10 * SECOND), ..Behaviour::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_model_is_loaded_falls_asleep_and_is_woken() {
        let (residents, rules) = (Arc::new(Residents::default()), rules());
        let state = || residents.state("m", &rules);
        assert_eq!(state(), State::Unloaded);
        let stay = residents.enter("m", &rules, true);
        assert_eq!(state(), State::Loading);
        tokio::time::advance(5 * SECOND).await;
        assert_eq!(state(), State::Loaded);
        tokio::time::advance(60 * SECOND).await;
        assert_eq!(state(), State::Loaded, "a call keeps it awake");
        drop(stay);
        tokio::time::advance(10 * SECOND).await;
        assert_eq!((state(), residents.loaded(&rules).len()), (State::Sleeping, 0));
        residents.load("m", &rules);
        assert_eq!(state(), State::Loading);
        residents.unload("m");
        assert_eq!(state(), State::Unloaded);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_keeps_nothing_unloads_the_model_when_it_ends() {
        let residents = Arc::new(Residents::default());
        let behaviour = Behaviour::default();
        let stay = residents.enter("m", &behaviour, false);
        assert_eq!(residents.state("m", &behaviour), State::Loaded);
        drop(stay);
        assert_eq!(residents.state("m", &behaviour), State::Unloaded);
    }
}
