//! The way of a request, from its arrival to its record. Start reading here.

use std::{net::IpAddr, sync::Arc};

use hyper::{Request, Response, body::Incoming, header::HeaderName};
use synapse_core::{
    audit::Actor,
    error::{Fault, FaultKind},
    id::RequestId,
    operation::Operation,
};

use crate::{
    audit::Record, backend::http::HOP_HEADER, gateway::Gateway, phase, respond, stream::body::ReplyBody,
};

/// Names the entry of the audit log that accepted the request: its chain, its place and its hash.
const RECEIPT: HeaderName = HeaderName::from_static("x-synapse-receipt");
/// The longest chain of gateways that makes sense.
const MAX_HOPS: usize = 8;

/// A request as the listener hands it over.
pub struct Inbound {
    /// The request.
    pub request: Request<Incoming>,
    /// Its identifier.
    pub id: RequestId,
    /// The caller's address.
    pub address: Option<IpAddr>,
    /// What its route stands for.
    pub operation: Operation,
    /// The route's template, for the record.
    pub route: &'static str,
}

/// Serves a request. Whatever becomes of it, its record opens here and closes when its reply's body
/// has ended.
pub async fn handle(gateway: &Arc<Gateway>, inbound: Inbound) -> Response<ReplyBody> {
    let actor = Actor { address: inbound.address, ..Actor::default() };
    let mut record = gateway.records.open(inbound.id.clone(), inbound.route, actor);
    let open = gateway.drain.enter();
    let mut response =
        run(gateway, inbound, &mut record).await.unwrap_or_else(|fault| refuse(&fault, &mut record));
    if let Some(standing) = record.standing() {
        standing.tell(response.headers_mut());
    }
    if let Some(receipt) = gateway.receipt(&record) {
        response.headers_mut().insert(RECEIPT, receipt);
    }
    let status = response.status().as_u16();
    record.end(|end| end.status = status);
    response.map(|body| body.attach(record, Some(open)))
}

async fn run(
    gateway: &Arc<Gateway>,
    inbound: Inbound,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Fault> {
    let Inbound { request, id, operation, .. } = inbound;
    let (head, body) = request.into_parts();
    record.target(|target| target.operation = Some(operation));
    check_open(gateway, &head.headers)?;
    let live = gateway.live();
    let caller =
        phase::authenticate::authenticate(&live.snapshot.auth, &gateway.keys(), &head.headers, record)?;
    record.prepare().await;
    let call = phase::receive::receive(&live, operation, caller, head.headers, body, record).await?;
    let bound = phase::bind::bind(&live, call, record)?;
    let admitted = phase::admit::admit(gateway, &live, bound, record).await?;
    let cleared = phase::inspect::inspect(gateway, &live, admitted, record).await?;
    let accepted = phase::journal::journal(cleared, record).await?;
    phase::deliver::deliver(gateway, live, accepted, &id, record).await
}

/// Is the gateway taking work, and has this piece of work not been here before?
fn check_open(gateway: &Gateway, headers: &hyper::HeaderMap) -> Result<(), Fault> {
    if gateway.drain.is_draining() {
        return Err(Fault::new(FaultKind::ShuttingDown, "The gateway is going down. Try again."));
    }
    if let Some(log) = gateway.records.log() {
        log.check()?;
    }
    let hops = || headers.get_all(HOP_HEADER).iter();
    if hops().count() > MAX_HOPS || hops().any(|hop| hop.as_bytes() == gateway.instance().as_bytes()) {
        return Err(Fault::new(
            FaultKind::LoopDetected,
            "The request has passed this gateway before: the address of one of its backends leads back to it.",
        ));
    }
    Ok(())
}

/// A refusal takes the same way out as a reply.
pub fn refuse(fault: &Fault, record: &mut Record) -> Response<ReplyBody> {
    if fault.kind == FaultKind::Internal {
        tracing::error!(request_id = record.id().map(RequestId::as_str), %fault, "a request failed in the gateway");
    }
    record.end(|end| end.fault = Some(fault.kind));
    respond::fault(fault).map(ReplyBody::whole)
}
