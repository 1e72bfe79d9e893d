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
    task::{JoinSet, spawn_blocking},
    time::{interval, sleep, timeout, timeout_at},
};

use crate::{
    client::{Answer, Connection, Target},
    report::Tally,
    schedule::Schedule,
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

/// Requests that follow each other on each of some connections.
pub(crate) struct Closed {
    pub(crate) connections: usize,
    /// A new connection for each request.
    pub(crate) fresh: bool,
    /// At most so many in all.
    pub(crate) requests: u64,
    /// The time over which the connections begin.
    pub(crate) spread: Duration,
}

/// Each of the connections sends one request after the other.
pub(crate) async fn closed(target: &Target, how: &Closed, duration: Duration) -> anyhow::Result<Tally> {
    let begun = Instant::now();
    let sent = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for index in 0..how.connections {
        let (mut slot, sent) = (Slot::new(target.clone()), Arc::clone(&sent));
        let delay = how.spread.mul_f64(index as f64 / how.connections as f64);
        let (fresh, requests) = (how.fresh, how.requests);
        callers.spawn(async move {
            let mut tally = Tally::default();
            sleep(delay).await;
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

/// `rate` requests a second are taken by `connections` in turn. Whatever keeps a request waiting,
/// the generator included, is part of its latency, for it counts from when the request was due.
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
    let mut schedule = Schedule::start(Duration::from_secs_f64(1.0 / rate))?;
    let count = (rate * duration.as_secs_f64()) as u64;
    // On a thread of its own: what answers take must not hold up what is due.
    let release = move || {
        (0..count)
            .map(|_| {
                let due = schedule.next()?;
                arrivals.send(due)?;
                Ok(due.elapsed())
            })
            .collect::<anyhow::Result<Vec<_>>>()
    };
    let late = spawn_blocking(release).await??;
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
