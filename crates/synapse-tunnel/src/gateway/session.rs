//! One worker that is in: what it has said of itself, and the way to it.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response, Uri, header, uri};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use synapse_core::{id::KeyId, key::SecretHash};
use tokio::sync::watch;

use crate::{
    body::{BodyError, BoxBody, CallBody, InFlight},
    lines::LineSender,
    message::{FromGateway, GOING_DOWN, Health, Notice, Status},
    protocol::{Close, ERROR_HEADER, MAX_STREAMS, code},
};

/// What the owner of the hub knows of the key that a worker came with. Group and rights come from this
/// record alone, never from the worker.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The group whose models and keys the worker belongs to.
    pub group: Arc<str>,
    /// The key's name in records.
    pub key: KeyId,
    /// The hash of the key's text.
    pub secret: SecretHash,
    /// Whether the worker's engine may be outside the house.
    pub allows_cloud: bool,
}

/// Which worker this is. Of each there is one session at most.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Its group.
    pub group: Arc<str>,
    /// Its name there.
    pub name: Arc<str>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.name)
    }
}

/// What a worker has said of itself once and for all.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) identity: Identity,
    pub(super) credential: Credential,
    pub(super) version: String,
    pub(super) instance: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) engine: String,
    pub(super) capacity: Option<u32>,
    pub(super) peer: Option<IpAddr>,
}

/// A worker that is in. Clones are the same session.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    profile: Profile,
    epoch: u64,
    since: Instant,
    sender: SendRequest<BoxBody>,
    lines: LineSender,
    in_flight: Arc<InFlight>,
    status: ArcSwap<Status>,
    /// Microseconds; 0 is not yet known.
    round_trip: AtomicU64,
    /// Whether it has held long enough to get requests.
    settled: AtomicBool,
    /// Whether the gateway gives it nothing new.
    drained: AtomicBool,
    closing: watch::Sender<Option<Close>>,
    end: OnceLock<End>,
    ended: watch::Sender<bool>,
}

/// How a session has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The worker went in order.
    Left,
    /// It was closed from here.
    Closed(Close),
    /// The worker has closed it, and not because it was done.
    ByWorker(Close),
    /// The connection broke, or the worker fell silent.
    Lost,
    /// The handshake came to nothing.
    Refused(Close),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("the worker left"),
            Self::Closed(close) => write!(f, "closed: {close}"),
            Self::ByWorker(close) => write!(f, "closed by the worker: {close}"),
            Self::Lost => f.write_str("the connection was lost"),
            Self::Refused(close) => write!(f, "refused: {close}"),
        }
    }
}

/// How far a failed call got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedAt {
    /// Nothing has reached the engine: safe to send elsewhere, whatever it was.
    Connect,
    /// The worker's connection to its engine had ended, as it turned out when the call had been sent. Sent
    /// again with [`crate::protocol::FRESH_HEADER`], it does no harm, unless the engine keeps something of
    /// it.
    Stale,
    /// The engine may have got it; there was no reply.
    Head,
}

/// A call without a reply.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct CallError {
    /// How far it got.
    pub at: FailedAt,
    /// For logs.
    pub detail: BodyError,
}

impl CallError {
    fn new(at: FailedAt, detail: impl Into<BodyError>) -> Self {
        Self { at, detail: detail.into() }
    }
}

/// The body of a reply. It breaks with an error when the session ends; dropped before its end, it
/// cancels the call.
pub type ReplyBody = CallBody<Incoming>;

/// What a new session consists of.
pub(super) struct Opening {
    pub(super) profile: Profile,
    pub(super) epoch: u64,
    pub(super) sender: SendRequest<BoxBody>,
    pub(super) lines: LineSender,
    pub(super) status: Status,
    pub(super) settled: bool,
}

impl Session {
    pub(super) fn new(opening: Opening) -> Self {
        let Opening { profile, epoch, sender, lines, status, settled } = opening;
        Self(Arc::new(Inner {
            profile,
            epoch,
            since: Instant::now(),
            sender,
            lines,
            in_flight: Arc::default(),
            status: ArcSwap::from_pointee(status),
            round_trip: AtomicU64::new(0),
            settled: AtomicBool::new(settled),
            drained: AtomicBool::new(false),
            closing: watch::Sender::new(None),
            end: OnceLock::new(),
            ended: watch::Sender::new(false),
        }))
    }

    /// Which worker this is.
    pub fn identity(&self) -> &Identity {
        &self.0.profile.identity
    }

    /// Grows from session to session of this gateway.
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// The record of the key it came with.
    pub fn credential(&self) -> &Credential {
        &self.0.profile.credential
    }

    /// Its software version.
    pub fn version(&self) -> &str {
        &self.0.profile.version
    }

    /// Random for each process of a worker.
    pub fn instance(&self) -> &str {
        &self.0.profile.instance
    }

    /// Its operator's labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.0.profile.labels
    }

    /// What kind of engine it stands for, as a configuration spells it; empty where not yet known.
    pub fn engine(&self) -> String {
        self.status().engine.clone().unwrap_or_else(|| self.0.profile.engine.clone())
    }

    /// Calls at once that it wants at most.
    pub fn capacity(&self) -> Option<u32> {
        self.0.profile.capacity
    }

    /// Where it came from.
    pub fn peer(&self) -> Option<IpAddr> {
        self.0.profile.peer
    }

    /// When it came.
    pub fn since(&self) -> Instant {
        self.0.since
    }

    /// What it has said last of itself and its engine.
    pub fn status(&self) -> Arc<Status> {
        self.0.status.load_full()
    }

    /// The last round trip through the control stream.
    pub fn round_trip(&self) -> Option<Duration> {
        let micros = self.0.round_trip.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// Calls that are open.
    pub fn in_flight(&self) -> u32 {
        self.0.in_flight.count()
    }

    /// Whether calls can be made.
    pub fn is_open(&self) -> bool {
        self.0.end.get().is_none()
            && self.0.closing.borrow().is_none()
            && !self.0.drained.load(Ordering::Relaxed)
            && !self.0.sender.is_closed()
    }

    /// Whether it may get requests, if its engine answers: it is open, neither side drains it, it does not
    /// flap, and its engine is where its key allows it to be.
    pub fn may_serve(&self) -> bool {
        let status = self.0.status.load();
        self.is_open()
            && !status.draining
            && self.0.settled.load(Ordering::Relaxed)
            && (!status.cloud || self.credential().allows_cloud)
    }

    /// Whether it should get requests: it may, and its engine answers.
    pub fn is_routable(&self) -> bool {
        self.may_serve() && self.0.status.load().health == Health::Up
    }

    /// How it has ended, once it has.
    pub fn end(&self) -> Option<&End> {
        self.0.end.get()
    }

    /// Waits for its end.
    pub async fn ended(&self) {
        let mut ended = self.0.ended.subscribe();
        // The sender lives as long as this does.
        let _over = ended.wait_for(|over| *over).await;
    }

    /// Makes a call: `request` has a path (and query) as its target, `/v1/…` for what lies below the
    /// engine's OpenAI-compatible base. Waits for the head of the reply without limit; dropping the
    /// future or the body cancels the call.
    ///
    /// # Errors
    /// When there is no reply of the engine.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<ReplyBody>, CallError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        if !self.is_open() {
            return Err(CallError::new(FailedAt::Connect, "the worker's session is over"));
        }
        let Some(entered) = self.0.in_flight.enter(MAX_STREAMS) else {
            return Err(CallError::new(FailedAt::Connect, "the worker has too many calls open"));
        };
        let request = addressed(request).map_err(|error| CallError::new(FailedAt::Connect, error))?;
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        let mut sender = self.0.sender.clone();
        let reply = match sender.try_send_request(request).await {
            Ok(reply) => reply,
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                let error = error.into_error();
                let at = if unsent || is_refused(&error) { FailedAt::Connect } else { FailedAt::Head };
                return Err(CallError::new(at, error));
            }
        };
        match reply.headers().get(ERROR_HEADER).map(|at| at.as_bytes()) {
            None => Ok(reply.map(|body| CallBody::new(body, entered))),
            Some(b"connect") => {
                Err(CallError::new(FailedAt::Connect, "the worker does not reach its engine"))
            }
            Some(b"stale") => Err(CallError::new(FailedAt::Stale, "the engine closed an idle connection")),
            Some(b"refused") => Err(CallError::new(FailedAt::Connect, "the worker refuses the call")),
            Some(_) => Err(CallError::new(FailedAt::Head, "the worker's engine gave no proper reply")),
        }
    }

    /// Tells the worker something, unless it has too much to read already.
    pub fn notify(&self, notice: Notice) {
        let _told = self.0.lines.offer(&FromGateway::Notice(notice));
    }

    /// Ends it now: all open calls break, and the worker is told why.
    pub fn close(&self, close: Close) {
        self.0.closing.send_if_modified(|closing| {
            let first = closing.is_none();
            closing.get_or_insert(close);
            first
        });
    }

    /// Gives it nothing new; ends it when the open calls have ended.
    pub async fn drain(&self) {
        self.0.drained.store(true, Ordering::Relaxed);
        self.notify(Notice::new(GOING_DOWN, "the gateway is going down"));
        tokio::select! {
            () = self.0.in_flight.idle() => {}
            () = self.ended() => {}
        }
        self.close(Close::new(code::GOING_AWAY, "the gateway is going down"));
    }

    /// Waits until no call is open.
    pub(super) async fn idle(&self) {
        self.0.in_flight.idle().await;
    }

    /// Waits until it is to be closed.
    pub(super) async fn closing(&self) -> Close {
        let mut closing = self.0.closing.subscribe();
        match closing.wait_for(Option::is_some).await.map(|close| close.clone()) {
            Ok(Some(close)) => close,
            // The sender lives as long as this does.
            _ => std::future::pending().await,
        }
    }

    pub(super) fn set_status(&self, status: Status) {
        self.0.status.store(Arc::new(status));
    }

    pub(super) fn set_round_trip(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        self.0.round_trip.store(micros, Ordering::Relaxed);
    }

    pub(super) fn settle(&self) {
        self.0.settled.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_settled(&self) -> bool {
        self.0.settled.load(Ordering::Relaxed)
    }

    pub(super) fn set_end(&self, end: End) {
        let _first = self.0.end.set(end);
        self.0.ended.send_replace(true);
    }

    pub(super) fn lines(&self) -> &LineSender {
        &self.0.lines
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({} #{})", self.identity(), self.epoch())
    }
}

/// HTTP/2 wants a whole URI, and has no place for what belongs to one connection.
fn addressed<B>(mut request: Request<B>) -> Result<Request<B>, http::Error> {
    let path = request.uri().path_and_query().cloned();
    let path = path.unwrap_or_else(|| uri::PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::builder().scheme("http").authority("worker").path_and_query(path).build()?;
    *request.version_mut() = http::Version::HTTP_2;
    crate::protocol::strip_hop_by_hop(request.headers_mut());
    request.headers_mut().remove(header::HOST);
    Ok(request)
}

/// Whether the worker has not even looked at it.
fn is_refused(error: &hyper::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            return h2.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        cause = error.source();
    }
    false
}
