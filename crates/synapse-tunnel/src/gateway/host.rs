//! One connection of a worker, from the upgrade to its end.

use std::{net::IpAddr, sync::Arc};

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    admission::Admission,
    control,
    hub::{Hub, Seated},
    session::{Credential, End, Identity, Opening, Profile},
};
use crate::{
    body::BoxBody,
    lines::{self, LineReader, LineSender},
    link::{self, Remains},
    message::{FromGateway, FromWorker, Greeting, Hello, Welcome, is_name, read},
    proof::{self, Claim},
    protocol::{self, Close, Liveness, VERSIONS, code},
    tasks::{Starter, Tasks},
};

/// [`protocol::CONTROL_PATH`] as HTTP/2 wants it.
const CONTROL_URI: &str = "http://worker/synapse.tunnel.v1/control";
/// Labels that a worker may have.
const MAX_LABELS: usize = 32;
/// The longest text in a hello.
const MAX_TEXT: usize = 256;

/// Serves a worker until the connection ends.
pub(super) async fn serve<S>(
    hub: &Arc<Hub>,
    io: S,
    credential: Credential,
    peer: Option<IpAddr>,
    admission: Admission,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (link, mut remains) = link::accept(io).await;
    let tasks = Tasks::default();
    let end = match builder(&tasks, hub.options.liveness).handshake(TokioIo::new(link)).await {
        Err(_) => End::Lost,
        Ok((sender, connection)) => {
            // It ends when nothing new can be sent any more; what was sent goes on.
            tasks.starter().start(async { drop(connection.await) });
            let entering = tokio::time::timeout(hub.options.handshake, enter(hub, sender, credential, peer));
            let entered = tokio::select! {
                entered = entering => entered.unwrap_or_else(|_| Err(Failed::slow())),
                () = remains.gone() => Err(Failed::Broken),
            };
            drop(admission);
            match entered {
                Ok((seated, said)) => stay(hub, seated, said, &mut remains).await,
                Err(failed) => failed.end(&remains),
            }
        }
    };
    hub.note_end(&end);
    // This breaks all calls, and hands back the socket.
    drop(tasks);
    remains.close(&farewell(&end)).await;
    end
}

/// Serves a worker that is in.
async fn stay<S>(hub: &Arc<Hub>, seated: Seated, said: Said, remains: &mut Remains<S>) -> End {
    let session = seated.session();
    let pulse = remains.pulse();
    let end = tokio::select! {
        // What was said last tells more than that nothing more is said.
        biased;
        end = async {
            let end = control::attend(hub, session, said).await;
            if end == End::Left {
                // What was sent before the worker's farewell came is still served.
                session.idle().await;
            }
            end
        } => end,
        () = remains.gone() => End::Lost,
        () = pulse.stops(hub.options.liveness.limit()) => End::Lost,
        close = session.closing() => End::Closed(close),
    };
    let end = told(end, remains);
    tracing::info!(worker = %session.identity(), session = session.epoch(), %end, "a worker is gone");
    seated.leave(end.clone());
    end
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
        .max_concurrent_reset_streams(protocol::REMEMBERED_CANCELS)
        // Frames of calls cancelled long ago are no attack: only the gateway cancels.
        .max_local_error_reset_streams(None)
        .keep_alive_interval(liveness.ask_after)
        .keep_alive_timeout(protocol::PONG)
        .keep_alive_while_idle(true);
    builder
}

/// Why a worker does not get in.
enum Failed {
    /// The connection is gone.
    Broken,
    /// It is told why.
    Because(Close),
}

impl Failed {
    fn slow() -> Self {
        Self::Because(Close::new(code::TOO_SLOW, "the handshake was not finished in time"))
    }

    fn hello(reason: impl Into<String>) -> Self {
        Self::Because(Close::new(code::BAD_HELLO, reason))
    }

    fn end<S>(self, remains: &Remains<S>) -> End {
        match self {
            Self::Because(close) => End::Refused(close),
            Self::Broken => match told(End::Lost, remains) {
                End::Closed(close) | End::ByWorker(close) => End::Refused(close),
                end => end,
            },
        }
    }
}

/// What is known beyond the mere end of the connection.
fn told<S>(end: End, remains: &Remains<S>) -> End {
    match (end, remains.fault(), remains.theirs()) {
        (End::Lost, Some(fault), _) => End::Closed(fault.clone()),
        (End::Lost, None, Some(theirs)) if theirs.code == code::DONE => End::Left,
        (End::Lost, None, Some(theirs)) => End::ByWorker(theirs.clone()),
        (end, ..) => end,
    }
}

/// What the worker is told at the end.
fn farewell(end: &End) -> Close {
    match end {
        End::Closed(close) | End::Refused(close) => close.clone(),
        End::Left | End::ByWorker(_) => Close::new(code::DONE, ""),
        End::Lost => Close::new(code::PROTOCOL, "the tunnel broke"),
    }
}

/// What a worker says on the control stream.
pub(super) type Said = LineReader<Incoming>;

/// The handshake: greeting, hello, welcome.
async fn enter(
    hub: &Arc<Hub>,
    mut sender: SendRequest<BoxBody>,
    credential: Credential,
    peer: Option<IpAddr>,
) -> Result<(Seated, Said), Failed> {
    let nonce = proof::random::<32>().map_err(|_| Failed::Broken)?;
    let (lines, mut said) = open_control(&mut sender, hub, &nonce).await?;
    let hello = match said.next().await {
        Ok(Some(line)) => read::<FromWorker>(&line),
        Ok(None) => return Err(Failed::Broken),
        Err(lines::LineError::TooLong(_)) => return Err(Failed::hello("the hello is too long")),
        Err(lines::LineError::Broken) => return Err(Failed::Broken),
    };
    let Ok(FromWorker::Hello(hello)) = hello else {
        return Err(Failed::hello("the worker must begin with a hello"));
    };
    let protocol = check(&hello, &nonce, &credential)?;
    if !(hub.options.is_valid)(&credential) {
        return Err(Failed::Because(Close::new(code::REVOKED, "the worker's key is not valid any more")));
    }
    let notices = (hub.options.notices)(&hello);
    let shown = credential.clone();
    let (group, allows_cloud) = (credential.group.to_string(), credential.allows_cloud);
    let seated = take_in(hub, *hello, credential, peer, sender, lines);
    let session = seated.session();
    // Once more, now that whoever revokes keys can see the session.
    if !(hub.options.is_valid)(&shown) {
        let close = Close::new(code::REVOKED, "the worker's key is not valid any more");
        seated.leave(End::Closed(close.clone()));
        return Err(Failed::Because(close));
    }
    let welcome =
        Welcome { protocol, session: session.epoch(), epoch: session.epoch(), group, allows_cloud, notices };
    tracing::info!(worker = %session.identity(), session = session.epoch(), version = session.version(), "a worker is in");
    if session.lines().send(&FromGateway::Welcome(welcome)).await.is_err() {
        return Err(Failed::Broken);
    }
    Ok((seated, said))
}

async fn open_control(
    sender: &mut SendRequest<BoxBody>,
    hub: &Hub,
    nonce: &str,
) -> Result<(LineSender, Said), Failed> {
    let (lines, body) = lines::channel();
    let greeting = Greeting {
        protocol: VERSIONS,
        version: hub.options.version.clone(),
        replica: hub.options.replica.clone(),
        nonce: nonce.to_owned(),
    };
    lines.send(&FromGateway::Greeting(greeting)).await.map_err(|_| Failed::Broken)?;
    let mut request = Request::new(body.map_err(|never| match never {}).boxed_unsync());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static(CONTROL_URI);
    let reply = sender.send_request(request).await.map_err(|_| Failed::Broken)?;
    if reply.status() != StatusCode::OK {
        return Err(Failed::hello("the worker does not answer the control stream"));
    }
    Ok((lines, LineReader::new(reply.into_body(), protocol::MAX_LINE)))
}

/// The protocol version to speak with a worker whose hello is in order.
fn check(hello: &Hello, nonce: &str, credential: &Credential) -> Result<u32, Failed> {
    let Some(protocol) = VERSIONS.common(hello.protocol) else {
        let (ours, theirs) = (VERSIONS, hello.protocol);
        return Err(Failed::Because(Close::new(
            code::VERSION,
            format!(
                "no common protocol version: the gateway speaks {}-{}, the worker {}-{}; update the older",
                ours.min, ours.max, theirs.min, theirs.max
            ),
        )));
    };
    if !is_name(&hello.name) {
        return Err(Failed::hello("the worker's name must be 1-64 characters of A-Z a-z 0-9 . _ - (--name)"));
    }
    let labels = hello.labels.iter().flat_map(|(key, value)| [key, value]);
    let mut texts = labels.chain([&hello.version, &hello.instance, &hello.engine, &hello.nonce]);
    let fine = |text: &String| text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
    if hello.labels.len() > MAX_LABELS || !texts.all(fine) {
        return Err(Failed::hello("a hello has up to 32 labels and texts of up to 256 plain characters"));
    }
    if hello.capacity == Some(0) {
        return Err(Failed::hello("a worker takes one call at least (--max-in-flight)"));
    }
    // Each end's freshness is its own half; an empty one would be none.
    if hello.nonce.len() < 32 || hello.instance.is_empty() {
        return Err(Failed::hello("a hello has a nonce of 32 characters or more, and an instance"));
    }
    let claim = Claim {
        gateway_nonce: nonce,
        worker_nonce: &hello.nonce,
        name: &hello.name,
        instance: &hello.instance,
    };
    if claim.holds(&credential.secret, &hello.proof) {
        Ok(protocol)
    } else {
        Err(Failed::Because(Close::new(code::BAD_PROOF, "the proof of the worker's key is wrong")))
    }
}

fn take_in(
    hub: &Arc<Hub>,
    hello: Hello,
    credential: Credential,
    peer: Option<IpAddr>,
    sender: SendRequest<BoxBody>,
    lines: LineSender,
) -> Seated {
    let identity = Identity { group: Arc::clone(&credential.group), name: hello.name.into() };
    let profile = Profile {
        identity: identity.clone(),
        credential,
        version: hello.version,
        instance: hello.instance,
        labels: hello.labels,
        engine: hello.engine,
        capacity: hello.capacity,
        peer,
    };
    let status = control::sound(hello.status);
    let opening = |epoch, settled| Opening { profile, epoch, sender, lines, status, settled };
    hub.seat(opening, &identity)
}
