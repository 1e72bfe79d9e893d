//! An engine whose every byte is known beforehand, for bodies that must come through unchanged.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

/// The type of a form made by [`recording`].
pub(super) const RECORDING: &str = "multipart/form-data; boundary=b";
/// What is handed over at once of what is not paced.
const PIECE: usize = 64 * 1024;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Bytes that look random and are the same each time.
pub(super) fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A form that asks for the transcription of this sound.
pub(super) fn recording(model: &str, sound: &[u8]) -> Bytes {
    let mut form = format!(
        "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--b\r\n\
        content-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n"
    )
    .into_bytes();
    form.extend_from_slice(sound);
    form.extend_from_slice(b"\r\n--b--\r\n");
    form.into()
}

/// A digest as people write it.
pub(super) fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One event of the stream with this seed.
fn token(seed: u64, number: u64) -> Bytes {
    let word = &hex(Sha256::digest(format!("{seed} {number}")))[..8];
    event(seed, &json!({"index": 0, "delta": {"content": word}}))
}

/// Its end.
fn last(seed: u64) -> Bytes {
    let mut end = event(seed, &json!({"index": 0, "delta": {}, "finish_reason": "stop"})).to_vec();
    end.extend_from_slice(b"data: [DONE]\n\n");
    end.into()
}

fn event(seed: u64, choice: &Value) -> Bytes {
    let chunk = json!({"id": format!("s{seed}"), "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]});
    format!("data: {chunk}\n\n").into()
}

/// Threads for work that is not to delay what is measured elsewhere in this process.
pub(super) struct Aside(Option<Runtime>);

impl Aside {
    pub(super) fn new() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self(Some(runtime.expect("threads")))
    }

    /// Begins work there, which ends with the set.
    fn begin<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinSet<T> {
        let mut begun = JoinSet::new();
        begun.spawn_on(work, self.0.as_ref().expect("it lives").handle());
        begun
    }

    /// What comes of work that is done there.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.begin(work).join_next().await.expect("one piece of work").expect("no panic")
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The engine. It serves the model `m`: a stream for each `seed`, which goes on until [`Self::end`]; any
/// part of its noise as speech; and the digest of what it gets as a transcription.
pub(super) struct Exact {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
    _aside: Aside,
}

struct Shared {
    noise: Bytes,
    pace: Duration,
    ending: watch::Sender<bool>,
    /// The length of each stream that has ended.
    tokens: Mutex<HashMap<u64, u64>>,
    /// What was handed over of speech.
    spoken: AtomicU64,
}

impl Exact {
    /// One that says this much noise at most, and a token each `pace`.
    pub(super) fn start(noise: Bytes, pace: Duration) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let ending = watch::Sender::new(false);
        let shared = Shared { noise, pace, ending, tokens: Mutex::default(), spoken: AtomicU64::new(0) };
        let shared = Arc::new(shared);
        let aside = Aside::new();
        let serving = aside.begin(listen(listener, Arc::clone(&shared)));
        Self { address, shared, _serving: serving, _aside: aside }
    }

    /// Its base URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets all streams end.
    pub(super) fn end(&self) {
        self.shared.ending.send_replace(true);
    }

    /// The bytes of speech that it could hand over so far.
    pub(super) fn spoken(&self) -> u64 {
        self.shared.spoken.load(Ordering::Relaxed)
    }

    /// The SHA-256 of the stream with this seed, which has ended.
    pub(super) fn digest(&self, seed: u64) -> Option<[u8; 32]> {
        let tokens = *self.shared.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&seed)?;
        let mut digest = Sha256::new();
        (0..tokens).for_each(|number| digest.update(token(seed, number)));
        digest.update(last(seed));
        Some(digest.finalize().into())
    }
}

async fn listen(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        tcp.set_nodelay(true).expect("TCP");
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| {
            let shared = Arc::clone(&shared);
            async move { Ok::<_, Infallible>(shared.answer(request).await) }
        });
        connections.spawn(async move {
            // A caller may leave at any time.
            let _left = http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await;
        });
    }
}

/// The SHA-256 of what comes, which is kept nowhere: large bodies are not to cost the streams beside them
/// more here than on their way.
async fn digest(mut body: Incoming) -> [u8; 32] {
    let mut digest = Sha256::new();
    while let Some(Ok(frame)) = body.frame().await {
        digest.update(frame.into_data().unwrap_or_default());
    }
    digest.finalize().into()
}

fn reply(kind: &str, body: Body) -> Response<Body> {
    Response::builder().header("content-type", kind).body(body).expect("a response")
}

fn document(document: &Value) -> Response<Body> {
    reply("application/json", Full::from(document.to_string()).boxed_unsync())
}

impl Shared {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        if head.uri.path() == "/v1/audio/transcriptions" {
            return document(&json!({ "text": hex(digest(body).await) }));
        }
        let sent = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        match head.uri.path() {
            "/v1/models" => document(&json!({"object": "list", "data": [{"id": "m", "object": "model"}]})),
            "/v1/audio/speech" => self.speak(&sent),
            "/v1/chat/completions" => self.stream(&sent),
            _ => {
                let mut nowhere = document(&json!({}));
                *nowhere.status_mut() = StatusCode::NOT_FOUND;
                nowhere
            }
        }
    }

    fn stream(self: Arc<Self>, sent: &[u8]) -> Response<Body> {
        let asked: Value = serde_json::from_slice(sent).unwrap_or_default();
        let seed = asked["seed"].as_u64().unwrap_or_default();
        let mut beat = interval(self.pace);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ending = self.ending.subscribe();
        let frames = stream::unfold(Some((0, beat, ending)), move |state| {
            let shared = Arc::clone(&self);
            async move {
                let (number, mut beat, mut ending) = state?;
                let is_due = tokio::select! {
                    _ = beat.tick() => false,
                    _ = ending.wait_for(|is_due| *is_due) => true,
                };
                if !is_due {
                    return Some((token(seed, number), Some((number + 1, beat, ending))));
                }
                shared.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(seed, number);
                Some((last(seed), None))
            }
        });
        reply("text/event-stream", StreamBody::new(frames.map(|data| Ok(Frame::data(data)))).boxed_unsync())
    }

    /// The noise from the place that `input` says, as far as it says.
    fn speak(self: Arc<Self>, sent: &[u8]) -> Response<Body> {
        let asked: Value = serde_json::from_slice(sent).unwrap_or_default();
        let part = part(asked["input"].as_str().unwrap_or_default(), &self.noise);
        let pieces = stream::unfold(part, move |mut rest| {
            let shared = Arc::clone(&self);
            async move {
                let piece = rest.split_to(rest.len().min(PIECE));
                shared.spoken.fetch_add(piece.len() as u64, Ordering::Relaxed);
                (!piece.is_empty()).then_some((piece, rest))
            }
        });
        reply("audio/wav", StreamBody::new(pieces.map(|data| Ok(Frame::data(data)))).boxed_unsync())
    }
}

/// The part of the noise that `FROM LENGTH` asks for.
pub(super) fn part(asked: &str, noise: &Bytes) -> Bytes {
    let (from, length) = asked.split_once(' ').unwrap_or(("0", "0"));
    let from = from.parse::<usize>().unwrap_or_default().min(noise.len());
    let length = length.parse::<usize>().unwrap_or_default().min(noise.len() - from);
    noise.slice(from..from + length)
}
