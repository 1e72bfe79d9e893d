//! `/v1/models`: what a caller may use, answered from memory.

use bytes::Bytes;
use hyper::{HeaderMap, Response, header::CONTENT_TYPE};
use serde_json::{Map, Value, json};
use synapse_core::{audit::Actor, error::Fault, principal::Principal};

use crate::{
    audit::Record,
    gateway::{Gateway, Live},
    phase::{
        authenticate::authenticate,
        bind::{find, reach},
    },
    pipeline,
    route::reach::Reach,
    stream::body::ReplyBody,
};

/// Serves the list, or one model of it if `wanted` is given. Ids may have slashes.
pub fn handle(
    gateway: &Gateway,
    headers: &HeaderMap,
    id: synapse_core::id::RequestId,
    address: Option<std::net::IpAddr>,
    wanted: Option<&str>,
) -> Response<ReplyBody> {
    let route = if wanted.is_some() { "GET /v1/models/{id}" } else { "GET /v1/models" };
    let mut record = gateway.records.open(id, route, Actor { address, ..Actor::default() });
    let response = run(gateway, headers, wanted, &mut record)
        .unwrap_or_else(|fault| pipeline::refuse(&fault, &mut record));
    let status = response.status().as_u16();
    record.end(|end| end.status = status);
    response.map(|body| body.attach(record, None))
}

fn run(
    gateway: &Gateway,
    headers: &HeaderMap,
    wanted: Option<&str>,
    record: &mut Record,
) -> Result<Response<ReplyBody>, Fault> {
    let live = gateway.live();
    let caller = authenticate(&live.snapshot.auth, &gateway.keys(), headers, record)?;
    let reach = reach(&live.snapshot.data_classes, &caller.principal().binding, headers)?;
    let body = match wanted {
        None => list(&live, caller.principal(), &reach),
        Some(id) => one(&live, caller.principal(), &reach, id)?,
    };
    let mut response = Response::new(ReplyBody::whole(Bytes::from(body.to_string())));
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}

fn list(live: &Live, caller: &Principal, reach: &Reach) -> Value {
    let allowed = live.realms.of(&caller.group).catalog.allowed(caller, reach);
    let data: Vec<Value> = allowed.map(|(id, fields)| object(id, fields)).collect();
    json!({ "object": "list", "data": data })
}

fn one(live: &Live, caller: &Principal, reach: &Reach, id: &str) -> Result<Value, Fault> {
    let route = find(live, caller, id)?;
    if !route.candidates.is_empty() && !reach.includes_any_of(&route) {
        return Err(reach.fault(id));
    }
    if let Some((id, fields)) =
        live.realms.of(&caller.group).catalog.listing().iter().find(|(known, _)| known == id)
    {
        return Ok(object(id, fields));
    }
    // A name that only a pattern knows.
    Ok(object(route.model.as_str(), &Map::new()))
}

/// OpenAI's required fields first, then whatever all instances agree on.
fn object(id: &str, fields: &Map<String, Value>) -> Value {
    let mut object = Map::new();
    object.insert("id".to_owned(), id.into());
    for (key, default) in [("object", json!("model")), ("created", json!(0)), ("owned_by", json!("synapse"))]
    {
        object.insert(key.to_owned(), fields.get(key).filter(|v| !v.is_null()).cloned().unwrap_or(default));
    }
    for (key, value) in fields {
        object.entry(key).or_insert_with(|| value.clone());
    }
    Value::Object(object)
}
