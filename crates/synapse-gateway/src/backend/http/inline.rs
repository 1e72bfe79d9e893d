//! Polling two ends of a channel in one task. Each of them wakes the other, and both wakers lead to
//! the task that is polling them just now: without this, it would be polled again in vain for every
//! piece that passes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// How often it is looked again at once; more is for the task's next turn.
const ROUNDS: usize = 3;

/// Wakes its task, unless that is polling: then it is only told to look again.
///
/// No wake-up is lost: whoever wakes sets `again` before looking at `polling`, and whoever polls looks at `again`
/// once more after it has cleared `polling`. All of it is sequentially consistent, so one of the two sees the other.
#[derive(Debug, Default)]
struct Inlet {
    task: AtomicWaker,
    polling: AtomicBool,
    again: AtomicBool,
}

impl Wake for Inlet {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.again.store(true, SeqCst);
        if !self.polling.load(SeqCst) {
            self.task.wake();
        }
    }
}

/// Polls both ends.
#[derive(Clone, Debug)]
pub(super) struct Inline {
    inlet: Arc<Inlet>,
    waker: Waker,
}

impl Inline {
    pub(super) fn new() -> Self {
        let inlet = Arc::<Inlet>::default();
        Self { waker: Waker::from(Arc::clone(&inlet)), inlet }
    }

    /// Polls until nothing is left that `poll` has woken itself for.
    pub(super) fn poll<T>(
        &self,
        cx: &Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.inlet.task.register(cx.waker());
        self.inlet.polling.store(true, SeqCst);
        let mut polled = Poll::Pending;
        for _ in 0..ROUNDS {
            self.inlet.again.store(false, SeqCst);
            polled = poll(&mut Context::from_waker(&self.waker));
            if polled.is_ready() || !self.inlet.again.load(SeqCst) {
                break;
            }
        }
        self.inlet.polling.store(false, SeqCst);
        if polled.is_pending() && self.inlet.again.load(SeqCst) {
            cx.waker().wake_by_ref();
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// How often it is polled, and its task woken, where it wakes itself in the first `times` polls.
    fn polls_and_wakes(times: usize) -> (usize, usize) {
        let (task, inline, mut polls) = (Arc::<Count>::default(), Inline::new(), 0);
        let waker = Waker::from(Arc::clone(&task));
        let polled = inline.poll(&Context::from_waker(&waker), |cx| {
            polls += 1;
            if polls <= times {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        (polls, task.0.load(SeqCst))
    }

    #[test]
    fn who_wakes_itself_is_polled_again_at_once_and_its_task_is_left_alone() {
        assert_eq!(polls_and_wakes(0), (1, 0));
        assert_eq!(polls_and_wakes(1), (2, 0));
        assert_eq!(polls_and_wakes(2), (3, 0));
    }

    #[test]
    fn who_never_stops_gets_another_turn_of_its_task() {
        assert_eq!(polls_and_wakes(100), (ROUNDS, 1));
    }

    #[test]
    fn between_polls_the_task_is_woken() {
        let (task, inline, mut kept) = (Arc::<Count>::default(), Inline::new(), None);
        let waker = Waker::from(Arc::clone(&task));
        let polled = inline.poll(&Context::from_waker(&waker), |cx| {
            kept = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        kept.expect("a waker").wake();
        assert_eq!(task.0.load(SeqCst), 1);
    }

    #[test]
    fn a_wake_from_another_thread_is_never_lost() {
        let (inline, pieces) = (Inline::new(), 20_000);
        let (sent, runtime) = (Arc::new(AtomicUsize::new(0)), tokio::runtime::Builder::new_current_thread());
        let (mut runtime, inbox) = (runtime, Arc::new(AtomicWaker::new()));
        let (sender, bell) = (Arc::clone(&sent), Arc::clone(&inbox));
        let other = std::thread::spawn(move || {
            for _ in 0..pieces {
                sender.fetch_add(1, SeqCst);
                bell.wake();
            }
        });
        let all_seen = std::future::poll_fn(|cx| {
            inline.poll(cx, |cx| {
                inbox.register(cx.waker());
                if sent.load(SeqCst) == pieces { Poll::Ready(()) } else { Poll::Pending }
            })
        });
        runtime.build().expect("a runtime").block_on(all_seen);
        other.join().expect("sent");
    }
}
