//! Checkpoints to a syslog server, as messages of RFC 5424. Syslog confirms nothing. Over TCP and TLS, a connection takes
//! one message and is closed by both ends, so that at least a server that broke off is noticed.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use synapse_audit::sink::message;
use synapse_core::config::snapshot::SyslogAddress;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UdpSocket, UnixDatagram, lookup_host},
};

use super::{Failure, Given, Sink};
use crate::outside::{Error, Outside, PATIENCE, Stream, describe};

/// Facility 13, log audit, and severity 5, notice.
const PRIORITY: u8 = 13 * 8 + 5;
/// How long a server may take to close its end.
const FAREWELL: Duration = Duration::from_secs(3);

/// A syslog server.
pub(super) struct Syslog {
    to: SyslogAddress,
    outside: Arc<Outside>,
    host: String,
}

impl Syslog {
    pub(super) fn new(to: SyslogAddress, outside: Arc<Outside>) -> Self {
        let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let is_fit = !node.is_empty() && node.len() <= 255 && node.bytes().all(|b| b.is_ascii_graphic());
        Self { to, outside, host: if is_fit { node } else { "-".to_owned() } }
    }

    async fn send(&self, line: &str) -> Result<(), Error> {
        match &self.to {
            SyslogAddress::Udp(host, port) => {
                let address =
                    lookup_host((host.as_str(), *port)).await?.next().ok_or("the name has no address")?;
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(address).await?;
                socket.send(line.as_bytes()).await?;
                // That nobody listens there may be known already.
                socket.take_error()?.map_or(Ok(()), |error| Err(error.into()))
            }
            SyslogAddress::Tcp(host, port) => {
                frame(self.outside.connect(host, *port, true).await?, line).await
            }
            SyslogAddress::Tls(host, port) => {
                let tcp = self.outside.connect(host, *port, true).await?;
                frame(self.outside.encrypt(host, tcp, &[]).await?, line).await
            }
            SyslogAddress::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.send(line.as_bytes()).await?;
                Ok(())
            }
        }
    }
}

/// Sends a message with its length before it (RFC 6587, RFC 5425), and waits for the other end to have read it all.
async fn frame(mut stream: impl Stream, line: &str) -> Result<(), Error> {
    stream.write_all(format!("{} {line}", line.len()).as_bytes()).await?;
    stream.shutdown().await?;
    // One that keeps its end open has not broken off.
    if let Ok(closed) = tokio::time::timeout(FAREWELL, drain(&mut stream)).await
        && let Err(error) = closed
        // Many close a TCP connection without a farewell in TLS.
        && error.kind() != std::io::ErrorKind::UnexpectedEof
    {
        return Err(error.into());
    }
    Ok(())
}

/// Reads to the end, or so much that there is none: nobody has to say much here.
async fn drain(stream: &mut impl Stream) -> std::io::Result<u64> {
    tokio::io::copy(&mut stream.take(64 << 10), &mut tokio::io::sink()).await
}

#[async_trait]
impl Sink for Syslog {
    async fn give(&mut self, given: &Given) -> Result<(), Failure> {
        let line = format!(
            "<{PRIORITY}>1 {:.6} {} synapse {} checkpoint - {}",
            Timestamp::now(),
            self.host,
            std::process::id(),
            message::of(&given.checkpoint, &given.note),
        );
        match tokio::time::timeout(PATIENCE, self.send(&line)).await {
            Ok(sent) => sent.map_err(|error| Failure::Away(describe(&*error))),
            Err(_) => {
                Err(Failure::Away(format!("it did not take a message within {} s", PATIENCE.as_secs())))
            }
        }
    }
}
