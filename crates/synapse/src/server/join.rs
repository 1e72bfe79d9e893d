//! `GET /ws`: a worker comes in. Its key is checked before anything else; then the connection becomes a
//! tunnel, which is served in the place of requests, by the same task and in the same seat.

use std::{fmt, net::IpAddr, sync::Arc};

use bytes::Bytes;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    upgrade::{self, OnUpgrade},
};
use hyper_util::rt::TokioIo;
use synapse_core::{
    error::{Fault, FaultKind},
    id::KeyId,
    key::SecretHash,
    worker::WorkerKey,
};
use synapse_gateway::{
    gateway::Gateway,
    phase::authenticate::{bearers, the_only},
    stream::body::ReplyBody,
};
use synapse_tunnel::gateway::{Admission, Credential, Refusal, answer};

/// The parameter that may carry the key where a client cannot send headers; it ends up in logs of
/// proxies, so `Authorization` is better.
const KEY_PARAMETER: &str = "ws_auth_key=";

/// A worker that may come in, once its connection is a tunnel.
pub(super) struct Join {
    gateway: Arc<Gateway>,
    upgrading: OnUpgrade,
    credential: Credential,
    address: IpAddr,
    admission: Admission,
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Join({})", self.credential.group)
    }
}

impl Join {
    /// The key that the worker came with.
    pub(super) fn key(&self) -> &KeyId {
        &self.credential.key
    }

    /// Serves the tunnel to its end.
    pub(super) async fn serve(self) {
        match self.upgrading.await {
            Ok(upgraded) => {
                let io = TokioIo::new(upgraded);
                let hub = self.gateway.hub();
                let end = hub.accept(io, self.credential, Some(self.address), self.admission).await;
                tracing::debug!(%end, "a tunnel has ended");
            }
            Err(error) => tracing::debug!(%error, "a connection did not become a tunnel"),
        }
    }
}

/// Answers a worker that asks to come in.
///
/// # Errors
/// 401 for a wrong key, 503 when too many come at once or the gateway goes down, and what is wrong with a
/// request that is no worker's.
pub(super) fn join(
    gateway: &Arc<Gateway>,
    mut request: Request<Incoming>,
    address: IpAddr,
) -> Result<(Response<ReplyBody>, Join), Fault> {
    if gateway.drain.is_draining() {
        return Err(Fault::new(FaultKind::ShuttingDown, "The gateway is going down. Try again."));
    }
    let (secret, key) = find_key(gateway, &request)?;
    let headers = answer(request.method(), request.version(), request.headers()).map_err(no_worker)?;
    let admission = gateway.hub().admit(&key.id).map_err(|busy| {
        Fault::new(FaultKind::Overloaded, "Too many workers connect at once. Try again.")
            .retry_after(busy.retry_after)
    })?;
    let credential = Credential {
        group: key.group.as_str().into(),
        key: key.id.clone(),
        secret,
        allows_cloud: key.allows_cloud,
    };
    let upgrading = upgrade::on(&mut request);
    let mut reply = Response::new(ReplyBody::whole(Bytes::new()));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *reply.headers_mut() = headers;
    Ok((reply, Join { gateway: Arc::clone(gateway), upgrading, credential, address, admission }))
}

/// The worker's key, by what it has sent.
fn find_key(gateway: &Gateway, request: &Request<Incoming>) -> Result<(SecretHash, Arc<WorkerKey>), Fault> {
    let bearers = bearers(request.headers()).map(str::to_owned);
    let pairs = request.uri().query().into_iter().flat_map(|query| query.split('&'));
    let raw = pairs.filter_map(|pair| pair.strip_prefix(KEY_PARAMETER));
    let sent = bearers.chain(raw.filter_map(super::routes::percent_decode));
    let secret = the_only(sent)?.ok_or_else(|| {
        let message = "No worker's key was sent. Send it as `Authorization: Bearer <key>`.";
        Fault::new(FaultKind::MissingApiKey, message)
    })?;
    let hash = SecretHash::of(&secret);
    let key = gateway.worker_keys().find(&hash).cloned().ok_or_else(|| {
        let message =
            "This is no worker's key, or it is not valid any more. `synapse worker-key create` makes one.";
        Fault::new(FaultKind::Unauthenticated, message)
    })?;
    Ok((hash, key))
}

/// The request is none of a worker.
fn no_worker(refusal: Refusal) -> Fault {
    let kind = match refusal {
        Refusal::Method => FaultKind::MethodNotAllowed,
        Refusal::NoUpgrade | Refusal::Version => FaultKind::UpgradeRequired,
        Refusal::Key | Refusal::Subprotocol => FaultKind::InvalidField,
    };
    let reason = refusal.to_string();
    Fault::new(kind, format!("A worker's connection cannot begin: {reason}."))
}
