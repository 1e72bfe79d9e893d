//! What every request passes, whatever it asks for: its identifier, limits of its head, CORS, and a
//! net for panics.

use std::{
    future::{Future, poll_fn},
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Version,
    body::{Body, Incoming},
    header::{
        ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue,
        UPGRADE,
    },
};
use serde_json::{Value, json};
use synapse_core::{
    audit::Actor,
    error::{Fault, FaultKind},
    id::RequestId,
};
use synapse_gateway::{
    backend::http::HOP_HEADER,
    discover::identify::INSTANCE_HEADER,
    gateway::Gateway,
    health, models,
    pipeline::{self, Inbound},
    respond::{self, REQUEST_ID},
    stream::body::ReplyBody,
};

use super::{
    admin, caller, cors,
    framing::MAX_HEAD,
    head::{HEAD_TOO_LARGE, MAX_FIELDS, MAX_TARGET, Refusal, TARGET_TOO_LONG, TOO_MANY_FIELDS, malformed},
    install::{Asked, Install},
    join::{Join, join},
    routes::{self, Route},
    tls::Certificates,
    version,
};

type Reply = Response<ReplyBody>;

/// What becomes of a request.
pub(super) struct Answer {
    /// The reply.
    pub(super) reply: Reply,
    /// Who takes the connection over when it has gone out.
    pub(super) join: Option<Join>,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self { reply, join: None }
    }
}

/// Answers requests.
pub(super) struct Shell {
    gateway: Arc<Gateway>,
    certificates: Option<Arc<Certificates>>,
    install: Arc<Install>,
}

impl Shell {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        certificates: Option<Arc<Certificates>>,
        install: Arc<Install>,
    ) -> Self {
        Self { gateway, certificates, install }
    }

    pub(super) fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_deref()
    }

    /// Requests at once on one HTTP/2 connection.
    pub(super) fn max_streams(&self) -> u32 {
        self.gateway.live().snapshot.server.max_streams
    }

    /// Answers a request; a panic costs only this one.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        refusal: Option<Refusal>,
    ) -> Answer {
        let id = request.headers().get(REQUEST_ID).and_then(|value| RequestId::accept(value.as_bytes()));
        let id = id.unwrap_or_else(RequestId::generate);
        let answered = match refusal {
            None => caught(pin!(self.answer_caught(request, id.clone(), peer))).await,
            // The request is none that the caller has made.
            Some(refusal) => Some(self.refuse_head(refusal, id.clone(), peer).into()),
        };
        let mut answer = answered.unwrap_or_else(|| {
            tracing::error!(request_id = id.as_str(), "a request panicked");
            let fault = Fault::new(FaultKind::Internal, "The gateway failed. The failure has been logged.");
            respond::fault(&fault).map(ReplyBody::whole).into()
        });
        respond::tag(answer.reply.headers_mut(), &id);
        answer
    }

    fn refuse_head(&self, refusal: Refusal, id: RequestId, peer: IpAddr) -> Reply {
        self.refuse(&Fault::new(refusal.kind, refusal.message), id, peer.to_canonical())
    }

    async fn answer_caught(&self, request: Request<Incoming>, id: RequestId, peer: IpAddr) -> Answer {
        let live = self.gateway.live();
        let server = &live.snapshot.server;
        let address = caller::address(peer, request.headers(), &server.trusted_proxies);
        let origin = cors::allowed_origin(request.headers(), &server.cors_origins);
        if let Some(origin) =
            origin.clone().filter(|_| cors::is_preflight(request.method(), request.headers()))
        {
            let mut reply = Response::new(ReplyBody::whole(Bytes::new()));
            *reply.status_mut() = StatusCode::NO_CONTENT;
            cors::allow_preflight(
                reply.headers_mut(),
                origin,
                request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS),
            );
            return reply.into();
        }
        let head_only = request.method() == Method::HEAD;
        let asked_by_gateway = request.headers().contains_key(HOP_HEADER);
        let Answer { mut reply, join } = self.route(request, id, peer, address).await;
        if let Some(origin) = origin {
            cors::allow(reply.headers_mut(), origin);
        }
        if head_only {
            let length = reply.body().size_hint().exact();
            reply.headers_mut().extend(length.map(|n| (CONTENT_LENGTH, HeaderValue::from(n))));
            reply = reply.map(ReplyBody::without_content);
        }
        if asked_by_gateway && let Ok(instance) = HeaderValue::from_str(self.gateway.instance()) {
            reply.headers_mut().insert(INSTANCE_HEADER, instance);
        }
        if self.gateway.drain.is_draining() {
            reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Answer { reply, join }
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        id: RequestId,
        peer: IpAddr,
        address: IpAddr,
    ) -> Answer {
        let uri = request.uri();
        let found = routes::find(uri.path());
        if let Err(fault) = check_head(&request, found.as_ref()) {
            return self.refuse(&fault, id, address).into();
        }
        let Some(route) = found else {
            let fault = Fault::new(FaultKind::NotFound, nothing_here(uri.path()));
            return self.refuse(&fault, id, address).into();
        };
        let method = request.method();
        let fits = match route {
            Route::Operation(..) => method == Method::POST,
            _ => method == Method::GET || method == Method::HEAD,
        };
        if !fits {
            let fault =
                Fault::new(FaultKind::MethodNotAllowed, format!("This path takes {}.", route.methods()));
            let mut reply = self.refuse(&fault, id, address);
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static(route.methods()));
            return reply.into();
        }
        let reply = match route {
            Route::Workers => return self.join(request, id, address),
            Route::Admin(resource) => admin::answer(&self.gateway, resource, request.headers(), id, address),
            Route::Operation(operation, route) => {
                let inbound = Inbound { request, id, address: Some(address), operation, route };
                pipeline::handle(&self.gateway, inbound).await
            }
            Route::Models => models::handle(&self.gateway, request.headers(), id, Some(address), None),
            Route::Model(raw) => {
                let Some(wanted) = routes::percent_decode(raw) else {
                    let fault = Fault::new(
                        FaultKind::NotFound,
                        "The model's name in the path is not proper UTF-8 text.",
                    );
                    return self.refuse(&fault, id, address).into();
                };
                models::handle(&self.gateway, request.headers(), id, Some(address), Some(&wanted))
            }
            Route::Health => json_reply(StatusCode::OK, &health::report(&self.gateway.live())),
            Route::Live => json_reply(StatusCode::OK, &json!({ "status": "alive" })),
            Route::Ready => self.ready(),
            Route::Install | Route::Client => {
                // Boxed, as it is seldom needed.
                Box::pin(self.install(&request, &route, peer))
                    .await
                    .unwrap_or_else(|fault| self.refuse(&fault, id, address))
            }
            Route::Version => version::reply(request.headers()),
            Route::Root => json_reply(StatusCode::OK, &json!({ "name": "synapse", "version": version::OWN })),
        };
        reply.into()
    }

    /// A worker comes in, or is told why not; either leaves a record.
    fn join(&self, request: Request<Incoming>, id: RequestId, address: IpAddr) -> Answer {
        let actor = Actor { address: Some(address), ..Actor::default() };
        let mut record = self.gateway.records.open(id, "GET /ws", actor);
        let (reply, join) = match join(&self.gateway, request, address) {
            Ok((reply, join)) => {
                record.actor(|actor| actor.key = Some(join.key().clone()));
                (reply, Some(join))
            }
            Err(fault) => (pipeline::refuse(&fault, &mut record), None),
        };
        let status = reply.status().as_u16();
        record.end(|end| end.status = status);
        Answer { reply: reply.map(|body| body.attach(record, None)), join }
    }

    async fn install(
        &self,
        request: &Request<Incoming>,
        route: &Route<'_>,
        peer: IpAddr,
    ) -> Result<Reply, Fault> {
        let live = self.gateway.live();
        let (uri, headers) = (request.uri(), request.headers());
        let asked = Asked { uri, headers, peer, tls: self.certificates.is_some() };
        match route {
            Route::Install => self.install.script(&asked, &live.snapshot.server).await,
            _ => self.install.binary(&asked, &live.snapshot.server).await,
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
        let mut record = self.gateway.records.open(id, "-", actor);
        let reply = pipeline::refuse(fault, &mut record);
        let status = reply.status().as_u16();
        record.end(|end| end.status = status);
        reply.map(|body| body.attach(record, None))
    }
}

/// What becomes of a future; `None` where it panics. It stays where it is: it is as large as all that
/// serving a request takes.
async fn caught<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    })
    .await
}

/// Clients whose base URL lacks `/v1` are the most common reason.
fn nothing_here(path: &str) -> String {
    let versioned = format!("/v1{path}");
    match routes::find(&versioned) {
        Some(_) if path != "/" => format!("There is nothing at this path. Did you mean {versioned}?"),
        _ => "There is nothing at this path.".to_owned(),
    }
}

/// What HTTP/2 leaves unchecked; in HTTP/1 the gate has refused it before. And what HTTP/2 does not know.
fn check_head(request: &Request<Incoming>, route: Option<&Route<'_>>) -> Result<(), Fault> {
    let headers = request.headers();
    if request.version() == Version::HTTP_2 {
        return wrong_head(request).map_or(Ok(()), |wrong| Err(Fault::new(wrong.kind, wrong.message)));
    }
    let upgrades = headers.get_all(UPGRADE).iter().any(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if upgrades && route != Some(&Route::Workers) {
        let message = "There is no WebSocket at this path. Leave out the `Upgrade` header.";
        return Err(Fault::new(FaultKind::UnsupportedField, message).param("upgrade"));
    }
    Ok(())
}

fn wrong_head(request: &Request<Incoming>) -> Option<Refusal> {
    let headers = request.headers();
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > MAX_HEAD {
        return Some(HEAD_TOO_LARGE);
    }
    if headers.len() > MAX_FIELDS {
        return Some(TOO_MANY_FIELDS);
    }
    if request.uri().path_and_query().is_some_and(|path| path.as_str().len() > MAX_TARGET) {
        return Some(TARGET_TOO_LONG);
    }
    if request.method() == Method::CONNECT {
        return Some(malformed("This is no proxy: `CONNECT` leads nowhere."));
    }
    let mut hosts = headers.get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let differs = host.zip(authority).is_some_and(|(host, own)| !host.as_bytes().eq_ignore_ascii_case(own));
    (differs || more.is_some()).then_some(malformed("The request names two hosts."))
}

pub(super) fn json_reply(status: StatusCode, body: &Value) -> Reply {
    let mut reply = Response::new(ReplyBody::whole(Bytes::from(body.to_string())));
    *reply.status_mut() = status;
    let headers: &mut HeaderMap = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
