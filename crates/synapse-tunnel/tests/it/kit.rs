//! A gateway's side and a worker's side, in the process of the test.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use rustls::{ClientConfig, RootCertStore};
use synapse_core::key::SecretHash;
use synapse_testkit::{Reception, within};
use synapse_tunnel::{
    body::{BodyError, BoxBody},
    gateway::{Credential, HubOptions, ReplyBody},
    message::{Health, Model, Status},
    protocol::Liveness,
    worker::{self, Failure, ServerUrl, Service, StatusFeed, Terms, WorkerOptions},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

/// The key of [`credential`].
pub(crate) const KEY: &str = "a worker's key";

/// The record of [`KEY`].
pub(crate) fn credential() -> Credential {
    Credential { group: "lab".into(), key: "k".into(), secret: SecretHash::of(KEY), allows_cloud: false }
}

/// A gateway's side.
pub(crate) type Gateway = Reception;

/// The usual one, which knows [`KEY`].
pub(crate) async fn gateway() -> Gateway {
    Gateway::start(HubOptions::new("replica", "1.2.3"), credential()).await
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
        outdated: watch::Sender::new(None),
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
