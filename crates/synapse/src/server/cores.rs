//! One current-thread runtime per core. A connection lives on the core that had the fewest, with
//! all its requests, upstream connections and timers; nothing of it is shared or stolen.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::Context;
use synapse_gateway::{backend::http::pin_shard, tasks};
use tokio::{
    net::TcpStream,
    runtime::Builder,
    sync::{
        Notify,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
};

use super::{connection, seats::Seat, shell::Shell};

type Accepted = (std::net::TcpStream, SocketAddr, Seat);

/// The runtimes that serve connections.
#[derive(Clone)]
pub(super) struct Cores(Arc<[Core]>);

struct Core {
    inbox: UnboundedSender<Accepted>,
    open: Arc<AtomicUsize>,
    stopping: Arc<Notify>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Whose turn it is among equals.
static TURN: AtomicUsize = AtomicUsize::new(0);

/// How many runtimes there are on this machine.
pub(crate) fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

impl Cores {
    pub(super) fn start(shell: &Arc<Shell>) -> anyhow::Result<Self> {
        let cores: Result<Vec<Core>, _> = (0..count()).map(|index| start_core(index, shell)).collect();
        Ok(Self(cores?.into()))
    }

    /// Open connections on all cores.
    pub(super) fn connections(&self) -> usize {
        self.0.iter().map(|core| core.open.load(Ordering::Relaxed)).sum()
    }

    /// Ends all runtimes, dropping what runs there.
    pub(super) fn stop(&self) {
        for core in &*self.0 {
            core.stopping.notify_one();
        }
        for core in &*self.0 {
            let thread = core.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            if thread.is_some_and(|thread| thread.join().is_err()) {
                tracing::error!("a core had panicked");
            }
        }
    }

    /// The core with the fewest connections; equals take turns.
    fn fewest(&self) -> Option<&Core> {
        let turn = TURN.fetch_add(1, Ordering::Relaxed) % self.0.len().max(1);
        let (before, after) = self.0.split_at_checked(turn)?;
        after.iter().chain(before).min_by_key(|core| core.open.load(Ordering::Relaxed))
    }

    /// Gives a connection to the core that has the fewest.
    pub(super) fn hand_over(&self, stream: TcpStream, peer: SocketAddr, seat: Seat) {
        let Ok(stream) = stream.into_std() else { return };
        let Some(core) = self.fewest() else { return };
        core.open.fetch_add(1, Ordering::Relaxed);
        if core.inbox.send((stream, peer, seat)).is_err() {
            core.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn start_core(index: usize, shell: &Arc<Shell>) -> anyhow::Result<Core> {
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
    let (inbox, accepted) = unbounded_channel();
    let open = Arc::new(AtomicUsize::new(0));
    let stopping = Arc::<Notify>::default();
    let (shell, stop, counter) = (Arc::clone(shell), Arc::clone(&stopping), Arc::clone(&open));
    let run = move || {
        pin_shard(index);
        runtime.block_on(async {
            tokio::select! {
                () = serve_all(accepted, shell, counter) => {}
                () = stop.notified() => {}
            }
        });
    };
    let thread =
        thread::Builder::new().name(format!("core-{index}")).spawn(run).context("cannot start a thread")?;
    Ok(Core { inbox, open, stopping, thread: Mutex::new(Some(thread)) })
}

async fn serve_all(mut accepted: UnboundedReceiver<Accepted>, shell: Arc<Shell>, open: Arc<AtomicUsize>) {
    while let Some((stream, peer, seat)) = accepted.recv().await {
        let counted = Counted(Arc::clone(&open));
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        let shell = Arc::clone(&shell);
        tasks::detach("connection", async move {
            connection::serve(&shell, stream, peer, seat).await;
            drop(counted);
        });
    }
}

/// Counts a connection as open until dropped, however it ends.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
