//! The simulator's own route, over which a script reads its counters and changes its behaviour without
//! being in the same process.

use http::Method;
use serde_json::json;

use crate::call::Call;
use crate::fault::Fault;
use crate::reply::Reply;

/// The route: GET shows, POST changes the fields it names.
pub(crate) const PATH: &str = "/_sim";

pub(crate) fn answer(call: &Call<'_>) -> Result<Reply, Fault> {
    let shared = call.shared;
    if call.method == Method::POST {
        shared.apply(call.json()?).map_err(|error| Fault::invalid(error.to_string()))?;
    }
    let behaviour = shared.behaviour();
    Ok(Reply::json(&json!({
        "engine": call.engine(),
        "behaviour": *behaviour,
        "steps_to_come": shared.timeline.len(),
        "counters": shared.ledger.counters(),
        "tokens": shared.accounts.totals(),
    })))
}
