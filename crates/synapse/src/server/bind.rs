//! Binding: `localhost` means both families, and an occupied port is reported with the remedy.

use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
};

use anyhow::{Context, bail};
use socket2::{Domain, Protocol, Socket, Type};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Binds every address that `host` stands for; `flag` is what chooses another port.
pub(crate) fn bind(host: &str, port: u16, flag: &str) -> anyhow::Result<Vec<TcpListener>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .with_context(|| format!("the host `{host}` cannot be resolved"))?
        .collect();
    let mut bound: Vec<TcpListener> = Vec::new();
    for mut address in addresses {
        // All families share the port that the first one got.
        if let Some(first) = bound.first().filter(|_| port == 0) {
            address.set_port(first.local_addr()?.port());
        }
        match listen(address) {
            Ok(listener) => bound.push(listener),
            // No IPv6 on this machine is no obstacle where there is IPv4.
            Err(error) if unavailable(&error) && host == "localhost" => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                bail!(
                    "port {port} on {host} is occupied; stop what listens there, or choose another with {flag}"
                )
            }
            Err(error) => return Err(error).with_context(|| format!("cannot listen on {address}")),
        }
    }
    if bound.is_empty() {
        bail!("the host `{host}` has no address to listen on");
    }
    Ok(bound)
}

fn unavailable(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(97) // EAFNOSUPPORT
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the last connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_listens_on_one_port_in_every_family() {
        let bound = bind("localhost", 0, "--port").expect("bound");
        let ports: Vec<u16> = bound.iter().map(|l| l.local_addr().expect("an address").port()).collect();
        assert!(ports.iter().all(|&port| port == ports[0] && port != 0), "{ports:?}");
    }

    #[test]
    fn an_occupied_port_is_reported_with_the_remedy() {
        let first = bind("127.0.0.1", 0, "--port").expect("bound");
        let port = first[0].local_addr().expect("an address").port();
        let error = bind("127.0.0.1", port, "--port").expect_err("occupied").to_string();
        assert!(error.contains("occupied") && error.contains("--port"), "{error}");
    }
}
