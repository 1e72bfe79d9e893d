//! Who is calling? Decided by the request's head alone, before any of its body is read.

use std::sync::Arc;

use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderName},
};
use jiff::Timestamp;
use synapse_core::{
    config::snapshot::{Auth, AuthMode},
    error::{Fault, FaultKind},
    principal::{KeyTable, Principal},
};

use crate::audit::Record;

/// The headers that may carry a key, besides `Authorization`.
pub static KEY_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// A caller whose key is real and works.
#[derive(Clone)]
pub struct Authenticated(Arc<Principal>);

impl Authenticated {
    /// The key and what it is bound to.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.0
    }
}

/// Finds the caller's key.
///
/// # Errors
/// `missing_api_key`, `conflicting_credentials`, `invalid_api_key` and its kin.
pub fn authenticate(
    auth: &Auth,
    keys: &KeyTable,
    headers: &HeaderMap,
    record: &mut Record,
) -> Result<Authenticated, Fault> {
    if auth.mode == AuthMode::Open {
        check_network(&auth.open, record)?;
        return Ok(Authenticated(Arc::clone(&auth.open)));
    }
    let principal = keys.authenticate(credential(headers)?, Timestamp::now())?;
    record.actor(|actor| {
        actor.key = Some(principal.key.clone());
        actor.team = Some(principal.team.clone());
    });
    check_network(&principal, record)?;
    Ok(Authenticated(principal))
}

/// May the key be used from where the caller is?
fn check_network(principal: &Principal, record: &Record) -> Result<(), Fault> {
    let networks = &principal.binding.networks;
    let is_within = |ip| networks.iter().any(|network| network.contains(ip));
    if networks.is_empty() || record.address().is_some_and(is_within) {
        return Ok(());
    }
    let message = "This API key may not be used from your network.";
    Err(Fault::new(FaultKind::NetworkNotAllowed, message))
}

/// The tokens that a request carries as `Authorization: Bearer`.
pub fn bearers(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    })
}

/// The one credential among these, empty ones aside; `None` if there is none.
///
/// # Errors
/// `conflicting_credentials` if there are different ones.
pub fn the_only<T: AsRef<str>>(credentials: impl IntoIterator<Item = T>) -> Result<Option<T>, Fault> {
    let mut sent = credentials.into_iter().filter(|text| !text.as_ref().is_empty());
    let first = sent.next();
    if let Some(first) = &first
        && sent.any(|other| other.as_ref() != first.as_ref())
    {
        let message = "The request carries two different credentials. Send one.";
        return Err(Fault::new(FaultKind::ConflictingCredentials, message));
    }
    Ok(first)
}

/// The one credential of a request.
fn credential(headers: &HeaderMap) -> Result<&str, Fault> {
    let plain = KEY_HEADERS
        .iter()
        .flat_map(|name| headers.get_all(name))
        .filter_map(|value| value.to_str().ok().map(str::trim));
    the_only(bearers(headers).chain(plain))?.ok_or_else(|| {
        Fault::new(
            FaultKind::MissingApiKey,
            "No API key was sent. Send it as `Authorization: Bearer <key>` or in the `x-api-key` header.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), v.parse().expect("a value"))).collect()
    }

    fn code(pairs: &[(&'static str, &'static str)]) -> &'static str {
        credential(&headers(pairs)).expect_err("a fault").kind.code()
    }

    #[test]
    fn a_key_may_come_in_any_of_the_usual_headers() {
        for pair in
            [("authorization", "bearer k"), ("x-api-key", "k"), ("api-key", " k "), ("x-goog-api-key", "k")]
        {
            assert_eq!(credential(&headers(&[pair])).expect("a key"), "k");
        }
    }

    #[test]
    fn one_key_twice_is_one_key_and_two_keys_are_a_conflict() {
        assert_eq!(
            credential(&headers(&[("authorization", "Bearer k"), ("x-api-key", "k")])).expect("a key"),
            "k"
        );
        assert_eq!(code(&[("authorization", "Bearer k"), ("x-api-key", "other")]), "conflicting_credentials");
    }

    #[test]
    fn no_usable_credential_is_a_missing_one() {
        assert_eq!(code(&[]), "missing_api_key");
        assert_eq!(code(&[("authorization", "Basic dXNlcjpwdw==")]), "missing_api_key");
        assert_eq!(code(&[("authorization", "Bearer ")]), "missing_api_key");
    }
}
