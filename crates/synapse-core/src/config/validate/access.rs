//! Who may call: static keys, and the keys of worker groups.

use std::collections::HashMap;

use secrecy::{ExposeSecret, SecretString};

use super::{Check, Unique, raw};
use crate::{
    config::snapshot::{Auth, AuthMode, StaticKey},
    glob::Glob,
    key::{ApiKey, SecretHash},
};

pub(super) fn check(raw: raw::Auth, check: &mut Check<'_>) -> Auth {
    let mode = match raw.mode {
        raw::AuthMode::Keys => AuthMode::Keys,
        raw::AuthMode::Open => {
            check.warn("/auth/mode", "anyone who reaches the gateway may use it");
            AuthMode::Open
        }
    };
    let mut ids = Unique::default();
    let mut secrets = HashMap::new();
    let mut static_keys = Vec::with_capacity(raw.static_keys.len());
    for (index, key) in raw.static_keys.into_iter().enumerate() {
        let at = format!("/auth/static_keys/{index}");
        if let Some(id) = &key.id {
            check.name(&format!("{at}/id"), id);
            ids.claim(id, &format!("{at}/id"), check);
        }
        if let Some(secret) = &key.secret {
            static_secret(&format!("{at}/secret"), &secret.0, &mut secrets, check);
        }
        if let (Some(id), Some(secret)) = (key.id, key.secret) {
            let models = key.models.into_iter().map(Glob::new).collect();
            static_keys.push(StaticKey { id: id.into(), secret: secret.0, models });
        }
    }
    Auth { mode, static_keys }
}

/// Groups do nothing yet; their names are checked so that a file is right on the day they do.
pub(super) fn groups(raw: &[raw::Group], check: &mut Check<'_>) {
    let mut names = Unique::default();
    let mut secrets = HashMap::new();
    for (index, group) in raw.iter().enumerate() {
        let at = format!("/groups/{index}");
        if let Some(name) = &group.name {
            check.name(&format!("{at}/name"), name);
            names.claim(name, &format!("{at}/name"), check);
        }
        for (kind, keys) in [("ws_auth_keys", &group.ws_auth_keys), ("api_keys", &group.api_keys)] {
            for (index, secret) in keys.iter().enumerate() {
                static_secret(&format!("{at}/{kind}/{index}"), &secret.0, &mut secrets, check);
            }
        }
    }
}

fn static_secret(
    pointer: &str,
    secret: &SecretString,
    seen: &mut HashMap<SecretHash, usize>,
    check: &mut Check<'_>,
) {
    header_safe(pointer, secret, check);
    let secret = secret.expose_secret();
    if ApiKey::parse(secret).is_some() {
        check.report(pointer, "has the shape of an issued key, and would be looked for in the database");
    }
    if let Some(first) = seen.insert(SecretHash::of(secret), check.places.of(pointer).line) {
        check.report(pointer, format!("is the same secret as in line {first}"));
    }
}

/// Reports a secret that no HTTP header can carry.
pub(super) fn header_safe(pointer: &str, secret: &SecretString, check: &mut Check<'_>) {
    if !secret.expose_secret().bytes().all(|b| b.is_ascii_graphic()) {
        check.report(pointer, "must be printable ASCII without spaces, or no HTTP header can carry it");
    }
}
