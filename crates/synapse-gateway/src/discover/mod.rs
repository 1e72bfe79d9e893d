//! Watching backends: what they serve, whether they live, how busy they are. One task per backend;
//! a model survives one failed poll, and nothing here is ever waited for by a request.

mod engines;
pub mod identify;
pub mod local;
mod probe;
mod signals;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{
    metrics::{BackendLabel, Label, Metrics, ModelStateLabels},
    route::{
        breaker::State,
        fleet::{BackendHandle, Health},
    },
    tasks,
};
use probe::Probe;

/// Failed checks in a row until a backend counts as down.
const DOWN_AFTER: u32 = 3;
/// Answered checks in a row until one that was down counts as up: an engine that is still starting may
/// answer once and fall silent again.
const UP_AFTER: u32 = 2;
/// One that seems to come back is looked at again soon.
const AGAIN: Duration = Duration::from_secs(1);
/// Failed listings in a row until a backend's models vanish.
const FORGET_AFTER: u32 = 2;

/// Starts watching a backend; it ends with the handle's retirement. `changed` is told when the
/// catalogue should be built anew.
pub fn watch(handle: &Arc<BackendHandle>, metrics: Arc<Metrics>, changed: Arc<Notify>) {
    let watcher = Watcher {
        probe: Probe::new(handle),
        handle: Arc::downgrade(handle),
        metrics,
        changed,
        failed_checks: 0,
        answered_checks: 0,
        failed_listings: 0,
        listed_at: None,
    };
    handle.set_prober(tasks::spawn("backend watcher", watcher.run()));
}

struct Watcher {
    probe: Probe,
    handle: std::sync::Weak<BackendHandle>,
    metrics: Arc<Metrics>,
    changed: Arc<Notify>,
    failed_checks: u32,
    answered_checks: u32,
    failed_listings: u32,
    listed_at: Option<Instant>,
}

impl Watcher {
    async fn run(mut self) {
        loop {
            let Some(handle) = self.handle.upgrade() else { return };
            self.look(&handle).await;
            let every = handle.pace().health_every;
            let is_coming_back = handle.health() == Health::Down && self.answered_checks > 0;
            let pause = if is_coming_back { every.min(AGAIN) } else { every };
            drop(handle);
            tokio::time::sleep(pause).await;
        }
    }

    async fn look(&mut self, handle: &Arc<BackendHandle>) {
        let came_up = self.check_health(handle).await;
        // What cannot be read any more is not remembered: it would weigh on every choice.
        let up = handle.health() != Health::Down;
        let ours = handle.in_flight();
        let load = if up { engines::load(&self.probe).await } else { None };
        handle.set_load(load.unwrap_or_default(), ours);
        let due = self.listed_at.is_none_or(|at| at.elapsed() >= handle.pace().models_every);
        if came_up || due || self.failed_listings > 0 {
            self.list_models(handle).await;
        }
        publish(handle, &self.metrics);
        handle.note_look();
    }

    /// Whether the backend has just come up.
    async fn check_health(&mut self, handle: &Arc<BackendHandle>) -> bool {
        match engines::health(&self.probe).await {
            Ok(()) => {
                self.failed_checks = 0;
                self.answered_checks += 1;
                let before = handle.health();
                if before == Health::Down && self.answered_checks < UP_AFTER {
                    return false;
                }
                handle.set_health(Health::Up);
                if before == Health::Down {
                    handle.take_up_work(Instant::now());
                }
                before != Health::Up
            }
            Err(error) => {
                self.failed_checks += 1;
                self.answered_checks = 0;
                // The very first check decides at once, later ones need a row of failures.
                if handle.health() == Health::Unknown || self.failed_checks == DOWN_AFTER {
                    tracing::warn!(backend = %handle.id(), %error, "the backend does not answer its health check");
                    handle.set_health(Health::Down);
                }
                false
            }
        }
    }

    async fn list_models(&mut self, handle: &Arc<BackendHandle>) {
        match engines::models(&self.probe).await {
            Ok(models) => {
                self.failed_listings = 0;
                self.listed_at = Some(Instant::now());
                let before = handle.models.load_full();
                if handle.set_models(models) {
                    self.metrics.forget_models(handle.id().as_str(), &before, &handle.models.load());
                    self.changed.notify_one();
                }
            }
            Err(error) => {
                self.failed_listings += 1;
                tracing::debug!(backend = %handle.id(), %error, "the backend does not list its models");
                let before = handle.models.load_full();
                if self.failed_listings == FORGET_AFTER && handle.lose_models() {
                    self.metrics.forget_models(handle.id().as_str(), &before, &[]);
                    self.changed.notify_one();
                }
            }
        }
    }
}

/// Brings the metrics of a backend up to date.
pub(crate) fn publish(handle: &BackendHandle, m: &Metrics) {
    let backend = || Label::from(handle.id().as_str());
    m.backend_up
        .get_or_create(&BackendLabel { backend: backend() })
        .set((handle.health() == Health::Up).into());
    let load = handle.load();
    m.queue_depth.get_or_create(&BackendLabel { backend: backend() }).set(load.waiting.into());
    if let Some(usage) = load.kv_usage {
        m.kv_usage.get_or_create(&BackendLabel { backend: backend() }).set(usage);
    }
    let now = Instant::now();
    let endpoints = handle.endpoints();
    let worst = endpoints.iter().map(|e| e.breaker.state(now)).map(|state| match state {
        State::Closed => 0,
        State::HalfOpen => 1,
        State::Shaky | State::Open => 2,
    });
    m.breaker.get_or_create(&BackendLabel { backend: backend() }).set(worst.max().unwrap_or(0));
    for model in handle.models.load().iter() {
        let Some(loaded) = model.loaded else { continue };
        for (state, holds) in [("loaded", loaded), ("unloaded", !loaded)] {
            let labels =
                ModelStateLabels { backend: backend(), model: Label::from(model.id.as_str()), state };
            m.model_state.get_or_create(&labels).set(holds.into());
        }
    }
}
