//! Where requests wait for a backend that is at its `max_in_flight`: one bounded line per backend, in
//! which the callers' keys take turns, so that none of them can crowd out the others. A request that
//! could be served by several backends stands in the line of each and goes where a place is free
//! first. One that would have to wait too long is told so at once.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use synapse_core::{config::snapshot::Queue, id::KeyId};

use super::{endpoint::Endpoint, fleet::Slot};

/// Waiting times scatter: who is expected to wait for longer than this share of the limit may well
/// exceed it, and is better told at once.
const CONFIDENT: f64 = 0.75;
/// Nobody is told to come back later than this.
const LONGEST: Duration = Duration::from_secs(300);

/// Why a request does not wait any longer, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// The lines are full.
    Full,
    /// It would take too long.
    TooLong,
    /// The bodies of those who wait take too much memory.
    Memory,
    /// Its key had more requests waiting than others, and one of theirs came.
    Unfair,
    /// It has waited for as long as is allowed.
    TimedOut,
    /// The backends that it waited for have left.
    Gone,
}

impl Shed {
    /// The word in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "queue_full",
            Self::TooLong => "wait_too_long",
            Self::Memory => "memory",
            Self::Unfair => "fair_share",
            Self::TimedOut => "timeout",
            Self::Gone => "gone",
        }
    }
}

/// A request in line, seen by every backend in whose line it stands.
#[derive(Default)]
struct Ticket(Mutex<TicketState>);

enum TicketState {
    Waiting {
        waker: Option<Waker>,
        /// In how many lines it stands.
        places: u32,
    },
    Granted(Arc<Endpoint>, Slot),
    Shed(Shed),
    /// Nobody waits for it any more.
    Left,
}

impl Default for TicketState {
    fn default() -> Self {
        Self::Waiting { waker: None, places: 0 }
    }
}

impl Ticket {
    fn settle(&self, with: impl FnOnce() -> TicketState) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let TicketState::Waiting { waker, .. } = &mut *state else { return false };
        let waker = waker.take();
        *state = with();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        true
    }

    fn stand(&self) {
        if let TicketState::Waiting { places, .. } =
            &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)
        {
            *places += 1;
        }
    }

    /// Its place in one line is gone; with the last one, so is its hope.
    fn lose_place(&self, why: Shed) {
        let left = match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            TicketState::Waiting { places, .. } => {
                *places = places.saturating_sub(1);
                *places
            }
            _ => return,
        };
        if left == 0 {
            self.settle(|| TicketState::Shed(why));
        }
    }
}

struct Place {
    ticket: Arc<Ticket>,
    endpoint: Arc<Endpoint>,
}

struct Turn {
    key: KeyId,
    places: VecDeque<Place>,
}

/// The requests that wait for one backend.
#[derive(Default)]
pub(super) struct Line {
    /// The key whose turn it is comes first.
    turns: VecDeque<Turn>,
    len: usize,
}

impl Line {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Adds a place. In a full line it takes that of the key that has most places, if this is a
    /// different one and has fewer.
    fn push(&mut self, key: &KeyId, place: Place, limit: usize) -> Result<(), Shed> {
        let own = self.turns.iter().position(|turn| turn.key == *key);
        if self.len >= limit {
            let held = own.map_or(0, |at| self.turns[at].places.len());
            let longest = self.turns.iter_mut().max_by_key(|turn| turn.places.len());
            let Some(longest) = longest.filter(|turn| turn.places.len() > held + 1) else {
                return Err(Shed::Full);
            };
            if let Some(last) = longest.places.pop_back() {
                self.len -= 1;
                last.ticket.lose_place(Shed::Unfair);
            }
        }
        place.ticket.stand();
        self.len += 1;
        match own {
            Some(at) => self.turns[at].places.push_back(place),
            None => self.turns.push_back(Turn { key: key.clone(), places: [place].into() }),
        }
        Ok(())
    }

    /// How many are served before one more of this key would be: the keys take turns.
    fn ahead_of(&self, key: &KeyId) -> u32 {
        let own = self.turns.iter().find(|turn| turn.key == *key).map_or(0, |turn| turn.places.len());
        let others = self.turns.iter().filter(|turn| turn.key != *key);
        let ahead: usize = others.map(|turn| turn.places.len().min(own + 1)).sum();
        (own + ahead) as u32
    }

    fn pop(&mut self) -> Option<Place> {
        let mut turn = self.turns.pop_front()?;
        let place = turn.places.pop_front();
        self.len -= usize::from(place.is_some());
        if !turn.places.is_empty() {
            self.turns.push_back(turn);
        }
        place
    }

    /// Ends the line: nobody waits here any more.
    pub(super) fn dissolve(&mut self) {
        self.len = 0;
        for place in std::mem::take(&mut self.turns).into_iter().flat_map(|turn| turn.places) {
            place.ticket.lose_place(Shed::Gone);
        }
    }

    fn remove(&mut self, ticket: &Arc<Ticket>) {
        for turn in &mut self.turns {
            if let Some(at) = turn.places.iter().position(|place| Arc::ptr_eq(&place.ticket, ticket)) {
                turn.places.remove(at);
                self.len -= 1;
                break;
            }
        }
        self.turns.retain(|turn| !turn.places.is_empty());
    }

    /// Lets in whoever is next, for as long as `enter` finds room.
    pub(super) fn admit(&mut self, enter: impl Fn() -> Option<Slot>) {
        while self.len > 0 {
            let Some(slot) = enter() else { return };
            let mut slot = Some(slot);
            while let Some(free) = slot.take() {
                let Some(place) = self.pop() else {
                    free.give_back();
                    return;
                };
                let mut unused = Some(free);
                let granted = || match unused.take() {
                    Some(slot) => TicketState::Granted(Arc::clone(&place.endpoint), slot),
                    None => TicketState::Left,
                };
                place.ticket.settle(granted);
                slot = unused;
            }
        }
    }
}

/// What all lines share.
#[derive(Debug, Default)]
pub struct WaitingRoom {
    bytes: AtomicU64,
}

/// A request that waits; dropping it leaves every line.
pub struct Waiting {
    ticket: Arc<Ticket>,
    endpoints: Vec<Arc<Endpoint>>,
    key: KeyId,
    max_waiting: usize,
    room: Arc<WaitingRoom>,
    bytes: u64,
}

impl WaitingRoom {
    /// Lines up for the first free place at any of `endpoints`. `bytes` is what the request holds in
    /// memory meanwhile.
    ///
    /// # Errors
    /// When there is no sense in waiting, with the time after which there may be.
    pub fn line_up(
        self: &Arc<Self>,
        endpoints: Vec<Arc<Endpoint>>,
        key: &KeyId,
        limits: &Queue,
        bytes: u64,
    ) -> Result<Waiting, (Shed, Duration)> {
        let (ahead, expected) = expected_wait(&endpoints, key);
        if limits.max_waiting == 0 {
            return Err((Shed::Full, expected));
        }
        // The next place may be free at any moment, however long requests take.
        if ahead > 0 && expected > limits.max_wait.mul_f64(CONFIDENT) {
            return Err((Shed::TooLong, expected));
        }
        // From here on, what was taken is given back by the drop of `waiting`.
        let held = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let mut waiting = Waiting {
            ticket: Arc::default(),
            endpoints: Vec::with_capacity(endpoints.len()),
            key: key.clone(),
            max_waiting: limits.max_waiting as usize,
            room: Arc::clone(self),
            bytes,
        };
        if held > limits.max_bytes {
            return Err((Shed::Memory, expected));
        }
        waiting.stand_at(endpoints);
        if waiting.endpoints.is_empty() {
            return Err((Shed::Full, expected));
        }
        Ok(waiting)
    }
}

impl Waiting {
    /// Stands in the lines of these, too, as far as they are not full.
    pub fn stand_at(&mut self, endpoints: Vec<Arc<Endpoint>>) {
        for endpoint in endpoints {
            if self.endpoints.iter().any(|known| Arc::ptr_eq(&known.backend, &endpoint.backend)) {
                continue;
            }
            let place = Place { ticket: Arc::clone(&self.ticket), endpoint: Arc::clone(&endpoint) };
            let pushed = endpoint.backend.with_line(|line| line.push(&self.key, place, self.max_waiting));
            if pushed.is_ok() {
                // A place may have become free since it was last looked at.
                endpoint.backend.admit_waiting();
                self.endpoints.push(endpoint);
            }
        }
    }
}

/// How many are served before one more of this key would be, and how long it would wait for the first
/// free place, by how long requests have taken lately.
fn expected_wait(endpoints: &[Arc<Endpoint>], key: &KeyId) -> (u32, Duration) {
    let now = Instant::now();
    let mut rate = 0.0;
    let mut ahead = 0;
    for endpoint in endpoints {
        ahead = ahead.max(endpoint.backend.with_line(|line| line.ahead_of(key)));
        let Some(per_second) = endpoint.backend.throughput(now) else { return (ahead, Duration::ZERO) };
        rate += per_second;
    }
    let wait = Duration::try_from_secs_f64((f64::from(ahead) + 1.0) / rate).unwrap_or(LONGEST);
    (ahead, wait.min(LONGEST))
}

impl Future for Waiting {
    type Output = Result<(Arc<Endpoint>, Slot), Shed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.ticket.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            TicketState::Waiting { waker, .. } => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            TicketState::Granted(..) => match std::mem::replace(&mut *state, TicketState::Left) {
                TicketState::Granted(endpoint, slot) => Poll::Ready(Ok((endpoint, slot))),
                _ => Poll::Ready(Err(Shed::Unfair)),
            },
            TicketState::Shed(why) => Poll::Ready(Err(*why)),
            TicketState::Left => Poll::Ready(Err(Shed::Unfair)),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let state = {
            let mut state = self.ticket.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *state, TicketState::Left)
        };
        for endpoint in &self.endpoints {
            endpoint.backend.with_line(|line| line.remove(&self.ticket));
        }
        self.room.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        // A place granted too late to be taken goes to the next in line.
        drop(state);
    }
}
