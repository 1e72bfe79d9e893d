//! A relay between two ends of a connection that can be told to misbehave as networks do.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

use crate::wait::within;

/// What the relay does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// It passes it on.
    On,
    /// It keeps it, and the sockets stay open: a black hole.
    Nothing,
    /// It passes it on after this time.
    After(Duration),
    /// It passes it on byte by byte.
    Bytes,
}

/// A relay to one address; dropped, its connections are cut.
pub struct Relay {
    address: SocketAddr,
    passing: watch::Sender<Passing>,
    cuts: watch::Sender<u64>,
    sent: Arc<watch::Sender<Vec<u8>>>,
    _serving: JoinSet<()>,
}

impl Relay {
    /// A relay that passes everything on to `target`.
    ///
    /// # Panics
    /// When there is no port for it.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (passing, passed) = watch::channel(Passing::On);
        let (cuts, cut) = watch::channel(0);
        let sent = Arc::new(watch::Sender::new(Vec::new()));
        let mut serving = JoinSet::new();
        let record = Arc::clone(&sent);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (passed, cut, record) = (passed.clone(), cut.clone(), Arc::clone(&record));
                connections.spawn(relay(near, target, passed, cut, record));
            }
        });
        Self { address, passing, cuts, sent, _serving: serving }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it does, for all connections.
    pub fn pass(&self, passing: Passing) {
        self.passing.send_replace(passing);
    }

    /// Cuts all connections; new ones are taken.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// What all that connected have sent so far.
    pub fn sent(&self) -> Vec<u8> {
        self.sent.borrow().clone()
    }

    /// Waits until what they have sent satisfies `condition`, whether it was passed on or not.
    ///
    /// # Panics
    /// When it never does.
    pub async fn until_sent(&self, what: &str, mut condition: impl FnMut(&[u8]) -> bool) {
        let mut sent = self.sent.subscribe();
        let met = within(what, sent.wait_for(|sent| condition(sent))).await;
        assert!(met.is_ok(), "{what}");
    }
}

async fn relay(
    near: TcpStream,
    target: SocketAddr,
    passing: watch::Receiver<Passing>,
    mut cut: watch::Receiver<u64>,
    record: Arc<watch::Sender<Vec<u8>>>,
) {
    cut.mark_unchanged();
    let Ok(far) = TcpStream::connect(target).await else { return };
    // A relay that holds bytes back would hide what it is to show.
    let _set = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let note = move |bytes: &[u8]| {
        record.send_modify(|record| record.extend_from_slice(bytes));
    };
    let there = pump(near_read, far_write, passing.clone(), note);
    let back = pump(far_read, near_write, passing, |_| ());
    tokio::select! {
        ((), ()) = async { tokio::join!(there, back) } => {}
        _ = cut.changed() => {}
    }
}

/// Carries bytes in one direction until either side ends it.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut passing: watch::Receiver<Passing>,
    note: impl Fn(&[u8]),
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        note(&buffer[..count]);
        let Ok(passing) = passing.wait_for(|passing| *passing != Passing::Nothing).await.map(|p| *p) else {
            return;
        };
        if let Passing::After(time) = passing {
            tokio::time::sleep(time).await;
        }
        let piece = if passing == Passing::Bytes { 1 } else { count };
        for piece in buffer[..count].chunks(piece) {
            if to.write_all(piece).await.is_err() {
                return;
            }
        }
    }
}
