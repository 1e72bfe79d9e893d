//! One connection: TLS if configured, then HTTP/1.1 or HTTP/2, whichever the peer speaks.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    patience::{Busy, BusyBody, Patience},
    shell::Shell,
};

/// How long a peer may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The buffer that a head must fit into, in bytes.
const MAX_BUFFER: usize = 64 * 1024;

/// Serves a connection to its end.
pub(super) async fn serve(shell: &Arc<Shell>, stream: TcpStream, peer: SocketAddr) {
    // Small writes of a stream must not wait for acknowledgements.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection has gone before it was served");
        return;
    }
    let Some(certificates) = shell.certificates() else { return speak(shell, stream, peer).await };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, certificates.acceptor().accept(stream)).await {
        Ok(Ok(stream)) => speak(shell, stream, peer).await,
        Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    shell: &Arc<Shell>,
    stream: S,
    peer: SocketAddr,
) {
    let builder = builder();
    let busy = Busy::default();
    let stream = Patience::new(stream, busy.clone());
    let service = service_fn(|request: Request<Incoming>| {
        let (shell, busy) = (Arc::clone(shell), busy.begin());
        async move {
            let Ok(reply) = shell.answer(request, peer.ip()).await;
            Ok::<_, Infallible>(reply.map(|body| BusyBody::new(body, busy)))
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut closing = shell.closing();
    let asked_to_close = async {
        // The sender lives as long as the server; its end is a close, too.
        let _asked = closing.wait_for(|closing| *closing).await.is_ok();
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = asked_to_close => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection ended with an error");
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        // `Patience` does better.
        .header_read_timeout(None)
        .max_buf_size(MAX_BUFFER)
        // Switches write back-pressure off where it is on.
        .pipeline_flush(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .max_header_list_size(32 * 1024)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .max_send_buf_size(256 * 1024)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
