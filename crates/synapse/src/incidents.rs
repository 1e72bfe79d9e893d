//! Incidents on their way into the store: requests hand them over without waiting, and a task of its own
//! writes them, many at once.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use synapse_core::{audit::RequestRecord, incident::Incident, store::incidents::IncidentStore};
use synapse_gateway::audit::RecordSink;
use tokio::sync::{mpsc, oneshot};

/// Incidents that may wait for the store.
const MAX_WAITING: usize = 8192;
/// How many are written at once.
const BATCH: usize = 256;
/// Between two attempts at a store that fails.
const PAUSE: Duration = Duration::from_secs(1);

/// What is handed over.
pub(crate) enum Message {
    /// To be written.
    Incident(Box<Incident>),
    /// To be answered once everything before it is written.
    Flush(oneshot::Sender<()>),
}

/// Where incidents are handed over.
pub(crate) struct IncidentSink {
    waiting: mpsc::Sender<Message>,
    dropped: OnceLock<Counter>,
    is_dropping: AtomicBool,
}

impl IncidentSink {
    /// A sink, and what comes out at its other end.
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<Message>) {
        let (waiting, written) = mpsc::channel(MAX_WAITING);
        let sink = Self { waiting, dropped: OnceLock::new(), is_dropping: AtomicBool::new(false) };
        (Arc::new(sink), written)
    }

    /// Counts from now on, and for good, here what nobody could take.
    pub(crate) fn count_dropped(&self, counter: Counter) {
        let _only_once = self.dropped.set(counter);
    }

    /// Waits until everything handed over so far is written.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.waiting.send(Message::Flush(done)).await.is_ok() {
            // Without a writer there is nothing to wait for.
            let _written = written.await;
        }
    }
}

impl RecordSink for IncidentSink {
    fn accept(&self, record: &RequestRecord) {
        let Some(incident) = &record.incident else { return };
        let taken = self.waiting.try_send(Message::Incident(incident.clone())).is_ok();
        if !taken && let Some(counter) = self.dropped.get() {
            counter.inc();
        }
        if !self.is_dropping.swap(!taken, Ordering::Relaxed) && !taken {
            tracing::error!("incidents are lost: the store is too slow, or fails");
        }
    }
}

/// Hands each record to several sinks.
pub(crate) struct Sinks(pub(crate) Vec<Arc<dyn RecordSink>>);

impl RecordSink for Sinks {
    fn accept(&self, record: &RequestRecord) {
        for sink in &self.0 {
            sink.accept(record);
        }
    }
}

/// Writes incidents until nobody can hand over more.
pub(crate) async fn write(store: Arc<dyn IncidentStore>, mut waiting: mpsc::Receiver<Message>) {
    let mut messages = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut messages, BATCH).await > 0 {
        let mut batch = Vec::new();
        let mut flushes = Vec::new();
        for message in messages.drain(..) {
            match message {
                Message::Incident(incident) => batch.push(*incident),
                Message::Flush(done) => flushes.push(done),
            }
        }
        add(&*store, &batch).await;
        for done in flushes {
            // Whoever asked may have stopped waiting.
            let _gone = done.send(());
        }
    }
}

async fn add(store: &dyn IncidentStore, batch: &[Incident]) {
    if batch.is_empty() {
        return;
    }
    let mut is_failing = false;
    while let Err(error) = store.add_incidents(batch).await {
        if !is_failing {
            tracing::error!(%error, "incidents cannot be stored; they wait");
        }
        is_failing = true;
        tokio::time::sleep(PAUSE).await;
    }
}
