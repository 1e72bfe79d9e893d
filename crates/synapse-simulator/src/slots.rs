//! The places in which calls are worked on: a first-come queue whose width can change at any time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The slots of one engine.
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    width: Mutex<Width>,
}

struct Width {
    slots: usize,
    /// Slots that were taken away while calls were in them: each goes when its call does.
    owed: usize,
}

/// A place taken until it is dropped.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slots {
    pub(crate) fn new(slots: Option<u32>) -> Self {
        let slots = count(slots);
        Self { free: Arc::new(Semaphore::new(slots)), width: Mutex::new(Width { slots, owed: 0 }) }
    }

    /// Waits for a place; who asked first gets it first.
    pub(crate) async fn enter(self: &Arc<Self>) -> Slot {
        // Fails only when the semaphore is closed, which nobody does.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        Slot { slots: Arc::clone(self), permit }
    }

    /// Changes how many there are. Calls that have one keep it.
    pub(crate) fn resize(&self, slots: Option<u32>) {
        let slots = count(slots);
        let mut width = self.width();
        if let Some(more) = slots.checked_sub(width.slots) {
            let paid = more.min(width.owed);
            width.owed -= paid;
            self.free.add_permits(more - paid);
        } else {
            let fewer = width.slots - slots;
            width.owed += fewer - self.free.forget_permits(fewer);
        }
        width.slots = slots;
    }

    fn width(&self) -> MutexGuard<'_, Width> {
        self.width.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(slots: Option<u32>) -> usize {
    slots.map_or(Semaphore::MAX_PERMITS, |slots| slots as usize)
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut width = self.slots.width();
        if width.owed > 0
            && let Some(permit) = self.permit.take()
        {
            width.owed -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn taken(slots: &Arc<Slots>) -> Option<Slot> {
        slots.enter().now_or_never()
    }

    #[test]
    fn a_narrower_engine_lets_running_calls_finish() {
        let slots = Arc::new(Slots::new(Some(3)));
        let (first, second) = (taken(&slots).unwrap(), taken(&slots).unwrap());
        slots.resize(Some(1));
        assert!(taken(&slots).is_none());
        drop(first);
        assert!(taken(&slots).is_none());
        drop(second);
        let third = taken(&slots).unwrap();
        assert!(taken(&slots).is_none());
        slots.resize(Some(2));
        assert!(taken(&slots).is_some());
        drop(third);
    }

    #[test]
    fn without_a_number_nobody_waits() {
        let slots = Arc::new(Slots::new(None));
        let many: Vec<Slot> = (0..100).map(|_| taken(&slots).unwrap()).collect();
        slots.resize(Some(1));
        drop(many);
        let one = taken(&slots).unwrap();
        assert!(taken(&slots).is_none());
        slots.resize(None);
        assert!(taken(&slots).is_some());
        drop(one);
    }
}
