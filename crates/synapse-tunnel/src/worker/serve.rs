//! One session with a gateway, from the WebSocket to its end.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    sync::{SetOnce, oneshot, watch},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    FailedAt, Failure, Outdated, ServerUrl, Service, StatusFeed, Terms, WorkerOptions,
    dial::Socket,
    replicas::{Claimed, Replicas},
};
use crate::{
    body::{BoxBody, CallBody, InFlight},
    lines::{self, LineBody, LineReader, LineSender},
    link,
    message::{FromGateway, FromWorker, Health, Hello, NEWER_VERSION, Notice, Status, Welcome, read},
    proof::{self, Claim},
    protocol::{self, CONTROL_PATH, Close, ERROR_HEADER, Liveness, VERSIONS, code},
    tasks::{Starter, Tasks},
};

/// The time between two reports.
const PACE: Duration = Duration::from_millis(200);
/// Room for what a line has besides its list of models.
const SLACK: usize = 64 * 1024;

/// What all sessions of a worker share.
pub(super) struct Worker {
    pub(super) options: WorkerOptions,
    pub(super) instance: String,
    pub(super) service: Arc<dyn Service>,
    pub(super) status: StatusFeed,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) replicas: Replicas,
}

impl Worker {
    /// Waits until this worker is to end.
    pub(super) async fn stopped(&self) {
        let mut stop = self.stop.clone();
        if stop.wait_for(|stop| *stop).await.is_err() {
            // Nobody is left who could say so.
            std::future::pending().await
        }
    }

    /// Notes whether a gateway has something newer.
    pub(super) fn note(&self, server: &ServerUrl, outdated: Option<Outdated>) {
        self.options.outdated.send_if_modified(|known| {
            // What another gateway has said stands.
            let is_others = known.as_ref().is_some_and(|known| known.server != *server);
            let is_new = *known != outdated && !(outdated.is_none() && is_others);
            if is_new {
                *known = outdated;
            }
            is_new
        });
    }
}

/// How a session has ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// This worker goes down, and all is done.
    Left,
    /// The gateway has closed it.
    Closed(Close),
    /// The worker has a session with this gateway already.
    Duplicate,
    /// The connection broke, or the gateway fell silent.
    Lost,
}

/// Serves a gateway until the session ends.
pub(super) async fn serve(worker: &Worker, server: &ServerUrl, socket: Socket) -> Ended {
    let (link, remains) = link::open(socket);
    let tasks = Tasks::default();
    let (lines, body) = lines::channel();
    let (control, controlled) = oneshot::channel();
    let calls = Arc::new(Calls {
        service: Arc::clone(&worker.service),
        control: Mutex::new(Some((control, body))),
        terms: SetOnce::new(),
        in_flight: Arc::default(),
        status: worker.status.clone(),
    });
    let answering = Arc::clone(&calls);
    let service = service_fn(move |request| {
        let calls = Arc::clone(&answering);
        Box::pin(async move { Ok::<_, Infallible>(calls.answer(request).await) })
    });
    let mut connection: Driver =
        Box::pin(builder(&tasks, worker.options.liveness).serve_connection(TokioIo::new(link), service));
    let pulse = remains.pulse();
    let attending = attend(worker, server, &calls, controlled, lines, &mut connection);
    let ended = tokio::select! {
        ended = attending => ended,
        () = pulse.stops(worker.options.liveness.limit()) => Ended::Lost,
    };
    let ended = match (ended, remains.fault(), remains.theirs()) {
        (Ended::Lost, None, Some(theirs)) => Ended::Closed(theirs.clone()),
        (ended, ..) => ended,
    };
    drop(connection);
    drop(tasks);
    let close = match (&ended, remains.fault()) {
        (Ended::Left | Ended::Closed(_), _) => Close::new(code::DONE, "the worker is done"),
        (Ended::Duplicate, _) => Close::new(code::DUPLICATE, "the worker has a session here already"),
        (Ended::Lost, Some(fault)) => fault.clone(),
        (Ended::Lost, None) => Close::new(code::PROTOCOL, "the tunnel broke"),
    };
    remains.close(&close).await;
    ended
}

fn builder(tasks: &Tasks, liveness: Liveness) -> http2::Builder<Starter> {
    let mut builder = http2::Builder::new(tasks.starter());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(protocol::STREAM_WINDOW)
        .initial_connection_window_size(protocol::CONNECTION_WINDOW)
        .max_frame_size(protocol::FRAME)
        .max_header_list_size(protocol::MAX_HEAD)
        .max_send_buf_size(protocol::SEND_BUFFER)
        // One more than the gateway counts: the control stream.
        .max_concurrent_streams(protocol::MAX_STREAMS + 1)
        // A gateway that cancels much is not an attacker.
        .max_pending_accept_reset_streams(protocol::REMEMBERED_CANCELS)
        .max_local_error_reset_streams(None)
        .keep_alive_interval(liveness.ask_after)
        .keep_alive_timeout(protocol::PONG);
    builder
}

/// What drives a connection, whatever its type is in full.
type Driver = Pin<Box<dyn Finish>>;

/// A connection that can be told to finish.
trait Finish: Future<Output = hyper::Result<()>> + Send {
    fn finish(self: Pin<&mut Self>);
}

impl<I, B, S, E> Finish for http2::Connection<I, S, E>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
    Self: Future<Output = hyper::Result<()>> + Send,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Drives the connection through handshake, work and end.
async fn attend(
    worker: &Worker,
    server: &ServerUrl,
    calls: &Calls,
    controlled: oneshot::Receiver<Incoming>,
    lines: LineSender,
    connection: &mut Driver,
) -> Ended {
    let entered = tokio::select! {
        entered = timeout(protocol::HANDSHAKE, enter(worker, server, calls, controlled, &lines)) => entered,
        () = worker.stopped() => return Ended::Left,
        _ = connection.as_mut() => return Ended::Lost,
    };
    let (mut reader, terms, _claimed) = match entered {
        Ok(Ok(entered)) => entered,
        Ok(Err(ended)) => return ended,
        Err(_) => return Ended::Lost,
    };
    tokio::select! {
        () = talk(worker, server, &terms, &mut reader, &lines) => return Ended::Lost,
        _ = connection.as_mut() => return Ended::Lost,
        () = worker.stopped() => {}
    }
    // The gateway is told first, so that it sends nothing more; what it sends nevertheless is served.
    let farewell = Status { draining: true, ..report(worker, &terms) };
    let finish = async {
        let _told = lines.send(&FromWorker::Status(Box::new(farewell))).await;
    };
    tokio::select! {
        () = finish => {}
        _ = connection.as_mut() => return Ended::Lost,
    }
    connection.as_mut().finish();
    let over = Instant::now() + worker.options.grace;
    tokio::select! {
        _ = timeout_at(over, calls.in_flight.idle()) => {}
        _ = connection.as_mut() => return Ended::Lost,
    }
    // The end of the control stream is the end of the last stream. A call may still be on its way here: it was
    // sent before the gateway knew.
    drop((lines, reader));
    let over = over.max(Instant::now() + protocol::LAST_WORDS);
    let _gone = timeout_at(over, connection.as_mut()).await;
    Ended::Left
}

/// What the gateway says on the control stream.
type Said = LineReader<Incoming>;

/// The handshake: greeting, hello, welcome.
async fn enter(
    worker: &Worker,
    server: &ServerUrl,
    calls: &Calls,
    controlled: oneshot::Receiver<Incoming>,
    lines: &LineSender,
) -> Result<(Said, Terms, Claimed), Ended> {
    let lost = |_| Ended::Lost;
    let body = controlled.await.map_err(|_| Ended::Lost)?;
    let mut reader = LineReader::new(body, protocol::MAX_LINE);
    let Some(FromGateway::Greeting(greeting)) = next(&mut reader).await? else { return Err(Ended::Lost) };
    let claimed = worker.replicas.claim(&greeting.replica).ok_or(Ended::Duplicate)?;
    let nonce = proof::random::<32>().map_err(|_| Ended::Lost)?;
    let claim = Claim {
        gateway_nonce: &greeting.nonce,
        worker_nonce: &nonce,
        name: &worker.options.name,
        instance: &worker.instance,
    };
    let key = secrecy::ExposeSecret::expose_secret(&worker.options.key);
    let proof = claim.prove(&synapse_core::key::SecretHash::of(key)).ok_or(Ended::Lost)?;
    // Whether the engine may be where it is, only the welcome says.
    let status = fitted(Status::clone(&worker.status.borrow()));
    let hello = Hello {
        protocol: VERSIONS,
        version: worker.options.version.clone(),
        name: worker.options.name.clone(),
        instance: worker.instance.clone(),
        labels: worker.options.labels.clone(),
        engine: status.engine.clone().unwrap_or_default(),
        capacity: worker.options.capacity,
        nonce,
        proof,
        status,
    };
    lines.send(&FromWorker::Hello(Box::new(hello))).await.map_err(lost)?;
    let mut welcome = loop {
        match next(&mut reader).await? {
            Some(FromGateway::Welcome(welcome)) => break welcome,
            Some(_) => {}
            None => return Err(Ended::Lost),
        }
    };
    let notices = std::mem::take(&mut welcome.notices);
    let terms = settle(worker, calls, welcome, &greeting.version);
    // Nothing said is no complaint.
    worker.note(server, notices.into_iter().fold(None, |heard, notice| hear(server, notice).or(heard)));
    Ok((reader, terms, claimed))
}

async fn next(reader: &mut Said) -> Result<Option<FromGateway>, Ended> {
    match reader.next().await {
        Ok(Some(line)) => read(&line).map(Some).map_err(|_| Ended::Lost),
        Ok(None) => Ok(None),
        Err(_) => Err(Ended::Lost),
    }
}

/// Notes what the gateway grants.
fn settle(worker: &Worker, calls: &Calls, welcome: Welcome, version: &str) -> Terms {
    let terms = Terms { group: welcome.group, allows_cloud: welcome.allows_cloud };
    let _first = calls.terms.set(terms.clone());
    tracing::info!(
        name = worker.options.name,
        group = terms.group,
        session = welcome.session,
        gateway_version = version,
        "connected"
    );
    terms
}

/// Reports what changes, and answers, until the control stream ends.
async fn talk(worker: &Worker, server: &ServerUrl, terms: &Terms, reader: &mut Said, lines: &LineSender) {
    let mut status = worker.status.clone();
    // The hello was written before the terms were known.
    let mut is_due = true;
    let mut report_at = Instant::now();
    let mut is_warned = false;
    loop {
        tokio::select! {
            changed = status.changed(), if !is_due => match changed {
                Ok(()) => is_due = true,
                // Nothing changes any more.
                Err(_) => return std::future::pending().await,
            },
            () = sleep_until(report_at), if is_due => {
                is_due = false;
                status.mark_unchanged();
                let report = report(worker, terms);
                if is_outside(&report, terms) && !std::mem::replace(&mut is_warned, true) {
                    tracing::error!(
                        group = terms.group,
                        "{OUTSIDE}: point --upstream at an engine of your own, or allow cloud engines for this worker key at the gateway"
                    );
                }
                let report = FromWorker::Status(Box::new(report));
                if lines.send(&report).await.is_err() {
                    return;
                }
                report_at = Instant::now() + PACE;
            }
            said = next(reader) => match said {
                Ok(Some(FromGateway::Echo(echo))) => {
                    let _told = lines.offer(&FromWorker::Echo(echo));
                }
                Ok(Some(FromGateway::Notice(notice))) => {
                    if let Some(outdated) = hear(server, notice) {
                        worker.note(server, Some(outdated));
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            },
        }
    }
}

/// Passes on what the gateway says; that it has something newer is more than a word.
fn hear(server: &ServerUrl, notice: Notice) -> Option<Outdated> {
    tracing::info!(%server, code = notice.code, "the gateway says: {}", notice.text);
    let is_newer = notice.code == NEWER_VERSION;
    is_newer.then(|| Outdated { server: server.clone(), is_let_in: true, sha256: notice.sha256 })
}

const OUTSIDE: &str = "the engine's address is public, and the worker's key allows only engines in the house";

/// Whether the engine is where its key does not allow it to be.
fn is_outside(status: &Status, terms: &Terms) -> bool {
    status.cloud && !terms.allows_cloud
}

/// The status as this gateway is to see it.
fn report(worker: &Worker, terms: &Terms) -> Status {
    let mut status = Status::clone(&worker.status.borrow());
    if is_outside(&status, terms) {
        status.health = Health::Down;
        status.reason = Some(
            "the engine's address is public, and the worker's key allows only engines in the house".into(),
        );
    }
    fitted(status)
}

/// The same, in no more than a line may hold.
fn fitted(mut status: Status) -> Status {
    let fits = |status: &Status| {
        serde_json::to_vec(status).is_ok_and(|line| line.len() + SLACK <= protocol::MAX_LINE)
    };
    status.models.truncate(protocol::MAX_MODELS);
    if fits(&status) {
        return status;
    }
    tracing::warn!(
        models = status.models.len(),
        "the engine's list of models is too long to be told in full"
    );
    status.models.iter_mut().for_each(|model| model.fields.clear());
    while !fits(&status) && !status.models.is_empty() {
        status.models.truncate(status.models.len() / 2);
    }
    status
}

/// Answers what the gateway asks.
struct Calls {
    service: Arc<dyn Service>,
    /// For the first stream.
    control: Mutex<Option<(oneshot::Sender<Incoming>, LineBody)>>,
    terms: SetOnce<Terms>,
    in_flight: Arc<InFlight>,
    status: StatusFeed,
}

impl Calls {
    async fn answer(&self, request: Request<Incoming>) -> Response<BoxBody> {
        if request.method() == Method::POST && request.uri().path() == CONTROL_PATH {
            return self.open_control(request.into_body());
        }
        // A call may overtake the welcome.
        let terms = self.terms.wait().await;
        if is_outside(&self.status.borrow(), terms) {
            return failed(FailedAt::Refused);
        }
        let Some(entered) = self.in_flight.enter(protocol::MAX_STREAMS) else {
            return failed(FailedAt::Refused);
        };
        match self.service.call(request, terms).await {
            Ok(mut reply) => {
                protocol::strip_hop_by_hop(reply.headers_mut());
                // Only what this worker says itself may stand there.
                reply.headers_mut().remove(ERROR_HEADER);
                reply.map(|body| CallBody::new(body, entered).boxed_unsync())
            }
            Err(Failure { at, detail }) => {
                tracing::warn!(%detail, ?at, "a call came to nothing");
                failed(at)
            }
        }
    }

    fn open_control(&self, body: Incoming) -> Response<BoxBody> {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((control, lines)) = control else { return failed(FailedAt::Refused) };
        // Whoever waits for it may have given up.
        let _given_up = control.send(body);
        Response::new(lines.map_err(|never| match never {}).boxed_unsync())
    }
}

/// The worker's own answer.
fn failed(at: FailedAt) -> Response<BoxBody> {
    let at = match at {
        FailedAt::Connect => "connect",
        FailedAt::Stale => "stale",
        FailedAt::Head => "head",
        FailedAt::Refused => "refused",
    };
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response.headers_mut().insert(HeaderName::from_static(ERROR_HEADER), HeaderValue::from_static(at));
    response
}
