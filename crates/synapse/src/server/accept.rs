//! Accepting connections: within their limits, and as long as there are file descriptors.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use synapse_core::error::{Fault, FaultKind};
use synapse_core::id::RequestId;
use synapse_gateway::{gateway::Gateway, respond};
use tokio::net::{TcpListener, TcpStream};

use super::{
    cores::Cores,
    seats::{Limits, Seats},
};

/// After a failed accept.
const BACK_OFF: Duration = Duration::from_millis(50);
/// File descriptors for everything but connections and what they need upstream.
const RESERVE: u64 = 128;
/// The default for machines without bounds: so many connections are still no burden.
const MANY: usize = 16_384;

/// Hands new connections to cores.
pub(super) struct Acceptor {
    gateway: Arc<Gateway>,
    seats: Arc<Seats>,
    cores: Cores,
    bearable: usize,
}

impl Acceptor {
    pub(super) fn new(gateway: &Arc<Gateway>, seats: Arc<Seats>, cores: Cores) -> Self {
        Self { gateway: Arc::clone(gateway), seats, cores, bearable: bearable(raise_descriptor_limit()) }
    }

    /// Accepts for as long as it is polled. Errors of `accept` are passing (the peer has gone, no
    /// file descriptors are left): wait a little, and go on.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.seat(stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) {
                        self.seats.make_room();
                    }
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }

    fn seat(&self, stream: TcpStream, peer: SocketAddr) {
        let live = self.gateway.live();
        let server = &live.snapshot.server;
        let speaks_for_many = server.trusted_proxies.iter().any(|net| net.contains(peer.ip()));
        let limits = Limits {
            all: server.max_connections.unwrap_or(self.bearable),
            of_source: server.max_connections_per_ip.filter(|_| !speaks_for_many),
        };
        match self.seats.take(peer.ip(), limits) {
            Ok(seat) => self.cores.hand_over(stream, peer, seat),
            Err(_) if server.tls.is_some() => {}
            // What does not fit into the socket's buffer at once is not worth a task.
            Err(_) => drop(stream.try_write(&overloaded())),
        }
    }
}

const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// The whole reply to a connection that has no place.
fn overloaded() -> Vec<u8> {
    let fault = Fault::new(FaultKind::Overloaded, "The gateway has too many connections. Try again.");
    let mut reply = respond::fault(&fault);
    respond::tag(reply.headers_mut(), &RequestId::generate());
    let mut text = format!("HTTP/1.1 {}\r\n", reply.status()).into_bytes();
    for (name, value) in reply.headers() {
        text.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    let body = reply.body();
    text.extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes());
    text.extend_from_slice(body);
    text
}

/// Raises the limit of open files to what the system allows; returns what holds then.
fn raise_descriptor_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_err() {
        return limit.current;
    }
    limit.maximum
}

/// As many connections as leave each a descriptor for its engine.
fn bearable(descriptors: Option<u64>) -> usize {
    let half = descriptors.map(|count| count.saturating_sub(RESERVE) / 2);
    half.and_then(|half| usize::try_from(half).ok()).map_or(MANY, |half| half.clamp(1, MANY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_leaves_a_descriptor_for_its_engine() {
        assert_eq!(bearable(Some(1024)), 448);
        assert_eq!((bearable(Some(1 << 20)), bearable(None)), (MANY, MANY));
        assert_eq!(bearable(Some(10)), 1);
    }
}
