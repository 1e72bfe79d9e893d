//! Keeps a worker connected: one session with each gateway process that its addresses lead to.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::{
    net::lookup_host,
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    Outdated, ServerUrl, Service, StatusFeed, WorkerOptions,
    backoff::{Backoff, Outlook, luck},
    dial::{DialError, dial},
    replicas::Replicas,
    serve::{Ended, Worker, serve},
};
use crate::{
    proof,
    protocol::{Close, code},
};

/// The time between two looks for a gateway's addresses.
const LOOK_UP_EVERY: Duration = Duration::from_secs(30);
/// How long a look may take.
const LOOK_UP: Duration = Duration::from_secs(5);
/// The most addresses of one name that are used.
const MAX_ADDRESSES: usize = 16;

/// Keeps this worker connected until `stop` says so and all calls have ended.
///
/// # Errors
/// When the operating system has no randomness to give.
pub async fn run(
    options: WorkerOptions,
    service: Arc<dyn Service>,
    status: StatusFeed,
    stop: watch::Receiver<bool>,
) -> Result<(), getrandom::Error> {
    let servers = options.servers.clone();
    let worker = Arc::new(Worker {
        options,
        instance: proof::random::<16>()?,
        service,
        status,
        stop,
        replicas: Replicas::default(),
    });
    join_all(servers.into_iter().map(|server| keep_server(Arc::clone(&worker), server))).await;
    Ok(())
}

/// Keeps a session with each address of a gateway's name.
async fn keep_server(worker: Arc<Worker>, server: ServerUrl) {
    if !server.tls && !is_loopback(&server.host) {
        tracing::warn!(%server, "the way to the gateway is not encrypted; use wss:// where the network is not your own");
    }
    let mut stopped = pin!(worker.stopped());
    let mut sessions = FuturesUnordered::new();
    let mut wanted = HashMap::<SocketAddr, watch::Sender<()>>::new();
    let mut backoff = Backoff::default();
    loop {
        let mut next_look = LOOK_UP_EVERY;
        let mut looking = pin!(look_up(&server));
        // The sessions are served by this task: a slow answer must not hold them up.
        let looked = loop {
            tokio::select! {
                looked = &mut looking => break looked,
                Some(()) = sessions.next() => {}
                () = &mut stopped => {
                    while sessions.next().await.is_some() {}
                    return;
                }
            }
        };
        match looked {
            Ok(addresses) => {
                let found: HashSet<_> = addresses.take(MAX_ADDRESSES).collect();
                // A session with an address that is not named any more lives on, but is not begun again.
                wanted.retain(|address, _| found.contains(address));
                for address in found {
                    wanted.entry(address).or_insert_with(|| {
                        let (sender, receiver) = watch::channel(());
                        sessions.push(
                            keep_address(Arc::clone(&worker), server.clone(), address, receiver).boxed(),
                        );
                        sender
                    });
                }
            }
            Err(error) if wanted.is_empty() => {
                next_look = backoff.wait(Outlook::Again, Duration::ZERO, luck());
                tracing::warn!(%server, %error, "the gateway's name cannot be looked up");
            }
            // What worked once will do for now.
            Err(error) => tracing::debug!(%server, %error, "the gateway's name cannot be looked up"),
        }
        let mut look = pin!(sleep(next_look));
        loop {
            tokio::select! {
                () = &mut look => break,
                Some(()) = sessions.next() => {}
                () = &mut stopped => {
                    while sessions.next().await.is_some() {}
                    return;
                }
            }
        }
    }
}

async fn look_up(server: &ServerUrl) -> io::Result<impl Iterator<Item = SocketAddr>> {
    let looking = lookup_host((server.host.clone(), server.port));
    timeout(LOOK_UP, looking).await.unwrap_or_else(|late| Err(late.into()))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Keeps a session with one address, for as long as its name leads there.
async fn keep_address(
    worker: Arc<Worker>,
    server: ServerUrl,
    address: SocketAddr,
    mut wanted: watch::Receiver<()>,
) {
    let mut backoff = Backoff::default();
    let mut last = None;
    loop {
        let begun = Instant::now();
        let mut losses = worker.replicas.losses();
        let dialling = async {
            worker.replicas.may_dial().await;
            dial(&worker.options, &server, address).await
        };
        let dialled = tokio::select! {
            dialled = dialling => dialled,
            () = worker.stopped() => return,
        };
        let tried = match dialled {
            Ok(socket) => Tried::Served(Box::pin(serve(&worker, &server, socket)).await),
            Err(error) => Tried::NotReached(error),
        };
        if matches!(tried, Tried::Served(Ended::Left)) || *worker.stop.borrow() {
            return;
        }
        if let Tried::Served(Ended::Closed(Close { code: code::VERSION, .. })) = tried {
            let outdated = Outdated { server: server.clone(), is_let_in: false, sha256: BTreeMap::new() };
            worker.note(&server, Some(outdated));
        }
        let outlook = tried.outlook();
        let wait = backoff.wait(outlook, begun.elapsed(), luck());
        tried.log(&server, address, wait, &mut last);
        let is_duplicate = matches!(tried, Tried::Served(Ended::Duplicate));
        match outlook {
            Outlook::Superseded => worker.replicas.give_way(wait),
            Outlook::Again if matches!(tried, Tried::Served(_)) => worker.replicas.note_loss(),
            _ => {}
        }
        tokio::select! {
            () = sleep(wait) => {}
            // The session that this one would have doubled may be the one that is gone.
            _ = losses.changed(), if is_duplicate => backoff = Backoff::default(),
            () = worker.stopped() => return,
            // The sender is dropped when the name leads elsewhere.
            _ = wanted.changed() => return,
        }
    }
}

/// What came of an attempt.
enum Tried {
    NotReached(DialError),
    Served(Ended),
}

impl Tried {
    fn outlook(&self) -> Outlook {
        match self {
            Self::NotReached(DialError::Busy(Some(time))) => Outlook::NotBefore(*time),
            Self::NotReached(DialError::Refused(status)) if status.is_server_error() => Outlook::Again,
            Self::NotReached(
                DialError::Unauthorized(_) | DialError::Refused(_) | DialError::NotATunnel(_),
            )
            | Self::Served(Ended::Duplicate) => Outlook::NeedsHelp,
            Self::Served(Ended::Closed(close)) => match close.code {
                code::SUPERSEDED => Outlook::Superseded,
                code::BAD_HELLO | code::BAD_PROOF | code::REVOKED | code::VERSION => Outlook::NeedsHelp,
                _ => Outlook::Again,
            },
            Self::NotReached(_) | Self::Served(_) => Outlook::Again,
        }
    }

    /// What cannot be reached is told once, until that changes; what somebody has to do, every time.
    fn log(&self, server: &ServerUrl, address: SocketAddr, wait: Duration, last: &mut Option<String>) {
        let again_s = wait.as_secs_f64();
        let text = match self {
            Self::NotReached(error) => error.to_string(),
            Self::Served(Ended::Closed(close)) => format!("the gateway closed the connection: {close}"),
            Self::Served(Ended::Duplicate) => "this address leads to a gateway with a session already".into(),
            Self::Served(_) => "the connection was lost".into(),
        };
        let is_new = last.as_ref() != Some(&text);
        match self.outlook() {
            Outlook::Superseded => tracing::error!(
                %server, again_s,
                "another worker has taken over this one's name: give each worker of a group its own with --name"
            ),
            Outlook::NeedsHelp if !matches!(self, Self::Served(Ended::Duplicate)) => {
                tracing::error!(%server, %address, again_s, "{text}");
            }
            _ if is_new => tracing::warn!(%server, %address, again_s, "{text}"),
            _ => tracing::debug!(%server, %address, again_s, "{text}"),
        }
        *last = Some(text);
    }
}
