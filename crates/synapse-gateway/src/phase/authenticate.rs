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
        return Ok(Authenticated(Arc::clone(&auth.open)));
    }
    let principal = keys.authenticate(credential(headers)?, Timestamp::now())?;
    record.actor(|actor| {
        actor.key = Some(principal.key.clone());
        actor.team = Some(principal.team.clone());
    });
    Ok(Authenticated(principal))
}

/// The one credential of a request.
fn credential(headers: &HeaderMap) -> Result<&str, Fault> {
    let bearer = headers.get_all(AUTHORIZATION).iter().map(|value| {
        let text = value.to_str().ok()?;
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let plain = KEY_HEADERS
        .iter()
        .flat_map(|name| headers.get_all(name))
        .map(|value| value.to_str().ok().map(str::trim));
    let mut found = None;
    for credential in bearer.chain(plain) {
        match (found, credential.filter(|text| !text.is_empty())) {
            (_, None) => {}
            (None, some) => found = some,
            (Some(known), Some(other)) if known == other => {}
            _ => {
                return Err(Fault::new(
                    FaultKind::ConflictingCredentials,
                    "The request carries two different credentials. Send one.",
                ));
            }
        }
    }
    found.ok_or_else(|| {
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
