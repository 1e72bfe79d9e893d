//! Idle connections of one backend, per core: a connection is driven by the runtime that opened it,
//! so each core keeps its own and no lock is ever contended.

use std::{
    cell::Cell,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::connect::Connection;

/// Idle connections that a core keeps per backend.
const MAX_IDLE: usize = 64;
/// Shorter than the keep-alive of common engines (uvicorn: 5 s), so that a connection is rarely
/// taken just as its engine closes it; a lost race is survived, too.
const MAX_IDLE_TIME: Duration = Duration::from_secs(4);

static SHARDS: AtomicUsize = AtomicUsize::new(1);

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

/// Says how many runtimes there are; shard 0 belongs to all threads that pin none. To be called
/// before the first backend is made.
pub fn set_shards(runtimes: usize) {
    SHARDS.store(runtimes + 1, Ordering::Relaxed);
}

/// Makes this thread use the connections of runtime `index` (from 0) only.
pub fn pin_shard(index: usize) {
    SHARD.set(index + 1);
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// Idle connections of one backend.
pub(super) struct Pool {
    shards: Box<[Mutex<Vec<Idle>>]>,
}

/// Where a connection returns to when its reply is complete.
pub(super) struct Home {
    pool: Weak<Pool>,
    shard: usize,
}

impl Pool {
    pub(super) fn new() -> Arc<Self> {
        let shards = SHARDS.load(Ordering::Relaxed).max(1);
        Arc::new(Self { shards: (0..shards).map(|_| Mutex::default()).collect() })
    }

    fn shard(&self) -> usize {
        SHARD.get().min(self.shards.len() - 1)
    }

    /// A place to return to from this thread.
    pub(super) fn home(self: &Arc<Self>) -> Home {
        Home { pool: Arc::downgrade(self), shard: self.shard() }
    }

    /// The connection used last, if it still lives, and when it was taken.
    pub(super) fn checkout(&self) -> Option<(Connection, Instant)> {
        let now = Instant::now();
        let is_old = |since: Instant| now.saturating_duration_since(since) >= MAX_IDLE_TIME;
        let mut idle = self.shards[self.shard()].lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(Idle { mut connection, since }) = idle.pop() {
            if !is_old(since) && connection.settle() {
                return Some((connection, now));
            }
            // The ones below have been idle for longer.
            if is_old(since) {
                idle.clear();
            }
        }
        None
    }
}

impl Home {
    /// Takes the connection back if it is fit for another request, and drops it otherwise.
    pub(super) fn put(&self, mut connection: Connection) {
        let Some(pool) = self.pool.upgrade() else { return };
        if !connection.settle() {
            return;
        }
        let mut idle = pool.shards[self.shard].lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // The longest idle ones stand first.
        let is_old = |idle: &&Idle| now.saturating_duration_since(idle.since) >= MAX_IDLE_TIME;
        let expired = idle.iter().take_while(is_old).count();
        idle.drain(..expired);
        if idle.len() < MAX_IDLE {
            idle.push(Idle { connection, since: now });
        }
    }
}

impl Connection {
    /// Lets the connection finish what it has begun; whether it can take a request now. Nobody
    /// polls an idle connection, so this is also how a closed one is noticed.
    fn settle(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.poll_driver(&mut cx), Poll::Pending) && self.sender.is_ready()
    }
}
