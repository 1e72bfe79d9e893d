//! The admin API: for whoever has an administrator's token. Everything here answers from memory.

use bytes::Bytes;
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use serde_json::Value;
use synapse_core::{
    audit::Actor,
    error::{Fault, FaultKind},
    id::{KeyId, RequestId},
    key::SecretHash,
};
use synapse_gateway::{
    gateway::Gateway,
    phase::authenticate::{bearers, the_only},
    pipeline,
    stream::body::ReplyBody,
    workers,
};

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// The workers that are in.
    Workers,
}

impl Resource {
    /// The resource of a path below `/admin/v1`.
    pub(super) fn find(path: &str) -> Option<Self> {
        (path == "/workers").then_some(Self::Workers)
    }

    const fn route(self) -> &'static str {
        match self {
            Self::Workers => "GET /admin/v1/workers",
        }
    }

    fn read(self, gateway: &Gateway) -> Value {
        match self {
            Self::Workers => workers::report(gateway),
        }
    }
}

/// Answers a request of an administrator; a refused one leaves a record like any other.
pub(super) fn answer(
    gateway: &Gateway,
    resource: Resource,
    headers: &HeaderMap,
    id: RequestId,
    address: std::net::IpAddr,
) -> Response<ReplyBody> {
    let actor = Actor { address: Some(address), ..Actor::default() };
    let mut record = gateway.records.open(id, resource.route(), actor);
    let reply = match authenticate(gateway, headers) {
        Ok(token) => {
            record.actor(|actor| actor.key = Some(token));
            document(&resource.read(gateway))
        }
        Err(fault) => pipeline::refuse(&fault, &mut record),
    };
    let status = reply.status().as_u16();
    record.end(|end| end.status = status);
    reply.map(|body| body.attach(record, None))
}

/// Whose token it is.
fn authenticate(gateway: &Gateway, headers: &HeaderMap) -> Result<KeyId, Fault> {
    let token = the_only(bearers(headers))?.ok_or_else(|| {
        let message = "No administrator's token was sent. Send it as `Authorization: Bearer <token>`.";
        Fault::new(FaultKind::MissingApiKey, message)
    })?;
    gateway.admin_tokens().get(&SecretHash::of(token)).cloned().ok_or_else(|| {
        let message = "This is no administrator's token, or it is not valid any more. `synapse admin-token create` makes one.";
        Fault::new(FaultKind::Unauthenticated, message)
    })
}

fn document(value: &Value) -> Response<ReplyBody> {
    let mut reply = Response::new(ReplyBody::whole(Bytes::from(value.to_string())));
    *reply.status_mut() = StatusCode::OK;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
