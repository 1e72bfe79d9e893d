//! The runtime layouts under comparison: who accepts a connection, and which thread serves it.
//! Threads that serve are named `core-N`, so that their CPU time can be told apart.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::mpsc,
    task::JoinSet,
};

use crate::{proxy, upstream::Upstream};

/// Connections that wait in the kernel until they are accepted.
const BACKLOG: i32 = 4096;
/// Accepted connections that may wait for their core.
const HANDED_OVER: usize = 64;

#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Layout {
    /// One multi-threaded runtime; an idle thread takes work from a busy one.
    Stealing,
    /// A single-threaded runtime per core, each with a listener; the kernel picks by a hash.
    Reuseport,
    /// A single-threaded runtime per core, one listener; a connection goes to the core that has
    /// the fewest.
    Handoff,
}

impl Layout {
    /// Serves until the process is killed or accepting fails.
    pub(crate) fn run(self, threads: usize, listen: SocketAddr, upstream: SocketAddr) -> anyhow::Result<()> {
        match self {
            Self::Stealing => stealing(threads, listen, upstream),
            Self::Reuseport => reuseport(threads, listen, upstream),
            Self::Handoff => handoff(threads, listen, upstream),
        }
    }
}

fn stealing(threads: usize, listen: SocketAddr, upstream: SocketAddr) -> anyhow::Result<()> {
    let name = || {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        format!("core-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    };
    let runtime =
        Builder::new_multi_thread().worker_threads(threads).thread_name_fn(name).enable_all().build()?;
    let listener = bind(listen, false)?;
    runtime.block_on(async {
        // On the main thread each new connection would have to wake a worker.
        let mut acceptor = JoinSet::new();
        acceptor.spawn(accept(listener, Upstream::new(upstream)?));
        while let Some(ended) = acceptor.join_next().await {
            ended??;
        }
        Ok(())
    })
}

fn reuseport(threads: usize, listen: SocketAddr, upstream: SocketAddr) -> anyhow::Result<()> {
    // Bound before any thread starts: a failure ends the process, and no core is missing at first.
    let listeners = (0..threads).map(|_| bind(listen, true)).collect::<io::Result<Vec<_>>>()?;
    per_core(listeners, |listener, runtime| runtime.block_on(accept(listener, Upstream::new(upstream)?)))
}

fn handoff(threads: usize, listen: SocketAddr, upstream: SocketAddr) -> anyhow::Result<()> {
    let listener = bind(listen, false)?;
    let (cores, queues): (Vec<_>, Vec<_>) = (0..threads)
        .map(|_| {
            let (sockets, queue) = mpsc::channel(HANDED_OVER);
            (Core { open: Arc::default(), sockets }, queue)
        })
        .unzip();
    thread::Builder::new()
        .name("acceptor".to_owned())
        .spawn(move || single_threaded()?.block_on(hand_over(listener, cores)))?;
    per_core(queues, |queue, runtime| runtime.block_on(receive(queue, Upstream::new(upstream)?)))
}

/// Runs `work` on a named thread per item, with a runtime each, until all have ended.
fn per_core<T: Send>(
    items: Vec<T>,
    work: impl Fn(T, Runtime) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let work = &work;
    thread::scope(|scope| {
        let mut running = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let core = thread::Builder::new().name(format!("core-{index}"));
            running.push(core.spawn_scoped(scope, move || work(item, single_threaded()?))?);
        }
        for core in running {
            core.join().map_err(|_| anyhow::anyhow!("a core panicked"))??;
        }
        Ok(())
    })
}

fn single_threaded() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Not address-in-use because of connections of an earlier run.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves what it accepts, on its own runtime.
async fn accept(listener: std::net::TcpListener, upstream: Arc<Upstream>) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (socket, _peer) = accepted?;
                open.spawn(proxy::serve(socket, Arc::clone(&upstream)));
            }
            Some(_ended) = open.join_next() => {}
        }
    }
}

/// A core as the acceptor sees it.
struct Core {
    open: Arc<AtomicUsize>,
    sockets: mpsc::Sender<Accepted>,
}

/// A connection on its way to its core.
struct Accepted {
    socket: std::net::TcpStream,
    open: OpenConnection,
}

/// Counts as open on its core until dropped.
struct OpenConnection(Arc<AtomicUsize>);

impl OpenConnection {
    fn on(core: &Core) -> Self {
        core.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&core.open))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn hand_over(listener: std::net::TcpListener, cores: Vec<Core>) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut last = 0;
    loop {
        let (socket, _peer) = listener.accept().await?;
        last = fewest(&cores, last);
        let core = &cores[last];
        // A socket belongs to the reactor it was registered with; as a plain one it can move.
        let accepted = Accepted { socket: socket.into_std()?, open: OpenConnection::on(core) };
        core.sockets.send(accepted).await.map_err(|_| anyhow::anyhow!("a core has ended"))?;
    }
}

/// The core with the fewest connections. Among equals the search goes on from the one chosen last;
/// otherwise short connections, which leave all at zero, would all go to the first.
fn fewest(cores: &[Core], last: usize) -> usize {
    let open = |index: &usize| cores[*index].open.load(Ordering::Relaxed);
    (1..=cores.len()).map(|step| (last + step) % cores.len()).min_by_key(open).unwrap_or(last)
}

async fn receive(mut queue: mpsc::Receiver<Accepted>, upstream: Arc<Upstream>) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = queue.recv() => {
                let Some(Accepted { socket, open }) = accepted else { return Ok(()) };
                let serving = proxy::serve(TcpStream::from_std(socket)?, Arc::clone(&upstream));
                tasks.spawn(async move {
                    let _open = open;
                    serving.await;
                });
            }
            Some(_ended) = tasks.join_next() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(open: &[usize]) -> Vec<Core> {
        let core = |&n: &usize| Core { open: Arc::new(AtomicUsize::new(n)), sockets: mpsc::channel(1).0 };
        open.iter().map(core).collect()
    }

    #[test]
    fn the_core_with_the_fewest_connections_is_next() {
        assert_eq!(fewest(&cores(&[3, 1, 2]), 1), 1);
    }

    #[test]
    fn equal_cores_take_turns() {
        let cores = cores(&[0, 0, 0]);
        assert_eq!((fewest(&cores, 0), fewest(&cores, 1), fewest(&cores, 2)), (1, 2, 0));
    }

    #[test]
    fn a_closed_connection_counts_no_more() {
        let cores = cores(&[1, 1]);
        let open = OpenConnection::on(&cores[0]);
        assert_eq!(fewest(&cores, 1), 1);
        drop(open);
        assert_eq!(fewest(&cores, 1), 0);
    }
}
