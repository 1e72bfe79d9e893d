//! The transport shell: listeners, one runtime per core, connections, TLS. What a request means is
//! the business of `synapse-gateway`.

mod accept;
mod admin;
pub(crate) mod bind;
mod caller;
mod connection;
mod cores;
mod cors;
mod frames;
mod framing;
mod gate;
mod head;
pub(crate) mod install;
mod join;
pub(crate) mod metrics;
mod patience;
mod routes;
mod seats;
mod shell;
mod stalls;
pub(crate) mod tls;
mod turnstile;
mod version;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use synapse_gateway::{gateway::Gateway, tasks};
use tokio::net::TcpListener;

use accept::Acceptor;
use cores::Cores;
pub(crate) use cores::count as cores_count;
use install::Install;
use seats::Seats;
use shell::Shell;
use tls::Certificates;

/// The running listeners.
pub(crate) struct Server {
    cores: Cores,
    accepting: Vec<tasks::TaskGuard>,
    addresses: Vec<SocketAddr>,
    seats: Arc<Seats>,
}

impl Server {
    /// Starts serving `gateway` on the sockets.
    pub(crate) fn start(
        gateway: &Arc<Gateway>,
        sockets: Vec<std::net::TcpListener>,
        certificates: Option<Arc<Certificates>>,
        install: Arc<Install>,
    ) -> anyhow::Result<Self> {
        let seats = Seats::new(Arc::clone(&gateway.metrics));
        let shell = Arc::new(Shell::new(Arc::clone(gateway), certificates, install));
        let cores = Cores::start(&shell)?;
        let acceptor = Arc::new(Acceptor::new(gateway, Arc::clone(&seats), cores.clone()));
        let mut accepting = Vec::new();
        let mut addresses = Vec::new();
        for socket in sockets {
            let listener = TcpListener::from_std(socket).context("cannot take over the listening socket")?;
            addresses.push(listener.local_addr()?);
            accepting.push(tasks::spawn("acceptor", Arc::clone(&acceptor).accept(listener)));
        }
        Ok(Self { cores, accepting, addresses, seats })
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes no new connections, and asks the open ones to end after their current request.
    pub(crate) fn stop_accepting(&mut self) {
        self.accepting.clear();
        self.seats.close();
    }

    /// Ends the runtimes, and with them whatever is still open; every record closes.
    pub(crate) fn stop(&self) {
        self.cores.stop();
    }

    /// Waits until every connection has ended.
    pub(crate) async fn closed(&self) {
        while self.cores.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
