//! One current-thread runtime per core. A connection lives on the core that had the fewest, with
//! all its requests, upstream connections and timers; nothing of it is shared or stolen.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::Context;
use synapse_gateway::{backend::http::pin_shard, tasks};
use tokio::{
    net::TcpStream,
    runtime::Builder,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::{connection, shell::Shell};

type Accepted = (std::net::TcpStream, SocketAddr);

/// The runtimes that serve connections.
#[derive(Clone)]
pub(super) struct Cores(Arc<[Core]>);

struct Core {
    inbox: UnboundedSender<Accepted>,
    open: Arc<AtomicUsize>,
}

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

    /// Gives a connection to the core that has the fewest.
    pub(super) fn hand_over(&self, stream: TcpStream, peer: SocketAddr) {
        let Ok(stream) = stream.into_std() else { return };
        let Some(core) = self.0.iter().min_by_key(|core| core.open.load(Ordering::Relaxed)) else { return };
        core.open.fetch_add(1, Ordering::Relaxed);
        if core.inbox.send((stream, peer)).is_err() {
            core.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn start_core(index: usize, shell: &Arc<Shell>) -> anyhow::Result<Core> {
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
    let (inbox, accepted) = unbounded_channel();
    let open = Arc::new(AtomicUsize::new(0));
    let core = Core { inbox, open: Arc::clone(&open) };
    let shell = Arc::clone(shell);
    let run = move || {
        pin_shard(index);
        runtime.block_on(serve_all(accepted, shell, open));
    };
    thread::Builder::new().name(format!("core-{index}")).spawn(run).context("cannot start a thread")?;
    Ok(core)
}

async fn serve_all(mut accepted: UnboundedReceiver<Accepted>, shell: Arc<Shell>, open: Arc<AtomicUsize>) {
    while let Some((stream, peer)) = accepted.recv().await {
        let counted = Counted(Arc::clone(&open));
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        let shell = Arc::clone(&shell);
        tasks::detach("connection", async move {
            connection::serve(&shell, stream, peer).await;
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
