//! One connection: TLS if configured, then HTTP/1.1 or HTTP/2, whichever the peer speaks.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use synapse_tunnel::socket::keep_unsent_small;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    gate::Gate,
    seats::Seat,
    shell::{Answer, Shell},
    stalls::Streams,
    turnstile::{Ask, ServedBody},
};

/// How long a peer may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// For an idle connection that was asked to leave.
const LEAVE: Duration = Duration::from_secs(1);
/// The buffer that a head must fit into, in bytes.
const MAX_BUFFER: usize = 64 * 1024;

/// Serves a connection to its end.
pub(super) async fn serve(shell: &Arc<Shell>, stream: TcpStream, peer: SocketAddr, seat: Seat) {
    // Small writes of a stream must not wait for acknowledgements.
    if let Err(error) = keep_unsent_small(&stream) {
        tracing::debug!(%error, "the system does not bound what is unsent");
    }
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection has gone before it was served");
        return;
    }
    let Some(certificates) = shell.certificates() else { return speak(shell, stream, peer, &seat).await };
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, certificates.acceptor().accept(stream)) => shaken,
        _ = seat.turnstile.asked(Ask::Leave) => return,
    };
    match shaken {
        Ok(Ok(stream)) => speak(shell, stream, peer, &seat).await,
        Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    shell: &Arc<Shell>,
    stream: S,
    peer: SocketAddr,
    seat: &Seat,
) {
    let builder = builder(shell.max_streams());
    let turnstile = &seat.turnstile;
    let stream = Gate::new(stream, Arc::clone(turnstile));
    let service = service_fn(|request: Request<Incoming>| {
        let shell = Arc::clone(shell);
        // Before the first wait: the gate has to know at once.
        let (serving, refusal) = turnstile.begin();
        async move {
            let Answer { reply, join } = shell.answer(request, peer.ip(), refusal).await;
            if let Some(join) = join {
                serving.hand_over(join);
            }
            Ok::<_, Infallible>(reply.map(|body| ServedBody::new(body, serving)))
        }
    });
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        ask = turnstile.asked(Ask::Close) => {
            connection.as_mut().graceful_shutdown();
            loop {
                let limit = if ask == Ask::Leave { LEAVE } else { Duration::MAX };
                match tokio::time::timeout(limit, connection.as_mut()).await {
                    Ok(ended) => break ended,
                    // A request may have begun just then.
                    Err(_) if turnstile.is_busy() => {}
                    Err(_) => break Ok(()),
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection ended with an error");
    } else if let Some(join) = turnstile.take_over() {
        join.serve().await;
    }
}

fn builder(max_streams: u32) -> Builder<Streams> {
    let mut builder = Builder::new(Streams);
    builder
        .http1()
        // `Patience` does better, and `Gate` has counted the headers.
        .header_read_timeout(None)
        .max_buf_size(MAX_BUFFER)
        // Switches write back-pressure off where it is on.
        .pipeline_flush(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(max_streams)
        // Twice of what is allowed, so that most of what is too much can be refused with a reason.
        .max_header_list_size(2 * 32 * 1024)
        .max_local_error_reset_streams(Some(128))
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
