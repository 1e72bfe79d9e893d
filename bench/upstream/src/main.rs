//! An OpenAI-style upstream that answers from memory, so that what is measured is what stands in
//! front of it. A completion of 1 KB, or a stream of events at once or at a pace.

mod reply;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use clap::Parser;
use http_body_util::BodyExt;
use hyper::{
    Request, Response, body::Incoming, header::CONTENT_TYPE, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use reply::{Events, Replies, ReplyBody};
use serde::Deserialize;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

#[derive(Parser)]
#[command(about = "Answers chat completions from memory")]
struct Args {
    /// A loopback address to listen on.
    #[arg(long)]
    listen: SocketAddr,
    /// Events per stream, before its `[DONE]`.
    #[arg(long, default_value_t = 64)]
    events: usize,
    /// Milliseconds between the events of a stream of the model `paced`; others come at once.
    #[arg(long, default_value_t = 10)]
    pace_ms: u64,
}

struct Upstream {
    replies: Replies,
    pace: Duration,
    /// Accepted so far, to show whether a gateway keeps its connections.
    connections: AtomicU64,
}

/// What matters of a chat request.
#[derive(Deserialize)]
struct Chat {
    model: String,
    #[serde(default)]
    stream: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    anyhow::ensure!(args.listen.ip().is_loopback(), "only loopback addresses are allowed");
    let upstream = Arc::new(Upstream {
        replies: Replies::new(args.events),
        pace: Duration::from_millis(args.pace_ms),
        connections: AtomicU64::new(0),
    });
    let listener = TcpListener::bind(args.listen).await?;
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (socket, _peer) = accepted?;
                upstream.connections.fetch_add(1, Ordering::Relaxed);
                open.spawn(serve(socket, Arc::clone(&upstream)));
            }
            Some(_ended) = open.join_next() => {}
        }
    }
}

async fn serve(socket: TcpStream, upstream: Arc<Upstream>) {
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(|request| answer(request, &upstream));
    // Whoever broke the connection counts it.
    let _ended = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

async fn answer(request: Request<Incoming>, upstream: &Upstream) -> anyhow::Result<Response<ReplyBody>> {
    match request.uri().path() {
        "/v1/models" => json(upstream.replies.models.clone()),
        "/connections" => json(upstream.connections.load(Ordering::Relaxed).to_string().into()),
        _ => chat(request, upstream).await,
    }
}

fn json(body: Bytes) -> anyhow::Result<Response<ReplyBody>> {
    reply("application/json", ReplyBody::Whole(Some(body)))
}

fn reply(kind: &'static str, body: ReplyBody) -> anyhow::Result<Response<ReplyBody>> {
    Ok(Response::builder().header(CONTENT_TYPE, kind).body(body)?)
}

async fn chat(request: Request<Incoming>, upstream: &Upstream) -> anyhow::Result<Response<ReplyBody>> {
    let body = request.into_body().collect().await?.to_bytes();
    let chat: Chat = serde_json::from_slice(&body)?;
    if !chat.stream {
        return json(upstream.replies.completion.clone());
    }
    let pace = (chat.model == "paced").then_some(upstream.pace);
    reply("text/event-stream", ReplyBody::Stream(Events::new(&upstream.replies, pace)))
}
