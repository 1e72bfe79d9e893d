//! The gateway's side of tunnels without the rest of a gateway: where workers are taken in.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use synapse_core::key::SecretHash;
use synapse_tunnel::gateway::{Credential, End, Hub, HubOptions, Identity, Session, answer};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};

use crate::wait::within;

/// A hub behind a listener that knows one key; dropped, it is gone.
pub struct Reception {
    /// Who is in.
    pub hub: Arc<Hub>,
    /// Where it listens.
    pub address: SocketAddr,
    ends: Mutex<mpsc::UnboundedReceiver<End>>,
    offered: Offered,
    _listening: JoinSet<()>,
}

/// A binary for workers, and what is said to be its SHA-256.
type Offered = Arc<Mutex<Option<(Bytes, String)>>>;

/// What each connection needs.
#[derive(Clone)]
struct Desk {
    hub: Arc<Hub>,
    credential: Credential,
    told: mpsc::UnboundedSender<End>,
    offered: Offered,
    sessions: Arc<Mutex<JoinSet<()>>>,
}

impl Reception {
    /// One with this hub, for workers with this credential's key.
    ///
    /// # Panics
    /// When there is no port for it.
    pub async fn start(options: HubOptions, credential: Credential) -> Self {
        let hub = Hub::new(options);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (told, ends) = mpsc::unbounded_channel();
        let mut listening = JoinSet::new();
        let offered = Offered::default();
        let sessions = Arc::default();
        let desk = Desk { hub: Arc::clone(&hub), credential, told, offered: Arc::clone(&offered), sessions };
        listening.spawn(desk.listen(listener));
        Self { hub, address, ends: Mutex::new(ends), offered, _listening: listening }
    }

    /// Offers a binary to workers from now on, with what is said to be its SHA-256.
    ///
    /// # Panics
    /// When a test has panicked meanwhile.
    pub fn offer(&self, binary: impl Into<Bytes>, sum: &str) {
        *self.offered.lock().expect("unpoisoned") = Some((binary.into(), sum.to_owned()));
    }

    /// Its URL, as workers are given it.
    pub fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    /// The session of a worker of group `lab`, once it is as it should be.
    ///
    /// # Panics
    /// When that does not come about.
    pub async fn until(&self, name: &str, is_right: impl Fn(&Session) -> bool) -> Session {
        let identity = Identity { group: "lab".into(), name: name.into() };
        let mut changes = self.hub.changes();
        within("the session", async {
            loop {
                changes.mark_unchanged();
                if let Some(session) = self.hub.get(&identity).filter(|session| is_right(session)) {
                    return session;
                }
                changes.changed().await.expect("the hub lives");
            }
        })
        .await
    }

    /// The session of a worker that is in and well.
    pub async fn session(&self, name: &str) -> Session {
        self.until(name, Session::is_routable).await
    }

    /// Waits until nobody is in.
    ///
    /// # Panics
    /// When somebody stays.
    pub async fn empty(&self) {
        let mut changes = self.hub.changes();
        within("everybody to leave", changes.wait_for(|_| self.hub.sessions().is_empty()))
            .await
            .expect("it lives");
    }

    /// How the next connection ends.
    ///
    /// # Panics
    /// When none does.
    pub async fn end(&self) -> End {
        let next = std::future::poll_fn(|cx| self.ends.lock().expect("unpoisoned").poll_recv(cx));
        within("a connection to end", next).await.expect("the gateway lives")
    }
}

impl Desk {
    async fn listen(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((tcp, peer)) = listener.accept().await {
            tcp.set_nodelay(true).expect("TCP");
            let desk = self.clone();
            let service = service_fn(move |request| {
                let answered = desk.upgrade(request, peer);
                async { Ok::<_, Infallible>(answered) }
            });
            connections.spawn(async move {
                let serving = http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
                let _ended = serving.with_upgrades().await;
            });
        }
    }

    /// What a gateway's route for workers does.
    fn upgrade(&self, mut request: Request<Incoming>, peer: SocketAddr) -> Response<Full<Bytes>> {
        let refuse = |status| Response::builder().status(status).body(Full::default()).expect("a response");
        if request.uri().path() == "/getclient" {
            let offered = self.offered.lock().expect("unpoisoned").clone();
            let Some((binary, sum)) = offered else { return refuse(StatusCode::NOT_FOUND) };
            let response = Response::builder().header("x-synapse-sha256", sum);
            return response.body(Full::new(binary)).expect("a response");
        }
        let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let key = bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if !SecretHash::of(key).matches(&self.credential.secret) {
            return refuse(StatusCode::UNAUTHORIZED);
        }
        let headers = match answer(request.method(), request.version(), request.headers()) {
            Ok(headers) => headers,
            Err(refusal) => return refuse(StatusCode::from_u16(refusal.status()).expect("a status")),
        };
        let Ok(admission) = self.hub.admit(&self.credential.key) else {
            return refuse(StatusCode::SERVICE_UNAVAILABLE);
        };
        let Self { hub, credential, told, sessions, .. } = self.clone();
        let upgrading = hyper::upgrade::on(&mut request);
        sessions.lock().expect("unpoisoned").spawn(async move {
            let Ok(upgraded) = upgrading.await else { return };
            let io = TokioIo::new(upgraded);
            let end = hub.accept(io, credential, Some(peer.ip()), admission).await;
            let _unwanted = told.send(end);
        });
        let mut response = refuse(StatusCode::SWITCHING_PROTOCOLS);
        *response.headers_mut() = headers;
        response
    }
}
