//! What happens to one connection and to one request; the same in every layout.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{
    HeaderMap, Request, Response,
    body::Incoming,
    header::{CONNECTION, HeaderName, TE, TRANSFER_ENCODING, UPGRADE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::upstream::{ReplyBody, Upstream};

/// Headers that concern one hop only.
static HOP_BY_HOP: [HeaderName; 5] =
    [CONNECTION, HeaderName::from_static("keep-alive"), TE, TRANSFER_ENCODING, UPGRADE];
/// Asks for this many microseconds of CPU on the serving thread, as the inspection of a long
/// prompt would take.
static BUSY: HeaderName = HeaderName::from_static("x-busy-us");
const MAX_BUSY: Duration = Duration::from_millis(50);

/// Serves `socket` until its peer leaves.
pub(crate) async fn serve(socket: TcpStream, upstream: Arc<Upstream>) {
    let service = service_fn(move |request| forward(request, Arc::clone(&upstream)));
    // Without it, a reply in two writes may wait for a delayed acknowledgement.
    if socket.set_nodelay(true).is_err() {
        return;
    }
    // The timer bounds how long a request's head may take, as any proxy in the open must.
    let serving =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service);
    // An error closes the connection, and its peer counts it.
    let _ended = serving.await;
}

async fn forward(
    mut request: Request<Incoming>,
    upstream: Arc<Upstream>,
) -> anyhow::Result<Response<ReplyBody>> {
    stay_busy(request.headers());
    strip(request.headers_mut());
    let mut response = upstream.call(request).await?;
    strip(response.headers_mut());
    Ok(response)
}

fn strip(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn stay_busy(headers: &HeaderMap) {
    let Some(value) = headers.get(&BUSY) else { return };
    let micros = value.to_str().ok().and_then(|v| v.parse().ok()).unwrap_or(0);
    let until = Instant::now() + Duration::from_micros(micros).min(MAX_BUSY);
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}
