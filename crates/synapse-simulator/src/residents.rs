//! The models an engine holds in memory, for those engines that load them on demand.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The loaded models of one simulator.
#[derive(Default)]
pub(crate) struct Residents {
    loaded: Mutex<BTreeSet<String>>,
}

impl Residents {
    /// Loads or unloads `model`.
    pub(crate) fn set(&self, model: &str, is_loaded: bool) {
        let mut loaded = self.loaded();
        if !is_loaded {
            loaded.remove(model);
        } else if !loaded.contains(model) {
            loaded.insert(model.to_owned());
        }
    }

    /// The loaded models in alphabetical order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.loaded().iter().cloned().collect()
    }

    fn loaded(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
