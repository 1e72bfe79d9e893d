//! What the caller's key allows, and which way the model's name leads.

use std::sync::Arc;

use synapse_core::{
    error::{Fault, FaultKind},
    principal::Principal,
};
use synapse_dialect::openai::prefix;

use super::receive::Call;
use crate::{audit::Record, gateway::Live, inspect::policies::ON_PREM, route::catalog::Route};

/// A call that its key allows, with the way it is to go.
pub struct Bound {
    pub(super) call: Call,
    pub(super) route: Arc<Route>,
}

impl Bound {
    /// The name of the policy for sensitive data.
    pub(super) fn policy(&self) -> &str {
        let named = self.call.caller.principal().binding.dlp_policy.as_ref();
        named.map_or(ON_PREM, |name| name.as_str())
    }

    /// What all turns of the request's conversation share.
    pub(super) fn fingerprint(&self) -> Option<u64> {
        prefix::fingerprint(self.call.body.json()?, self.call.caller.principal().key.as_str())
    }
}

/// The way of a model that `caller` may use.
///
/// # Errors
/// `model_not_allowed` or `model_not_found`.
pub fn find(live: &Live, caller: &Principal, model: &str) -> Result<Arc<Route>, Fault> {
    let route = live.realms.of(&caller.group).resolve(model);
    let allowed = route.as_ref().map_or_else(|| caller.allows_model(model), |route| route.is_allowed(caller));
    if !allowed {
        let message = format!("This API key may not use the model `{model}`.");
        return Err(Fault::new(FaultKind::ModelNotAllowed, message).param("model"));
    }
    route.ok_or_else(|| {
        let message = format!("The model `{model}` does not exist. GET /v1/models lists those that do.");
        Fault::new(FaultKind::ModelNotFound, message).param("model")
    })
}

/// Binds a call to its key.
///
/// # Errors
/// `model_not_allowed` for a model outside the key's list, whether it exists or not;
/// `model_not_found` for one that nobody serves.
pub fn bind(live: &Live, call: Call, record: &mut Record) -> Result<Bound, Fault> {
    let model = call.shape.model.as_str();
    let route = find(live, call.caller.principal(), model)?;
    record.target(|target| {
        target.model = Some(route.model.clone());
        target.pattern.clone_from(&route.pattern);
    });
    Ok(Bound { call, route })
}
