//! The way of a call from the tunnel to the engine.

use std::{io, sync::Arc};

use async_trait::async_trait;
use http_body_util::BodyExt;
use hyper::{Request, Response, body::Incoming};
use synapse_core::config::snapshot::{BackendSpec, EngineKind};
use synapse_gateway::{
    backend::{self, Backend, BackendError, UpstreamBody, UpstreamCall, http::HttpBackend},
    route::paths,
};
use synapse_tunnel::{
    body::BoxBody,
    protocol::{FRESH_HEADER, strip_hop_by_hop},
    worker::{FailedAt, Failure, Service, Terms},
};
use tokio::sync::watch;

/// Passes calls on to the engine.
pub(super) struct Relay {
    spec: BackendSpec,
    kind: watch::Receiver<Option<EngineKind>>,
    in_house: HttpBackend,
    anywhere: Arc<HttpBackend>,
}

impl Relay {
    pub(super) fn new(
        spec: BackendSpec,
        kind: watch::Receiver<Option<EngineKind>>,
        in_house: HttpBackend,
        anywhere: Arc<HttpBackend>,
    ) -> Self {
        Self { spec, kind, in_house, anywhere }
    }

    /// Where the engine has what the gateway calls `path`.
    fn path(&self, path: &str) -> Result<String, Failure> {
        let Some(kind) = *self.kind.borrow() else {
            return Err(Failure { at: FailedAt::Connect, detail: "the engine was not found yet".into() });
        };
        let spec = BackendSpec { kind, ..self.spec.clone() };
        Ok(match path.strip_prefix("/v1").filter(|rest| rest.starts_with('/')) {
            Some(route) => paths::openai(&spec, route),
            None => format!("{}{path}", spec.url.root_path()),
        })
    }
}

#[async_trait]
impl Service for Relay {
    async fn call(&self, request: Request<Incoming>, terms: &Terms) -> Result<Response<BoxBody>, Failure> {
        let (mut head, body) = request.into_parts();
        let path = self.path(head.uri.path_and_query().map_or("/", |path| path.as_str()))?;
        strip_hop_by_hop(&mut head.headers);
        let on_fresh_connection = head.headers.remove(FRESH_HEADER).is_some();
        let call = UpstreamCall {
            method: head.method,
            path,
            headers: head.headers,
            body: UpstreamBody::passing(body.map_err(io::Error::other)),
            connect_timeout: self.spec.timeouts.connect,
            on_fresh_connection,
        };
        let transport: &dyn Backend = if terms.allows_cloud { &*self.anywhere } else { &self.in_house };
        let reply = transport.call(call).await.map_err(failure)?;
        let mut response = Response::new(reply.body.map_err(Into::into).boxed_unsync());
        *response.status_mut() = reply.status;
        *response.headers_mut() = reply.headers;
        Ok(response)
    }
}

fn failure(error: BackendError) -> Failure {
    let at = match error.at {
        backend::FailedAt::Connect => FailedAt::Connect,
        backend::FailedAt::Stale => FailedAt::Stale,
        backend::FailedAt::Head | backend::FailedAt::Body => FailedAt::Head,
    };
    Failure { at, detail: error.into() }
}
