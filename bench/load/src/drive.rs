//! How requests arrive: in a closed loop per connection, or at a fixed rate.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::{interval, sleep, timeout, timeout_at},
};

use crate::{
    client::{Answer, Connection, Target},
    report::Tally,
};

/// How long an answer may take, and how long answers under way may take when the time is up.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between attempts on an endpoint that fails, so that failing costs it little.
const PAUSE: Duration = Duration::from_millis(10);

/// Extra requests that keep the proxy's thread busy.
pub(crate) struct Busy {
    pub(crate) rate: f64,
    pub(crate) micros: u64,
}

/// A place for one request at a time, with its connection.
struct Slot {
    target: Target,
    connection: Option<Connection>,
}

impl Slot {
    fn new(target: Target) -> Self {
        Self { target, connection: None }
    }

    async fn send(&mut self, since: Instant) -> anyhow::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.target.connect().await?,
        };
        let answer = timeout(PATIENCE, connection.exchange(&self.target, since)).await??;
        self.connection = Some(connection);
        Ok(answer)
    }
}

/// Each of `connections` sends one request after the other, `requests` in all at most.
pub(crate) async fn closed(
    target: Target,
    connections: usize,
    fresh: bool,
    requests: u64,
    duration: Duration,
) -> anyhow::Result<Tally> {
    let begun = Instant::now();
    let sent = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..connections {
        let (mut slot, sent) = (Slot::new(target.clone()), Arc::clone(&sent));
        callers.spawn(async move {
            let mut tally = Tally::default();
            while begun.elapsed() < duration && sent.fetch_add(1, Ordering::Relaxed) < requests {
                let answer = slot.send(Instant::now()).await;
                let failed = answer.is_err();
                tally.add(answer);
                if fresh {
                    slot.connection = None;
                }
                if failed {
                    sleep(PAUSE).await;
                }
            }
            tally
        });
    }
    collect(callers).await
}

/// `rate` requests a second are taken by `connections` in turn.
pub(crate) async fn open(
    target: Target,
    connections: usize,
    rate: f64,
    busy: Busy,
    duration: Duration,
) -> anyhow::Result<Tally> {
    let (arrivals, queue) = mpsc::unbounded_channel();
    // A fair lock: whoever has waited longest gets the next arrival.
    let queue = Arc::new(Mutex::new(queue));
    let mut callers = JoinSet::new();
    for _ in 0..connections {
        let (mut slot, queue) = (Slot::new(target.clone()), Arc::clone(&queue));
        slot.connection = Some(slot.target.connect().await?);
        callers.spawn(async move {
            let mut tally = Tally::default();
            while let Some(since) = next(&queue).await {
                tally.add(slot.send(since).await);
            }
            tally
        });
    }
    let deadline = tokio::time::Instant::now() + duration;
    let mut extra = JoinSet::new();
    if busy.rate > 0.0 {
        extra.spawn(timeout_at(deadline, keep_busy(target.busy(busy.micros), busy.rate)));
    }
    let mut late = Vec::new();
    let mut schedule = interval(Duration::from_secs_f64(1.0 / rate));
    while tokio::time::Instant::now() < deadline {
        let due = schedule.tick().await;
        let now = Instant::now();
        // Of this generator's own making, and so no part of the latency.
        late.push(now.saturating_duration_since(due.into_std()));
        arrivals.send(now)?;
    }
    drop(arrivals);
    let mut tally = collect(callers).await?;
    tally.late = late;
    Ok(tally)
}

async fn next(queue: &Mutex<mpsc::UnboundedReceiver<Instant>>) -> Option<Instant> {
    queue.lock().await.recv().await
}

async fn keep_busy(target: Target, rate: f64) {
    let mut slot = Slot::new(target);
    let mut schedule = interval(Duration::from_secs_f64(1.0 / rate));
    loop {
        schedule.tick().await;
        let _answer = slot.send(Instant::now()).await;
    }
}

async fn collect(mut callers: JoinSet<Tally>) -> anyhow::Result<Tally> {
    let mut all = Tally::default();
    while let Some(tally) = callers.join_next().await {
        all.merge(tally?);
    }
    Ok(all)
}
