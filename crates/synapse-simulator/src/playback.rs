//! An answer on its way out: the waits between its pieces, the faults that befall it, and the note of
//! how it ended. What the pieces say was decided before.

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

use crate::behaviour::{Behaviour, Interruption, InterruptionKind};
use crate::ledger::Ticket;
use crate::reply::{Event, Framing};
use crate::text::Random;

/// The waits of one answer.
pub(crate) struct Pace {
    ttft: Duration,
    itl: Duration,
    jitter: Duration,
    random: Random,
}

impl Pace {
    pub(crate) fn new(behaviour: &Behaviour, random: Random) -> Self {
        Self { ttft: behaviour.ttft, itl: behaviour.itl, jitter: behaviour.jitter, random }
    }

    /// Waits for the first token.
    async fn first(&mut self) {
        self.pause(self.ttft).await;
    }

    /// Waits for one more token.
    async fn next(&mut self) {
        self.pause(self.itl).await;
    }

    /// Waits until a whole answer of `tokens` is there.
    pub(crate) async fn whole(&mut self, tokens: u32) {
        self.pause(self.ttft.saturating_add(self.itl.saturating_mul(tokens))).await;
    }

    async fn pause(&mut self, base: Duration) {
        let wait = base.saturating_add(self.jitter.mul_f64(self.random.fraction()));
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// Everything the playing of a stream needs.
pub(crate) struct Playback {
    pub(crate) framing: Framing,
    pub(crate) events: std::vec::IntoIter<Event>,
    pub(crate) pace: Pace,
    pub(crate) interruption: Option<Interruption>,
    /// The error event of this engine, for a stream that is to fail with one.
    pub(crate) failure: Bytes,
    pub(crate) behaviour: watch::Receiver<Arc<Behaviour>>,
    pub(crate) ticket: Ticket,
    pub(crate) sent: u32,
}

impl Playback {
    /// The next piece; none at the end of the body, an error where the connection is reset.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if let Some(interruption) = self.interruption
            && interruption.after == self.sent
        {
            self.interruption = None;
            match interruption.kind {
                InterruptionKind::Stall => self.stall().await,
                InterruptionKind::Malformed => return Some(Ok(self.framing.malformed())),
                InterruptionKind::Eof => {
                    self.ticket.break_off();
                    return None;
                }
                InterruptionKind::Error => {
                    self.ticket.break_off();
                    self.events = Vec::new().into_iter();
                    return Some(Ok(self.failure.clone()));
                }
                InterruptionKind::Reset => {
                    self.ticket.break_off();
                    // Lets what was written so far reach the peer before the connection goes.
                    tokio::task::yield_now().await;
                    return Some(Err(io::Error::other("reset as scripted")));
                }
            }
        }
        let Some(event) = self.events.next() else {
            self.ticket.complete();
            return None;
        };
        if self.sent == 0 {
            self.pace.first().await;
        } else if event.is_token {
            self.pace.next().await;
        }
        self.sent += 1;
        Some(Ok(event.bytes))
    }

    async fn stall(&mut self) {
        let stalls = |behaviour: &Arc<Behaviour>| {
            behaviour.interruption.is_some_and(|interruption| interruption.kind == InterruptionKind::Stall)
        };
        // Fails only when the simulator is gone, and this answer with it.
        let _ = self.behaviour.wait_for(|behaviour| !stalls(behaviour)).await;
    }
}

/// The body of an answer.
pub(crate) enum ReplyBody {
    Whole(Option<(Bytes, Ticket)>),
    Played(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>),
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

    pub(crate) fn played(playback: Playback) -> Self {
        Self::Played(Box::pin(stream::unfold(playback, async |mut playback| {
            let piece = playback.next().await?;
            Some((piece, playback))
        })))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Whole(rest) => Poll::Ready(rest.take().map(|(bytes, mut ticket)| {
                ticket.complete();
                Ok(Frame::data(bytes))
            })),
            Self::Played(stream) => stream.as_mut().poll_next(cx).map(|piece| Some(piece?.map(Frame::data))),
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
            Self::Played(_) => SizeHint::default(),
        }
    }
}
