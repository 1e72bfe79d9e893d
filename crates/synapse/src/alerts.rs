//! From closed records to alerts: requests hand over what matters of them without waiting, a task of its own looks
//! for what is unusual, and what it finds is stored together with what is owed to webhooks.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use synapse_core::{
    alert::{Alert, State},
    anomaly::{Detector, Observation},
    audit::RequestRecord,
    config::snapshot::Snapshot,
    store::alerts::AlertStore,
};
use synapse_gateway::{
    audit::RecordSink,
    gateway::Gateway,
    metrics::{AlertLabels, Metrics},
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};
use uuid::Uuid;

/// Requests that may wait to be looked at.
const MAX_WAITING: usize = 65_536;
/// Between two looks. A task that were woken by every request would cost each of them a system call.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How many requests are looked at before others get their turn.
const BATCH: usize = 1024;
/// Alerts that may wait for the store.
const MAX_UNSTORED: usize = 1024;
/// How often what was learnt is saved.
const SAVE_EVERY: Duration = Duration::from_secs(300);

/// Those who wait for everything to be looked at.
pub(crate) type Flushes = mpsc::Receiver<oneshot::Sender<()>>;

/// Where requests hand over what matters of them.
pub(crate) struct AlertSink {
    waiting: Mutex<Vec<Observation>>,
    dropped: OnceLock<Counter>,
    is_looking: AtomicBool,
    flushes: mpsc::Sender<oneshot::Sender<()>>,
}

impl AlertSink {
    /// A sink, and how its watcher learns that it is to come to an end.
    pub(crate) fn new() -> (Arc<Self>, Flushes) {
        let (flushes, asked) = mpsc::channel(1);
        let sink = Self {
            waiting: Mutex::default(),
            dropped: OnceLock::new(),
            is_looking: AtomicBool::new(true),
            flushes,
        };
        (Arc::new(sink), asked)
    }

    /// Counts from now on, and for good, here what nobody could look at.
    pub(crate) fn count_dropped(&self, counter: Counter) {
        let _only_once = self.dropped.set(counter);
    }

    /// Waits until everything handed over so far is looked at, and what was learnt is saved.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.flushes.send(done).await.is_ok() {
            // Without a watcher there is nothing to wait for.
            let _flushed = flushed.await;
        }
    }

    /// What waits; `room` takes its place, made by whoever has the time.
    fn take(&self, room: Vec<Observation>) -> Vec<Observation> {
        mem::replace(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner), room)
    }
}

impl RecordSink for AlertSink {
    fn accept(&self, record: &RequestRecord) {
        if !self.is_looking.load(Ordering::Relaxed) {
            return;
        }
        let seen = Observation::from(record);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_WAITING {
            waiting.push(seen);
        } else if let Some(counter) = self.dropped.get() {
            counter.inc();
        }
    }
}

/// Looks for what is unusual.
pub(crate) struct Watcher {
    sink: Arc<AlertSink>,
    flushes: Flushes,
    gateway: Arc<Gateway>,
    store: Arc<dyn AlertStore>,
    /// Whoever delivers alerts.
    delivery: Arc<Notify>,
    /// Which data folder's baselines these are.
    folder: String,
    detector: Detector,
    configured: Arc<Snapshot>,
    /// Found, and not yet stored.
    found: VecDeque<Alert>,
    is_failing: bool,
    /// How many requests there were last time.
    usual_room: usize,
}

impl Watcher {
    /// A watcher that goes on where this gateway's last one was.
    pub(crate) async fn take_up(
        sink: Arc<AlertSink>,
        flushes: Flushes,
        gateway: Arc<Gateway>,
        store: Arc<dyn AlertStore>,
        delivery: Arc<Notify>,
        folder: Uuid,
    ) -> Self {
        let folder = folder.simple().to_string();
        let configured = Arc::clone(&gateway.live().snapshot);
        let mut detector = Detector::new(configured.anomaly.clone(), Timestamp::now());
        match store.load_baselines(&folder).await {
            Ok(Some(saved)) => {
                if let Err(error) = detector.restore(&saved) {
                    tracing::warn!(%error, "what is usual has to be learnt anew: what was saved is of no use");
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "what is usual has to be learnt anew"),
        }
        sink.is_looking.store(configured.anomaly.enabled, Ordering::Relaxed);
        Self {
            sink,
            flushes,
            gateway,
            store,
            delivery,
            folder,
            detector,
            configured,
            found: VecDeque::new(),
            is_failing: false,
            usual_room: 0,
        }
    }

    /// Looks on, for as long as the gateway runs.
    pub(crate) async fn watch(mut self) {
        let mut saved = Instant::now();
        loop {
            let flush = tokio::select! {
                asked = self.flushes.recv() => asked,
                () = tokio::time::sleep(LOOK_EVERY) => None,
            };
            self.follow_configuration();
            self.look().await;
            self.store().await;
            if flush.is_some() || saved.elapsed() >= SAVE_EVERY {
                self.save().await;
                saved = Instant::now();
            }
            if let Some(done) = flush {
                // Whoever asked may have stopped waiting.
                let _gone = done.send(());
            }
        }
    }

    fn follow_configuration(&mut self) {
        let live = self.gateway.live();
        if !Arc::ptr_eq(&live.snapshot, &self.configured) {
            self.configured = Arc::clone(&live.snapshot);
            self.detector.reconfigure(self.configured.anomaly.clone());
            self.sink.is_looking.store(self.configured.anomaly.enabled, Ordering::Relaxed);
        }
    }

    async fn look(&mut self) {
        let seen = self.sink.take(Vec::with_capacity(self.usual_room));
        self.usual_room = seen.len();
        for batch in seen.chunks(BATCH) {
            for one in batch {
                self.found.extend(self.detector.observe(one));
            }
            tokio::task::yield_now().await;
        }
        while self.found.len() > MAX_UNSTORED {
            self.found.pop_front();
        }
    }

    /// Stores what was found; what cannot be stored now waits.
    async fn store(&mut self) {
        while let Some(alert) = self.found.front() {
            let told = self.configured.webhooks.iter().filter(|hook| hook.wants(alert.rule, alert.severity));
            let webhooks: Vec<&str> = told.map(|hook| hook.name.as_str()).collect();
            match self.store.add_alert(alert, &webhooks).await {
                Ok(kept) => announce(&kept, &self.gateway.metrics),
                Err(error) => {
                    if !mem::replace(&mut self.is_failing, true) {
                        tracing::error!(%error, "alerts cannot be stored; they wait");
                    }
                    return;
                }
            }
            self.is_failing = false;
            self.found.pop_front();
            self.delivery.notify_one();
        }
    }

    async fn save(&self) {
        let saved = match self.detector.save() {
            Ok(state) => self.store.save_baselines(&self.folder, &state).await,
            Err(error) => return tracing::warn!(%error, "what is usual cannot be written down"),
        };
        if let Err(error) = saved {
            tracing::warn!(%error, "what is usual cannot be saved");
        }
    }
}

fn announce(alert: &Alert, metrics: &Metrics) {
    let labels = AlertLabels { rule: alert.rule.name(), severity: alert.severity.name() };
    metrics.alerts.get_or_create(&labels).inc();
    if alert.state == State::Open {
        let (id, rule, severity) = (&alert.id, alert.rule.name(), alert.severity.name());
        tracing::warn!(alert = %id, rule, severity, explanation = %alert.explanation, "{}", alert.title);
    }
}

#[cfg(test)]
mod tests {
    use synapse_core::audit::{Actor, Outcome, Target};

    use super::*;

    fn record() -> RequestRecord {
        RequestRecord {
            id: "r".into(),
            at: Timestamp::UNIX_EPOCH,
            route: "POST /v1/chat/completions",
            actor: Actor::default(),
            target: Target::default(),
            outcome: Outcome::Completed,
            status: 200,
            code: None,
            finish_reason: None,
            usage: None,
            is_estimate: false,
            cost: None,
            unpriced: false,
            duration: Duration::ZERO,
            first_token: None,
            overhead: Duration::ZERO,
            receiving: Duration::ZERO,
            upstream: Duration::ZERO,
            bytes: (0, 0),
            incident: None,
        }
    }

    #[test]
    fn what_nobody_looks_at_in_time_is_counted_and_takes_no_memory() {
        let (sink, _flushes) = AlertSink::new();
        let dropped = Counter::default();
        sink.count_dropped(dropped.clone());
        let record = record();
        for _ in 0..MAX_WAITING + 7 {
            sink.accept(&record);
        }
        assert_eq!((sink.take(Vec::new()).len(), dropped.get()), (MAX_WAITING, 7));
        sink.is_looking.store(false, Ordering::Relaxed);
        sink.accept(&record);
        assert_eq!(sink.take(Vec::new()).len(), 0, "nothing is looked for");
    }
}
