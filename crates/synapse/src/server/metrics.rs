//! The metrics listener: a socket of its own, so that metrics are never public by accident.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use synapse_gateway::{gateway::Gateway, tasks};
use tokio::{net::TcpListener, sync::Semaphore};

/// Scrapers at once.
const MAX_CONNECTIONS: usize = 16;
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/metrics` for as long as the gateway runs.
pub(crate) async fn serve(listener: TcpListener, gateway: Arc<Gateway>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a scraper's connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let gateway = Arc::clone(&gateway);
        tasks::detach("metrics connection", async move {
            let service = service_fn(|request| {
                let reply = answer(&gateway, &request);
                async move { Ok::<_, Infallible>(reply) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a scraper's connection ended with an error");
            }
            drop(place);
        });
    }
}

fn answer(gateway: &Gateway, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::default());
    if request.method() != Method::GET || request.uri().path() != "/metrics" {
        *reply.status_mut() = StatusCode::NOT_FOUND;
        return reply;
    }
    match gateway.metrics.encode() {
        Ok(text) => {
            reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FORMAT));
            *reply.body_mut() = Full::new(text.into());
        }
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            *reply.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
    }
    reply
}
