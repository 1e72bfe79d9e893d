//! What the caller's key allows, what it puts into the request, and which way the request may go.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use hyper::{HeaderMap, header::HeaderName};
use synapse_core::{
    audit::PromptMark,
    binding::{Binding, Unscannable},
    config::snapshot::{EngineKind, Locality},
    data_class::DataClasses,
    error::{Fault, FaultKind},
    principal::Principal,
};
use synapse_dialect::{
    json::Edits,
    openai::{
        binding::{self, Rules},
        media, prefix,
    },
};
use synapse_dlp::{Direction, label};

use super::receive::Call;
use crate::{
    audit::Record,
    gateway::Live,
    route::{catalog::Route, reach::Reach},
};

/// Where a caller may say that a request is more sensitive than its key's.
const DATA_CLASS: HeaderName = HeaderName::from_static("x-synapse-data-class");

/// A call that its key allows, with the way it is to go.
pub struct Bound {
    pub(super) call: Call,
    pub(super) route: Arc<Route>,
    pub(super) reach: Reach,
    /// The body as it came, where something was put in.
    received: Option<Bytes>,
}

impl Bound {
    /// What the caller has said, as JSON. What is the operator's word is not in it.
    pub(super) fn callers_body(&self) -> Option<&Bytes> {
        self.received.as_ref().or(self.call.body.json())
    }

    /// Makes changes in what the caller has said, and puts in anew what the key says.
    pub(super) fn edit(&mut self, edits: Edits, record: &mut Record) -> Result<(), Fault> {
        if edits.is_empty() {
            return Ok(());
        }
        match self.received.take() {
            Some(received) => self.call.replace(edits.apply(&received))?,
            None => self.call.edit(edits)?,
        }
        let caller = Arc::clone(self.call.caller.principal());
        self.received = put_in(&caller.binding, &self.route, &mut self.call, record)?;
        Ok(())
    }

    /// The name of the policy for sensitive data.
    pub(super) fn policy(&self) -> &str {
        let named = self.call.caller.principal().binding.dlp_policy.as_ref();
        named.unwrap_or(&self.reach.class().dlp_policy).as_str()
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

/// Where requests of a key may go: by its class, or by a more sensitive one that the request names.
///
/// # Errors
/// `data_class_not_allowed` for a less sensitive class, or an unknown one.
pub fn reach(classes: &DataClasses, binding: &Binding, headers: &HeaderMap) -> Result<Reach, Fault> {
    let own = classes.of(binding.data_class.as_ref());
    let refused = |what: &str| {
        let message = format!(
            "{what} Leave the header out for `{}`, or use a key of the class that you mean.",
            own.1.name
        );
        Fault::new(FaultKind::DataClassNotAllowed, message).param("x-synapse-data-class")
    };
    let mut highest = own;
    for value in headers.get_all(DATA_CLASS) {
        let named = value.to_str().ok().and_then(|name| classes.find(name.trim()));
        let named = named
            .ok_or_else(|| refused("The header `x-synapse-data-class` names no class of this gateway."))?;
        if named.0 < own.0 {
            return Err(refused("A request cannot be less sensitive than its API key."));
        }
        if named.0 > highest.0 {
            highest = named;
        }
    }
    Ok(Reach::of(Arc::clone(highest.1)))
}

/// Binds a call to its key.
///
/// # Errors
/// `operation_not_allowed`; `model_not_allowed` for a model outside the key's list, whether it exists or not;
/// `model_not_found` for one that nobody serves; `data_class_not_allowed`, `content_unscannable`, and what of
/// the request the key does not allow.
pub fn bind(live: &Live, mut call: Call, record: &mut Record) -> Result<Bound, Fault> {
    let caller = Arc::clone(call.caller.principal());
    let binding = &caller.binding;
    let operation = call.operation;
    let model = call.shape.model.as_str();
    let route = find(live, &caller, model);
    record.target(|target| match &route {
        Ok(route) => {
            target.model = Some(route.model.clone());
            target.pattern.clone_from(&route.pattern);
        }
        Err(_) => target.model = Some((&*unknown(live, binding, model)).into()),
    });
    if binding.operations.as_ref().is_some_and(|allowed| !allowed.contains(&operation)) {
        let message = format!("This API key may not be used for the operation `{}`.", operation.name());
        return Err(Fault::new(FaultKind::OperationNotAllowed, message));
    }
    let mut reach = reach(&live.snapshot.data_classes, binding, &call.headers)?;
    record.target(|target| {
        target.key_class = Some(live.snapshot.data_classes.of(binding.data_class.as_ref()).1.name.clone());
        target.data_class = Some(reach.class().name.clone());
    });
    let route = route?;
    keep_unscannable(binding, &call, &mut reach)?;
    let received = put_in(binding, &route, &mut call, record)?;
    Ok(Bound { call, route, reach, received })
}

/// The name of a model that is none, as records may have it: callers can have pasted anything there.
fn unknown<'m>(live: &Live, binding: &Binding, model: &'m str) -> Cow<'m, str> {
    let class = live.snapshot.data_classes.of(binding.data_class.as_ref()).1;
    let policy = live.policies.find(binding.dlp_policy.as_ref().unwrap_or(&class.dlp_policy).as_str());
    policy.map_or(Cow::Borrowed(model), |policy| label(model, &policy.scan(Direction::Prompt, model)))
}

/// Looks for what cannot be searched for sensitive data, where that makes a difference.
fn keep_unscannable(binding: &Binding, call: &Call, reach: &mut Reach) -> Result<(), Fault> {
    let matters = match binding.unscannable {
        Unscannable::Allow => false,
        Unscannable::OnPrem => reach.class().allows(Locality::Cloud),
        Unscannable::Block => true,
    };
    if !matters {
        return Ok(());
    }
    let body = call.body.json().map_or(&b""[..], |body| &body[..]);
    let Some(place) = media::first(call.operation, body) else { return Ok(()) };
    if binding.unscannable == Unscannable::Block {
        let message = format!(
            "`{place}` cannot be searched for sensitive data, which this API key demands. Leave it out."
        );
        return Err(Fault::new(FaultKind::ContentUnscannable, message).param(place));
    }
    reach.keep_in_house(place);
    Ok(())
}

/// Puts into the request what its key and its model say, and gives the body as it was; one of which nothing is
/// said stays as it is.
fn put_in(
    binding: &Binding,
    route: &Route,
    call: &mut Call,
    record: &mut Record,
) -> Result<Option<Bytes>, Fault> {
    let prompt = binding.system_prompt.as_deref();
    let rules = Rules {
        prompt,
        caps: &binding.parameters,
        defaults: &route.defaults,
        engines_only: route.candidates.iter().all(|c| c.endpoint.backend.spec.kind != EngineKind::OpenAi),
    };
    let Some(body) = call.body.json().filter(|_| !rules.is_empty()).cloned() else { return Ok(None) };
    let changes = binding::bind(call.operation, &body, rules)?;
    call.bind(changes)?;
    if let Some(prompt) = prompt {
        let mark = PromptMark { version: prompt.version, digest: Arc::clone(prompt.digest()) };
        record.target(|target| target.prompt = Some(mark));
    }
    Ok(Some(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class_of(key: Option<&str>, sent: &[&'static str]) -> Result<String, &'static str> {
        let binding = Binding { data_class: key.map(Into::into), ..Binding::default() };
        let headers = sent.iter().map(|name| (DATA_CLASS, name.parse().expect("a value"))).collect();
        let reach = reach(&DataClasses::default(), &binding, &headers).map_err(|fault| fault.kind.code())?;
        Ok(reach.class().name.to_string())
    }

    #[test]
    fn a_request_may_raise_its_class_and_never_lower_it() {
        let is = |class: &str| Ok(class.to_owned());
        let refused = Err("data_class_not_allowed");
        let open = Some("non_sensitive");
        assert_eq!(class_of(None, &[]), is("sensitive"));
        assert_eq!(class_of(open, &[]), is("non_sensitive"));
        assert_eq!(class_of(open, &["sensitive"]), is("sensitive"));
        assert_eq!(class_of(open, &["sensitive", "non_sensitive"]), is("sensitive"));
        for key in [None, Some("sensitive"), Some("no_such_class")] {
            assert_eq!(class_of(key, &["non_sensitive"]), refused, "{key:?}");
            assert_eq!(class_of(key, &["sensitive", "non_sensitive"]), refused, "{key:?}");
        }
        for odd in ["", "Sensitive", "public", "sensitive,non_sensitive"] {
            assert_eq!(class_of(open, &[odd]), refused, "{odd}");
        }
    }
}
