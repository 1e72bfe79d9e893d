//! Places for connections: so many in all, so many for each source. When all are taken, whoever has
//! been idle longest gives up its place; when nobody is idle, the newcomer is turned away.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use synapse_gateway::metrics::{Metrics, ReasonLabel};

use super::{
    stalls::now,
    turnstile::{Ask, Turnstile},
};

/// The share of all connections that gives way at once, so that the search for them is paid for by
/// many newcomers.
const SHED_SHARE: usize = 64;
/// The share of all connections that may be on their way out at once.
const LEAVING_SHARE: usize = 8;
/// After a search that found too few, in milliseconds.
const SEARCH_AGAIN_AFTER: u64 = 100;

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) all: usize,
    pub(super) of_source: Option<usize>,
}

/// All places.
pub(super) struct Seats {
    table: Mutex<Table>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Table {
    next: u64,
    taken: HashMap<u64, (IpAddr, Arc<Turnstile>)>,
    sources: HashMap<IpAddr, usize>,
    /// Connections that were asked to leave and have not.
    leaving: usize,
    search_at: u64,
    /// Whoever still comes is to go again.
    closing: bool,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// All are taken.
    Full,
    /// All of this source are taken.
    Source,
}

impl Refused {
    const fn reason(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Source => "source",
        }
    }
}

/// A connection's place, until dropped.
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    pub(super) turnstile: Arc<Turnstile>,
}

impl Seats {
    pub(super) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), metrics })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a newcomer from this address.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr, limits: Limits) -> Result<Seat, Refused> {
        let source = source(peer);
        let mut table = self.table();
        let of_source = table.sources.get(&source).copied().unwrap_or(0);
        if limits.of_source.is_some_and(|max| of_source >= max) {
            return Err(self.refuse(Refused::Source));
        }
        let shed =
            if table.taken.len() < limits.all { 0 } else { table.shed(limits.all / SHED_SHARE + 1, now()) };
        self.count_shed(shed);
        if table.taken.len() >= limits.all {
            return Err(self.refuse(Refused::Full));
        }
        let (number, turnstile) = (table.next, Turnstile::new());
        if table.closing {
            turnstile.ask(Ask::Close);
        }
        table.next += 1;
        table.taken.insert(number, (source, Arc::clone(&turnstile)));
        *table.sources.entry(source).or_default() += 1;
        self.metrics.connections.inc();
        Ok(Seat { seats: Arc::clone(self), number, turnstile })
    }

    /// Asks all connections to end after their current request.
    pub(super) fn close(&self) {
        let mut table = self.table();
        table.closing = true;
        table.taken.values().for_each(|(_, turnstile)| turnstile.ask(Ask::Close));
    }

    fn refuse(&self, why: Refused) -> Refused {
        self.metrics.connections_refused.get_or_create(&ReasonLabel { reason: why.reason() }).inc();
        why
    }

    fn count_shed(&self, shed: usize) {
        if shed > 0 {
            tracing::debug!(shed, "idle connections make room");
            self.metrics
                .connections_refused
                .get_or_create(&ReasonLabel { reason: "idle" })
                .inc_by(shed as u64);
        }
    }

    /// No file descriptors are left: makes some of the idle give theirs back.
    pub(super) fn make_room(&self) {
        let mut table = self.table();
        let share = table.taken.len() / SHED_SHARE + 1;
        let shed = table.shed(share, now());
        drop(table);
        self.count_shed(shed);
        self.metrics.connections_refused.get_or_create(&ReasonLabel { reason: "descriptors" }).inc();
    }
}

impl Table {
    /// Asks up to `count` connections to leave, those first that have been idle longest; they count
    /// no more.
    fn shed(&mut self, count: usize, now: u64) -> usize {
        // Those who are slow to leave must not add up.
        if now < self.search_at || self.leaving > self.taken.len() / LEAVING_SHARE + count {
            return 0;
        }
        let idle = |(&number, (_, turnstile)): (&u64, &(IpAddr, Arc<Turnstile>))| {
            turnstile.idle_since().map(|since| (since, number))
        };
        let mut idle: Vec<(u64, u64)> = self.taken.iter().filter_map(idle).collect();
        if idle.len() <= count {
            self.search_at = now + SEARCH_AGAIN_AFTER;
        } else {
            idle.select_nth_unstable(count);
            idle.truncate(count);
        }
        for &(_, number) in &idle {
            if let Some(turnstile) = self.free(number) {
                turnstile.ask(Ask::Leave);
                self.leaving += 1;
            }
        }
        idle.len()
    }

    fn free(&mut self, number: u64) -> Option<Arc<Turnstile>> {
        let (source, turnstile) = self.taken.remove(&number)?;
        if let Some(count) = self.sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
        Some(turnstile)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.seats.table();
        if table.free(self.number).is_none() {
            table.leaving -= 1;
        }
        drop(table);
        self.seats.metrics.connections.dec();
    }
}

/// Whom an address counts for: in IPv6, one caller has a whole network.
fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn seats() -> Arc<Seats> {
        Seats::new(Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_makes_room_and_the_busy_stay() {
        let (seats, limits) = (seats(), Limits { all: 3, of_source: None });
        let take = || seats.take(ip("10.0.0.1"), limits);
        let busy = take().expect("a place");
        let _request = busy.turnstile.begin();
        let oldest = take().expect("a place");
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        let newer = take().expect("a place");
        let newest = take().expect("a place of the oldest");
        oldest.turnstile.asked(Ask::Leave).await;
        drop(oldest);
        let _requests = (newer.turnstile.begin(), newest.turnstile.begin());
        assert_eq!(take().err(), Some(Refused::Full));
        drop(busy);
        assert!(take().is_ok());
    }

    #[test]
    fn those_who_do_not_leave_do_not_add_up() {
        let (seats, limits) = (seats(), Limits { all: 16, of_source: None });
        let held: Vec<_> = (0..100).map_while(|_| seats.take(ip("10.0.0.1"), limits).ok()).collect();
        assert_eq!(held.len(), 16 + 16 / LEAVING_SHARE + 2);
    }

    #[test]
    fn one_source_does_not_take_all() {
        let (seats, limits) = (seats(), Limits { all: 100, of_source: Some(1) });
        let _one = seats.take(ip("10.0.0.1"), limits).expect("a place");
        assert_eq!(seats.take(ip("::ffff:10.0.0.1"), limits).err(), Some(Refused::Source));
        let _two = seats.take(ip("2001:db8::1"), limits).expect("a place");
        assert_eq!(seats.take(ip("2001:db8::2"), limits).err(), Some(Refused::Source));
        assert!(seats.take(ip("2001:db8:0:1::1"), limits).is_ok());
    }
}
