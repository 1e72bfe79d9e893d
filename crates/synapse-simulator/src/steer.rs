//! The simulator's own route, over which a script reads its counters and changes its behaviour without
//! being in the same process.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use crate::behaviour::Behaviour;
use crate::call::Call;
use crate::fault::Fault;
use crate::reply::Reply;

/// The route: GET shows, POST changes the fields it names.
pub(crate) const PATH: &str = "/_sim";

pub(crate) fn answer(call: &Call<'_>) -> Result<Reply, Fault> {
    if call.method == Method::POST {
        let changes: Value = call.json()?;
        let behaviour = merged(call.behaviour, changes)?;
        call.shared.behaviour.send_replace(Arc::new(behaviour));
    }
    let behaviour = call.shared.behaviour();
    Ok(Reply::json(&json!({
        "engine": call.engine(),
        "behaviour": *behaviour,
        "counters": call.shared.ledger.counters(),
    })))
}

/// `behaviour` with the fields that `changes` names.
fn merged(behaviour: &Behaviour, changes: Value) -> Result<Behaviour, Fault> {
    let refused = |error: serde_json::Error| Fault::invalid(error.to_string());
    let Value::Object(changes) = changes else {
        return Err(Fault::invalid("the behaviour is a JSON object"));
    };
    let mut whole = serde_json::to_value(behaviour).map_err(refused)?;
    if let Value::Object(fields) = &mut whole {
        fields.extend(changes);
    }
    serde_json::from_value(whole).map_err(refused)
}
