//! The listener and its connections: accepting, orderly stop and sudden death. What a request is
//! answered with is decided in `dispatch`.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::control::{Control, Phase, Shared};
use crate::dispatch;
use crate::interruption::{Point, Stage};
use crate::options::Options;
use crate::socket::{Ending, Socket};
use crate::text::{self, Random};
use crate::timeline::Timeline;

/// A simulator that holds its port and serves while [`Simulator::run`] is polled.
pub struct Simulator {
    listener: TcpListener,
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Simulator {
    /// Takes the port.
    ///
    /// # Errors
    ///
    /// When the host cannot be resolved or the port is taken.
    pub async fn bind(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind((options.host.as_str(), options.port)).await?;
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr, shared: Arc::new(Shared::new(options)) })
    }

    /// The address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The handle to watch and change it, also after it has ended.
    #[must_use]
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.shared))
    }

    /// Serves until [`Control::stop`] or [`Control::kill`]; when it returns, no connection is left.
    /// Dropping the future is a kill.
    pub async fn run(self) {
        let Self { listener, shared, .. } = self;
        let mut phase = shared.phase.subscribe();
        let mut connections = JoinSet::new();
        let mut clock = JoinSet::new();
        clock.spawn(Timeline::keep(Arc::clone(&shared)));
        // Declared after the connections: it is dropped, and marks the death, before they are.
        let death = Death(&shared);
        loop {
            tokio::select! {
                biased;
                () = reached(&mut phase, Phase::Stopping) => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let number = shared.ledger.connect();
                        connections.spawn(serve(stream, number, Arc::clone(&shared)));
                    }
                    // A full descriptor table, or a caller gone before it was accepted.
                    Err(error) => {
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::task::yield_now().await;
                    }
                },
            }
        }
        drop(listener);
        tokio::select! {
            () = drained(&mut connections) => {}
            () = reached(&mut phase, Phase::Killed) => {}
        }
        drop(death);
        connections.shutdown().await;
    }
}

/// Marks the moment from which unanswered calls are the simulator's fault.
struct Death<'a>(&'a Shared);

impl Drop for Death<'_> {
    fn drop(&mut self) {
        self.0.ledger.die();
    }
}

/// Waits until the simulator has come as far as `wanted`.
async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    // Fails only when the sender is gone, and this connection's simulator with it.
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

async fn drained(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

async fn serve(stream: TcpStream, number: u64, shared: Arc<Shared>) {
    let phase = shared.phase.subscribe();
    let served = match Socket::new(stream) {
        Ok(socket) => receive(socket, number, shared, phase).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

type Served = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Sees to what befalls a connection before anything is read from it.
async fn receive(
    socket: Socket,
    number: u64,
    shared: Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
) -> Served {
    let mut random = Random::new(!text::hash(&shared.options.seed.to_le_bytes()) ^ number);
    let behaviour = shared.behaviour().drawn(&mut random);
    let befallen = behaviour.interruption.filter(|it| it.after == Point::Stage(Stage::Connect));
    if let Some(interruption) = befallen {
        if !interruption.stalls() {
            // An error needs a request that it answers: what is left of it is an end.
            socket.wire().end_with(interruption.kind.ending().unwrap_or(Ending::Close));
            return Ok(());
        }
        let mut changes = shared.behaviour.subscribe();
        tokio::select! {
            lifted = changes.wait_for(|behaviour| !behaviour.stalls()) => drop(lifted?),
            () = reached(&mut phase, Phase::Stopping) => return Ok(()),
        }
    }
    converse(socket, shared, phase).await
}

async fn converse(socket: Socket, shared: Arc<Shared>, mut phase: watch::Receiver<Phase>) -> Served {
    let wire = socket.wire();
    let service = service_fn(move |request| dispatch::answer(Arc::clone(&shared), wire.clone(), request));
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = reached(&mut phase, Phase::Stopping) => {}
    }
    connection.as_mut().graceful_shutdown();
    Ok(connection.await?)
}
