//! HTTP/2 streams whose caller takes nothing. HTTP/2 does not even ask for a reply's next piece
//! while the caller keeps its window shut, so that only a watch from outside can end the stream.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::Executor;
use synapse_gateway::tasks;
use tokio::{
    task::futures::TaskLocalFuture,
    time::{Instant, Sleep},
};

/// For a caller that takes nothing of what is written to it.
pub(super) const STALLED: Duration = Duration::from_secs(60);

tokio::task_local! {
    static PULSE: Arc<Pulse>;
}

/// Milliseconds since this was first asked; 0 is never.
pub(super) fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

/// Whose turn it is in a stream: the caller's, and since when, or the engine's.
#[derive(Debug, Default)]
pub(super) struct Pulse(AtomicU64);

impl Pulse {
    /// Of the stream whose future is being polled.
    pub(super) fn current() -> Option<Arc<Self>> {
        PULSE.try_with(Arc::clone).ok()
    }

    /// A piece has gone out: now the caller has to take it.
    pub(super) fn caller_is_next(&self) {
        self.0.store(now(), Relaxed);
    }

    /// The caller has taken everything.
    pub(super) fn engine_is_next(&self) {
        self.0.store(0, Relaxed);
    }

    /// How long the caller may go on taking nothing.
    fn left(&self) -> Option<Duration> {
        let since = self.0.load(Relaxed);
        let gone = Duration::from_millis(now().saturating_sub(since));
        (since > 0).then(|| STALLED.saturating_sub(gone))
    }
}

/// Runs each stream of a connection under watch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        tasks::detach("stream", Watched::new(stream));
    }
}

struct Watched<F> {
    pulse: Arc<Pulse>,
    stream: Pin<Box<TaskLocalFuture<Arc<Pulse>, F>>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F: Future<Output = ()>> Watched<F> {
    fn new(stream: F) -> Self {
        let pulse = Arc::<Pulse>::default();
        Self { stream: Box::pin(PULSE.scope(Arc::clone(&pulse), stream)), pulse, timer: None }
    }
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let Some(left) = self.pulse.left() else {
                self.timer = None;
                return Poll::Pending;
            };
            if left.is_zero() {
                tracing::debug!("a stream was ended: its caller takes nothing");
                return Poll::Ready(());
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(left)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_its_caller_takes_nothing_for_a_minute() {
        let began = Instant::now();
        Watched::new(async {
            Pulse::current().expect("a pulse").caller_is_next();
            tokio::time::sleep(Duration::from_secs(30)).await;
            Pulse::current().expect("a pulse").caller_is_next();
            std::future::pending().await
        })
        .await;
        assert_eq!(began.elapsed().as_secs(), 90);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_for_its_engine_goes_on() {
        let stream = Watched::new(async {
            Pulse::current().expect("a pulse").caller_is_next();
            Pulse::current().expect("a pulse").engine_is_next();
            std::future::pending().await
        });
        assert!(tokio::time::timeout(Duration::from_secs(3600), stream).await.is_err());
    }
}
