//! An answer on its way out: the waits between its pieces, the faults that befall it, and the note of
//! how it ended. What the pieces say was decided before.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;

use crate::behaviour::Behaviour;
use crate::interruption::{ByteRange, Interruption, InterruptionKind, Point};
use crate::ledger::Ticket;
use crate::reply::{Event, Framing, Work};
use crate::socket::{Ending, Wire};
use crate::text::Random;

/// The waits of one answer.
pub(crate) struct Pace {
    behaviour: Arc<Behaviour>,
    work: Work,
    random: Random,
}

impl Pace {
    pub(crate) fn new(behaviour: Arc<Behaviour>, work: Work, random: Random) -> Self {
        Self { behaviour, work, random }
    }

    fn until_first(&self) -> Duration {
        self.behaviour.until_first_token(self.work.usage.processed())
    }

    /// Waits until all of an answer is there.
    pub(crate) async fn whole(&mut self, ticket: &Ticket) {
        let generation = self.behaviour.itl.saturating_mul(self.work.longest);
        self.pause(self.until_first().saturating_add(generation), ticket).await;
    }

    async fn pause(&mut self, base: Duration, ticket: &Ticket) {
        let others = f64::from(u32::try_from(ticket.others_running()).unwrap_or(u32::MAX));
        let share = (self.behaviour.slowdown * others).clamp(0.0, 1e6);
        let wait = base
            .saturating_add(base.mul_f64(share))
            .saturating_add(self.behaviour.jitter.mul_f64(self.random.fraction()));
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// Everything the playing of an answer needs.
pub(crate) struct Playback {
    pub(crate) framing: Framing,
    pub(crate) events: VecDeque<Event>,
    /// None where all waits are over.
    pub(crate) pace: Option<Pace>,
    pub(crate) interruption: Option<Interruption>,
    /// The error event of this engine, for an answer that is to fail with one.
    pub(crate) failure: Bytes,
    pub(crate) behaviour: watch::Receiver<Arc<Behaviour>>,
    pub(crate) wire: Wire,
    pub(crate) ticket: Ticket,
    pub(crate) progress: Progress,
}

/// How far an answer has come.
#[derive(Default)]
pub(crate) struct Progress {
    /// Events begun, and whether the last of them is still without its end.
    events: u32,
    is_within: bool,
    bytes: u64,
}

impl Progress {
    /// How many more bytes may go out before `point`, if that is known by bytes.
    fn before(&self, point: Point) -> Option<u64> {
        match point {
            Point::Byte { byte: ByteRange::At(at) } => Some(at.saturating_sub(self.bytes)),
            _ => None,
        }
    }

    fn has_reached(&self, point: Point) -> bool {
        match point {
            Point::Events(events) => events == self.events && !self.is_within,
            _ => self.before(point) == Some(0),
        }
    }
}

impl Playback {
    /// The next piece; none at the end of the body, an error where the connection is reset.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if let Some(interruption) = self.interruption.take_if(|it| self.progress.has_reached(it.after)) {
            match interruption.kind {
                InterruptionKind::Stall => self.stall().await,
                InterruptionKind::Malformed => return Some(Ok(self.framing.malformed())),
                InterruptionKind::Eof => return self.cut(Ending::Close).await,
                InterruptionKind::Reset => return self.cut(Ending::Reset).await,
                InterruptionKind::Error => {
                    self.ticket.break_off();
                    self.events.clear();
                    return Some(Ok(self.failure.clone()));
                }
            }
        }
        let Some(event) = self.events.pop_front() else {
            self.ticket.complete();
            return None;
        };
        self.wait_for(&event).await;
        Some(Ok(self.send(event)))
    }

    /// Waits until the engine has made this event; the first one comes after the prompt.
    async fn wait_for(&mut self, event: &Event) {
        let Some(pace) = &mut self.pace else { return };
        let wait = match (self.progress.events, self.progress.is_within) {
            (0, _) => pace.until_first(),
            (_, false) if event.is_token => pace.behaviour.itl,
            _ => return,
        };
        pace.pause(wait, &self.ticket).await;
    }

    /// As much of the event as may go out now; what may not is the next event.
    fn send(&mut self, mut event: Event) -> Bytes {
        let room = self.interruption.and_then(|interruption| self.progress.before(interruption.after));
        let length = event.bytes.len();
        let now = room.map_or(length, |room| usize::try_from(room).unwrap_or(length).min(length));
        let rest = event.bytes.split_off(now);
        self.progress.events += u32::from(!self.progress.is_within);
        self.progress.is_within = !rest.is_empty();
        self.progress.bytes += now as u64;
        self.ticket.sent(now);
        if !rest.is_empty() {
            self.events.push_front(Event { bytes: rest, is_token: false });
        }
        event.bytes
    }

    /// Ends the body short, and the connection with it unless the body's length was left open.
    async fn cut(&mut self, ending: Ending) -> Option<io::Result<Bytes>> {
        self.ticket.break_off();
        self.events.clear();
        self.wire.end_with(ending);
        // Lets what was written so far reach the peer before the connection goes.
        tokio::task::yield_now().await;
        (ending == Ending::Reset).then(|| Err(io::Error::other("reset as scripted")))
    }

    async fn stall(&mut self) {
        // Fails only when the simulator is gone, and this answer with it.
        let _ = self.behaviour.wait_for(|behaviour| !behaviour.stalls()).await;
    }
}

/// The body of an answer.
pub(crate) enum ReplyBody {
    Whole(Option<(Bytes, Ticket)>),
    Played { pieces: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>, left: Option<u64> },
}

impl ReplyBody {
    pub(crate) fn whole(bytes: Bytes, mut ticket: Ticket) -> Self {
        if bytes.is_empty() {
            // Nobody polls an empty body.
            ticket.complete();
            return Self::Whole(None);
        }
        Self::Whole(Some((bytes, ticket)))
    }

    /// A body that is played; `length` is what its head promises, if anything.
    pub(crate) fn played(playback: Playback, length: Option<u64>) -> Self {
        let pieces = stream::unfold(playback, async |mut playback| {
            let piece = playback.next().await?;
            Some((piece, playback))
        });
        Self::Played { pieces: Box::pin(pieces), left: length }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Whole(rest) => Poll::Ready(rest.take().map(|(bytes, mut ticket)| {
                ticket.sent(bytes.len());
                ticket.complete();
                Ok(Frame::data(bytes))
            })),
            Self::Played { pieces, left } => pieces.as_mut().poll_next(cx).map(|piece| {
                let bytes = match piece? {
                    Ok(bytes) => bytes,
                    Err(error) => return Some(Err(error)),
                };
                *left = left.map(|left| left.saturating_sub(bytes.len() as u64));
                Some(Ok(Frame::data(bytes)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(rest) => {
                SizeHint::with_exact(rest.as_ref().map_or(0, |(bytes, _)| bytes.len() as u64))
            }
            Self::Played { left, .. } => left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
