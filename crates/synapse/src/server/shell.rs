//! What every request passes, whatever it asks for: its identifier, limits of its head, CORS, and a
//! net for panics.

use std::{convert::Infallible, net::IpAddr, panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde_json::{Value, json};
use synapse_core::{
    audit::Actor,
    error::{Fault, FaultKind},
    id::RequestId,
};
use synapse_gateway::{
    backend::http::HOP_HEADER,
    discover::local::INSTANCE_HEADER,
    gateway::Gateway,
    health, models,
    pipeline::{self, Inbound},
    respond::{self, REQUEST_ID},
    stream::body::ReplyBody,
};
use tokio::sync::watch;

use super::{
    caller, cors,
    routes::{self, Route},
    tls::Certificates,
};

/// The largest head, names and values together, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// The longest path with its query, in bytes.
const MAX_URI: usize = 8 * 1024;

type Reply = Response<ReplyBody>;

/// Answers requests.
pub(super) struct Shell {
    gateway: Arc<Gateway>,
    certificates: Option<Arc<Certificates>>,
    closing: watch::Receiver<bool>,
}

impl Shell {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        certificates: Option<Arc<Certificates>>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self { gateway, certificates, closing }
    }

    pub(super) fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_deref()
    }

    /// Tells when connections are to end.
    pub(super) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.clone()
    }

    /// Answers a request; a panic costs only this one.
    pub(super) async fn answer(&self, request: Request<Incoming>, peer: IpAddr) -> Result<Reply, Infallible> {
        let id = request.headers().get(REQUEST_ID).and_then(|value| RequestId::accept(value.as_bytes()));
        let id = id.unwrap_or_else(RequestId::generate);
        let is_head = request.method() == Method::HEAD;
        let answered = AssertUnwindSafe(self.answer_caught(request, id.clone(), peer)).catch_unwind().await;
        let mut reply = answered.unwrap_or_else(|_| {
            tracing::error!(request_id = id.as_str(), "a request panicked");
            let fault = Fault::new(FaultKind::Internal, "The gateway failed. The failure has been logged.");
            respond::fault(&fault).map(ReplyBody::whole)
        });
        respond::tag(reply.headers_mut(), &id);
        Ok(if is_head { reply.map(ReplyBody::untold) } else { reply })
    }

    async fn answer_caught(&self, request: Request<Incoming>, id: RequestId, peer: IpAddr) -> Reply {
        let live = self.gateway.live();
        let server = &live.snapshot.server;
        let address = caller::address(peer, request.headers(), &server.trusted_proxies);
        let origin = cors::allowed_origin(request.headers(), &server.cors_origins);
        if let Some(origin) =
            origin.clone().filter(|_| cors::is_preflight(request.method(), request.headers()))
        {
            let mut reply = Response::new(ReplyBody::whole(Bytes::new()));
            *reply.status_mut() = StatusCode::NO_CONTENT;
            cors::allow_preflight(reply.headers_mut(), origin, request.headers());
            return reply;
        }
        let asked_by_gateway = request.headers().contains_key(HOP_HEADER);
        let mut reply = self.route(request, id, address).await;
        if let Some(origin) = origin {
            cors::allow(reply.headers_mut(), origin);
        }
        if asked_by_gateway && let Ok(instance) = HeaderValue::from_str(self.gateway.instance()) {
            reply.headers_mut().insert(INSTANCE_HEADER, instance);
        }
        if self.gateway.drain.is_draining() {
            reply.headers_mut().insert(hyper::header::CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }

    async fn route(&self, request: Request<Incoming>, id: RequestId, address: IpAddr) -> Reply {
        if let Err(fault) = check_head(&request) {
            return self.refuse(&fault, id, address);
        }
        // The path outlives the request's taking apart.
        let uri = request.uri().clone();
        let Some(route) = routes::find(uri.path()) else {
            let fault = Fault::new(FaultKind::NotFound, "There is nothing at this path.");
            return self.refuse(&fault, id, address);
        };
        let method = request.method();
        let fits = match route {
            Route::Operation(..) => method == Method::POST,
            _ => method == Method::GET || method == Method::HEAD,
        };
        if !fits {
            let fault =
                Fault::new(FaultKind::MethodNotAllowed, format!("This path takes {}.", route.methods()));
            return self.refuse(&fault.param(route.methods()), id, address);
        }
        match route {
            Route::Operation(operation, route) => {
                let inbound = Inbound { request, id, address: Some(address), operation, route };
                pipeline::handle(&self.gateway, inbound).await
            }
            Route::Models => models::handle(&self.gateway, request.headers(), id, Some(address), None),
            Route::Model(raw) => {
                let wanted = routes::percent_decode(raw).unwrap_or_default();
                models::handle(&self.gateway, request.headers(), id, Some(address), Some(&wanted))
            }
            Route::Health => json_reply(StatusCode::OK, &health::report(&self.gateway.live())),
            Route::Live => json_reply(StatusCode::OK, &json!({ "status": "alive" })),
            Route::Ready => self.ready(),
            Route::Version | Route::Root => {
                let version = env!("CARGO_PKG_VERSION");
                json_reply(StatusCode::OK, &json!({ "name": "synapse", "version": version }))
            }
        }
    }

    fn ready(&self) -> Reply {
        if self.gateway.is_ready() {
            json_reply(StatusCode::OK, &json!({ "status": "ready" }))
        } else {
            json_reply(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not ready" }))
        }
    }

    /// A refusal before any route was known; it leaves a record like everything else.
    fn refuse(&self, fault: &Fault, id: RequestId, address: IpAddr) -> Reply {
        let actor = Actor { address: Some(address), ..Actor::default() };
        let mut record = self.gateway.journal.open(id, "-", actor);
        let reply = pipeline::refuse(fault, &mut record);
        let status = reply.status().as_u16();
        record.end(|end| end.status = status);
        reply.map(|body| body.attach(record, None))
    }
}

fn check_head(request: &Request<Incoming>) -> Result<(), Fault> {
    let size: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > MAX_HEAD {
        return Err(Fault::new(
            FaultKind::HeadersTooLarge,
            format!("The headers are larger than {MAX_HEAD} bytes."),
        ));
    }
    let length = request.uri().path_and_query().map_or(0, |p| p.as_str().len());
    if length > MAX_URI {
        return Err(Fault::new(FaultKind::NotFound, format!("The path is longer than {MAX_URI} bytes.")));
    }
    Ok(())
}

fn json_reply(status: StatusCode, body: &Value) -> Reply {
    let mut reply = Response::new(ReplyBody::whole(Bytes::from(body.to_string())));
    *reply.status_mut() = status;
    let headers: &mut HeaderMap = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
