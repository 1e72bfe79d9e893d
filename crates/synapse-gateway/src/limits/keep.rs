//! What was counted of days and months outlasts a restart: changes are saved once a second, off every request's
//! way.

use std::{sync::Arc, time::Duration};

use synapse_core::{
    ledger::Measure,
    store::{StoreError, counters::CounterStore},
};

use super::{Limiter, now_ms};
use crate::metrics::ReasonLabel;

/// Between two savings: so much a process that is killed forgets.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Between two looks for counters that nobody needs any more, in savings.
const SWEEP_EVERY: u32 = 60;

impl Limiter {
    /// Takes up where the last process left off.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn restore(&self, store: &dyn CounterStore) -> Result<(), StoreError> {
        for measure in Measure::ALL {
            if let Some(span) = measure.calendar_span() {
                store.forget_counters(measure, span.bucket(now_ms())).await?;
            }
        }
        self.memory.restore(store.load_counters().await?);
        Ok(())
    }

    /// Saves what has changed. What cannot be saved is tried again the next time.
    pub async fn save(&self, store: &dyn CounterStore) {
        let counters = self.memory.changes();
        if counters.is_empty() {
            return;
        }
        if let Err(error) = store.save_counters(&counters).await {
            self.metrics.limit_errors.get_or_create(&ReasonLabel { reason: "not_saved" }).inc();
            tracing::warn!(%error, "what was spent today cannot be saved; trying again");
            self.memory.keep_changes(&counters);
        }
    }

    /// Saves for as long as the gateway runs.
    pub async fn keep_saving(self: Arc<Self>, store: Arc<dyn CounterStore>) {
        for round in 1_u32.. {
            tokio::time::sleep(SAVE_EVERY).await;
            self.save(&*store).await;
            if round.is_multiple_of(SWEEP_EVERY) {
                self.memory.sweep();
            }
        }
    }
}
