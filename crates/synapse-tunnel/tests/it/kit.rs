//! A gateway's side and a worker's side, in the process of the test.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use synapse_core::key::SecretHash;
use synapse_testkit::within;
use synapse_tunnel::{
    body::{BodyError, BoxBody},
    gateway::{Credential, End, Hub, HubOptions, Identity, ReplyBody, Session, answer},
    message::{Health, Model, Status},
    protocol::Liveness,
    worker::{self, Failure, ServerUrl, Service, StatusFeed, Terms, WorkerOptions},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};

/// The key of [`credential`].
pub(crate) const KEY: &str = "a worker's key";

/// The record of [`KEY`].
pub(crate) fn credential() -> Credential {
    Credential { group: "lab".into(), key: "k".into(), secret: SecretHash::of(KEY), allows_cloud: false }
}

/// A gateway's side: a hub behind a listener that knows one key.
pub(crate) struct Gateway {
    pub(crate) hub: Arc<Hub>,
    pub(crate) address: SocketAddr,
    ends: Mutex<mpsc::UnboundedReceiver<End>>,
    _listening: JoinSet<()>,
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        Self::start_with(HubOptions::new("replica", "1.2.3"), credential()).await
    }

    pub(crate) async fn start_with(options: HubOptions, credential: Credential) -> Self {
        let hub = Hub::new(options);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (told, ends) = mpsc::unbounded_channel();
        let mut listening = JoinSet::new();
        listening.spawn(listen(listener, Arc::clone(&hub), credential, told));
        Self { hub, address, ends: Mutex::new(ends), _listening: listening }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    /// The session of a worker of the lab, once it is as it should be.
    pub(crate) async fn until(&self, name: &str, is_right: impl Fn(&Session) -> bool) -> Session {
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
    pub(crate) async fn session(&self, name: &str) -> Session {
        self.until(name, Session::is_routable).await
    }

    /// Waits until nobody is in.
    pub(crate) async fn empty(&self) {
        let mut changes = self.hub.changes();
        within("everybody to leave", changes.wait_for(|_| self.hub.sessions().is_empty()))
            .await
            .expect("it lives");
    }

    /// How the next connection ends.
    pub(crate) async fn end(&self) -> End {
        let next = std::future::poll_fn(|cx| self.ends.lock().expect("unpoisoned").poll_recv(cx));
        within("a connection to end", next).await.expect("the gateway lives")
    }
}

async fn listen(
    listener: TcpListener,
    hub: Arc<Hub>,
    credential: Credential,
    told: mpsc::UnboundedSender<End>,
) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, peer)) = listener.accept().await {
        tcp.set_nodelay(true).expect("TCP");
        let (hub, credential, told) = (Arc::clone(&hub), credential.clone(), told.clone());
        let service = service_fn(move |request| {
            let answered = upgrade(request, &hub, &credential, peer, told.clone());
            async { Ok::<_, Infallible>(answered) }
        });
        connections.spawn(async move {
            let _ended =
                http1::Builder::new().serve_connection(TokioIo::new(tcp), service).with_upgrades().await;
        });
    }
}

/// What the gateway's route for workers does.
fn upgrade(
    mut request: Request<Incoming>,
    hub: &Arc<Hub>,
    credential: &Credential,
    peer: SocketAddr,
    told: mpsc::UnboundedSender<End>,
) -> Response<Empty<Bytes>> {
    let refuse = |status| Response::builder().status(status).body(Empty::new()).expect("a response");
    let bearer =
        request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let key = bearer.strip_prefix("Bearer ").unwrap_or_default();
    if !SecretHash::of(key).matches(&credential.secret) {
        return refuse(StatusCode::UNAUTHORIZED);
    }
    let headers = match answer(request.method(), request.version(), request.headers()) {
        Ok(headers) => headers,
        Err(refusal) => return refuse(StatusCode::from_u16(refusal.status()).expect("a status")),
    };
    let Ok(admission) = hub.admit() else { return refuse(StatusCode::SERVICE_UNAVAILABLE) };
    let (hub, credential) = (Arc::clone(hub), credential.clone());
    let upgrading = hyper::upgrade::on(&mut request);
    #[expect(clippy::disallowed_methods, reason = "a test may")]
    tokio::spawn(async move {
        let Ok(upgraded) = upgrading.await else { return };
        let end = hub.accept(TokioIo::new(upgraded), credential, Some(peer.ip()), admission).await;
        let _unwanted = told.send(end);
    });
    let mut response = refuse(StatusCode::SWITCHING_PROTOCOLS);
    *response.headers_mut() = headers;
    response
}

/// A worker's side; dropped, it dies.
pub(crate) struct Worker {
    pub(crate) status: watch::Sender<Arc<Status>>,
    stop: watch::Sender<bool>,
    running: JoinSet<()>,
}

impl Worker {
    /// A worker that is well and serves a model, connected to these gateways.
    pub(crate) fn start(name: &str, servers: &[&str], service: impl Service) -> Self {
        Self::start_with(options(name, servers), service)
    }

    pub(crate) fn start_with(options: WorkerOptions, service: impl Service) -> Self {
        let (status, feed): (_, StatusFeed) = watch::channel(Arc::new(well(&["m"])));
        let (stop, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        running.spawn(async {
            worker::run(options, Arc::new(service), feed, stopped).await.expect("randomness")
        });
        Self { status, stop, running }
    }

    /// Asks it to end in order.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(mut self) {
        within("the worker to end", self.running.join_next()).await;
    }
}

pub(crate) fn options(name: &str, servers: &[&str]) -> WorkerOptions {
    let tls = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    WorkerOptions {
        name: name.into(),
        labels: BTreeMap::from([("rack".into(), "3".into())]),
        capacity: Some(8),
        version: "1.2.4".into(),
        servers: servers.iter().map(|server| ServerUrl::parse(server).expect("a URL")).collect(),
        key: KEY.into(),
        tls: Arc::new(tls),
        grace: Duration::from_secs(30),
        liveness: Liveness::default(),
    }
}

/// The status of an engine that answers and has these models.
pub(crate) fn well(models: &[&str]) -> Status {
    let model = |id: &&str| Model { id: (*id).to_owned(), ..Model::default() };
    Status {
        health: Health::Up,
        engine: Some("vllm".into()),
        models: models.iter().map(model).collect(),
        ..Status::default()
    }
}

/// A service out of a function.
pub(crate) struct Serves<F>(pub(crate) F);

#[async_trait]
impl<F, R> Service for Serves<F>
where
    F: Fn(Request<Incoming>, Terms) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Response<BoxBody>, Failure>> + Send,
{
    async fn call(&self, request: Request<Incoming>, terms: &Terms) -> Result<Response<BoxBody>, Failure> {
        (self.0)(request, terms.clone()).await
    }
}

/// A service that sends back what it gets.
pub(crate) fn echo() -> impl Service {
    Serves(|request: Request<Incoming>, _| async move {
        let (head, body) = request.into_parts();
        let mut response = Response::new(body.map_err(Into::into).boxed_unsync());
        let path = head.uri.path_and_query().expect("a path").as_str();
        response.headers_mut().insert("x-path", path.parse().expect("a value"));
        response.headers_mut().insert("x-method", head.method.as_str().parse().expect("a value"));
        for (name, value) in head.headers.iter().filter(|(name, _)| name.as_str().starts_with("x-")) {
            response.headers_mut().append(name, value.clone());
        }
        Ok(response)
    })
}

/// A service whose reply is what the test sends, for as long as the test likes.
pub(crate) fn piped() -> (mpsc::Sender<Result<Bytes, BodyError>>, impl Service) {
    let (sender, receiver) = mpsc::channel(8);
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    let service = Serves(move |_: Request<Incoming>, _| {
        let receiver = Arc::clone(&receiver);
        async move {
            let frames = futures_util::stream::unfold(receiver, |receiver| async move {
                let next: Result<Bytes, BodyError> = receiver.lock().await.recv().await?;
                Some((next.map(Frame::data), receiver))
            });
            Ok(Response::new(StreamBody::new(frames).boxed_unsync()))
        }
    });
    (sender, service)
}

/// A request with a body.
pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path).body(Full::new(body.into())).expect("a request")
}

/// The whole body of a reply.
pub(crate) async fn read(reply: Response<ReplyBody>) -> Bytes {
    within("the reply", reply.into_body().collect()).await.expect("a whole body").to_bytes()
}
