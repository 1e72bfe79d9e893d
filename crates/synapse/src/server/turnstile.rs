//! Which requests of a connection may begin, and which are being served. The gate lets heads in one
//! at a time; the service lets nothing in that the gate has not: should the two ever disagree about
//! where a request begins, the connection ends.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU8, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};

use super::{
    head::{Refusal, malformed},
    join::Join,
    stalls::{Pulse, now},
};

const NOT_ADMITTED: Refusal = malformed("The request does not begin where the one before it ended.");

/// What a connection is asked for. The later includes the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Ask {
    /// To end after its current request: the server takes no more.
    Close = 1,
    /// To end once it has nothing to do: another one needs its place.
    Leave = 2,
}

/// A connection's requests.
#[derive(Debug, Default)]
pub(super) struct Turnstile {
    /// Heads that the gate has let in.
    admitted: AtomicUsize,
    /// Requests that the service has seen.
    begun: AtomicUsize,
    /// Requests being served.
    active: AtomicUsize,
    /// When the last one ended, or the connection began.
    idle_since: AtomicU64,
    /// HTTP/2 frames its requests itself.
    multiplexed: AtomicBool,
    /// The connection speaks HTTP no more.
    handed_over: AtomicBool,
    /// Who has it then.
    joining: Mutex<Option<Box<Join>>>,
    /// What the request that was admitted last is to be told.
    refusal: Mutex<Option<Refusal>>,
    /// Waits for the turn.
    waiting: AtomicWaker,
    /// The [`Ask`] so far; 0 is none.
    asked: AtomicU8,
    /// Waits for one.
    answering: AtomicWaker,
}

impl Turnstile {
    /// Of a new connection.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { idle_since: AtomicU64::new(now()), ..Self::default() })
    }

    /// Lets a head in, or one in place of a head that is refused.
    pub(super) fn admit(&self, refusal: Option<Refusal>) {
        self.admitted.fetch_add(1, Relaxed);
        if refusal.is_some() {
            *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
        }
    }

    /// Lets in whatever HTTP/2 makes of the frames.
    pub(super) fn open(&self) {
        self.multiplexed.store(true, Relaxed);
    }

    /// Who takes the connection over, when its HTTP has ended.
    pub(super) fn take_over(&self) -> Option<Box<Join>> {
        self.joining.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the connection speaks HTTP no more.
    pub(super) fn is_handed_over(&self) -> bool {
        self.handed_over.load(Acquire)
    }

    /// A request begins; whether it is to be refused.
    pub(super) fn begin(self: &Arc<Self>) -> (Serving, Option<Refusal>) {
        let before = self.begun.fetch_add(1, Relaxed);
        self.active.fetch_add(1, Relaxed);
        let serving = Serving(Arc::clone(self));
        if self.multiplexed.load(Relaxed) {
            return (serving, None);
        }
        if before >= self.admitted.load(Relaxed) {
            return (serving, Some(NOT_ADMITTED));
        }
        (serving, self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    /// Whether every head that was let in has become a request.
    pub(super) fn is_settled(&self) -> bool {
        self.begun.load(Relaxed) == self.admitted.load(Relaxed)
    }

    /// Whether a request is being served.
    pub(super) fn is_busy(&self) -> bool {
        self.active.load(Relaxed) > 0
    }

    /// Whether there was any request.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Relaxed) > 0
    }

    /// Since when no request is being served.
    pub(super) fn idle_since(&self) -> Option<u64> {
        // A connection that was handed over is at work until its end.
        (!self.is_busy() && !self.is_handed_over()).then(|| self.idle_since.load(Relaxed))
    }

    /// Wakes this waker when a request has ended.
    pub(super) fn wait(&self, waker: &Waker) {
        self.waiting.register(waker);
    }

    /// Asks the connection for something.
    pub(super) fn ask(&self, ask: Ask) {
        self.asked.fetch_max(ask as u8, Release);
        self.answering.wake();
    }

    /// Resolves when the connection is asked for this at least. Only one may wait.
    pub(super) fn asked(&self, least: Ask) -> Asked<'_> {
        Asked { turnstile: self, least, watched_by: None }
    }
}

/// Waits until a connection is asked for something.
pub(super) struct Asked<'t> {
    turnstile: &'t Turnstile,
    least: Ask,
    /// Who is woken. This is polled whenever anything happens on the connection, and mostly in vain.
    watched_by: Option<Waker>,
}

impl Future for Asked<'_> {
    type Output = Ask;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ask> {
        if !self.watched_by.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.turnstile.answering.register(cx.waker());
            self.watched_by = Some(cx.waker().clone());
        }
        let ask = match self.turnstile.asked.load(Acquire) {
            0 => return Poll::Pending,
            1 => Ask::Close,
            _ => Ask::Leave,
        };
        if ask >= self.least { Poll::Ready(ask) } else { Poll::Pending }
    }
}

/// A request that is being served, until dropped.
#[derive(Debug)]
pub(super) struct Serving(Arc<Turnstile>);

impl Serving {
    /// After this request, the connection is somebody else's: nothing of it is looked at any more.
    pub(super) fn hand_over(&self, to: Join) {
        *self.0.joining.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(to));
        self.0.handed_over.store(true, Release);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.idle_since.store(now(), Relaxed);
        self.0.active.fetch_sub(1, Relaxed);
        self.0.waiting.wake();
    }
}

/// A reply's body. Until it is dropped, its request is being served.
pub(super) struct ServedBody<B> {
    body: B,
    pulse: Option<Arc<Pulse>>,
    _serving: Serving,
}

impl<B> ServedBody<B> {
    pub(super) fn new(body: B, serving: Serving) -> Self {
        let pulse = Pulse::current();
        if let Some(pulse) = &pulse {
            pulse.caller_is_next();
        }
        Self { body, pulse, _serving: serving }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ServedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(pulse) = &self.pulse {
            if polled.is_pending() { pulse.engine_is_next() } else { pulse.caller_is_next() }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
