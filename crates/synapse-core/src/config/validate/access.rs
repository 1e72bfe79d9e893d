//! Who may call, and who may connect: static keys, and the keys of groups.

use std::{collections::HashMap, sync::Arc};

use secrecy::{ExposeSecret, SecretString};

use super::{Check, Names, Unique, binding::binding, raw};
use crate::{
    config::snapshot::{Auth, AuthMode, StaticKey, StaticWorkerKey},
    glob::Glob,
    id::{GroupName, KeyId},
    key::{SecretHash, is_issued},
    principal::Principal,
};

/// The names of all groups.
pub(super) fn group_names(raw: &[raw::Group], check: &mut Check<'_>) -> Names {
    let mut unique = Unique::default();
    let mut names = Names {
        kind: "group",
        known: vec![GroupName::DEFAULT.to_owned()],
        incomplete: check.places.is_broken("/groups"),
    };
    for (index, group) in raw.iter().enumerate() {
        let at = format!("/groups/{index}/name");
        match &group.name {
            Some(name) => {
                check.name(&at, name);
                unique.claim(name, &at, check);
                names.known.push(name.clone());
            }
            None => names.incomplete = true,
        }
    }
    names
}

/// Reports a reference to a group that the file does not have. One that only the database knows has to be
/// written down, because a mistyped one would cut off whatever is put in it.
pub(super) fn known_group(pointer: &str, name: &str, groups: &Names, check: &mut Check<'_>) {
    if let Some(mut problem) = groups.problem_with(name, pointer, check) {
        problem.hint.get_or_insert_with(|| "add it to `groups`; its keys may all be issued ones".to_owned());
        check.problems.push(problem);
    }
}

/// The names that keys refer to.
pub(super) struct Known<'n> {
    pub(super) groups: &'n Names,
    pub(super) classes: &'n Names,
    pub(super) policies: &'n Names,
}

pub(super) fn check(
    raw: raw::Auth,
    groups: Vec<raw::Group>,
    names: &Known<'_>,
    check: &mut Check<'_>,
) -> Auth {
    let mode = match raw.mode {
        raw::AuthMode::Keys => AuthMode::Keys,
        raw::AuthMode::Open => {
            check.warn("/auth/mode", "anyone who reaches the gateway may use it");
            if !groups.is_empty() {
                check.warn(
                    "/groups",
                    "with auth.mode `open`, all callers are in the group `default` and reach no other",
                );
            }
            AuthMode::Open
        }
    };
    let mut secrets = Secrets::default();
    let static_keys = static_keys(raw.static_keys, names, &mut secrets, check);
    let open = Arc::new(Principal::anonymous(binding(raw.open, "/auth/open", names, check)));
    let mut auth = Auth { mode, static_keys, open, worker_keys: Vec::new() };
    for (index, group) in groups.into_iter().enumerate() {
        add_group(&mut auth, group, &format!("/groups/{index}"), names, &mut secrets, check);
    }
    auth
}

fn static_keys(
    raw: Vec<raw::StaticKey>,
    names: &Known<'_>,
    secrets: &mut Secrets,
    check: &mut Check<'_>,
) -> Vec<StaticKey> {
    let mut ids = Unique::default();
    let mut keys = Vec::with_capacity(raw.len());
    for (index, key) in raw.into_iter().enumerate() {
        let at = format!("/auth/static_keys/{index}");
        if let Some(id) = &key.id {
            check.name(&format!("{at}/id"), id);
            ids.claim(id, &format!("{at}/id"), check);
        }
        if let Some(secret) = &key.secret {
            secrets.claim(&format!("{at}/secret"), &secret.0, check);
        }
        known_group(&format!("{at}/group"), &key.group, names.groups, check);
        let binding = binding(key.binding, &at, names, check);
        if let (Some(id), Some(secret)) = (key.id, key.secret) {
            let models = key.models.into_iter().map(Glob::new).collect();
            let group = key.group.into();
            keys.push(StaticKey { id: id.into(), secret: secret.0, group, models, binding });
        }
    }
    keys
}

/// Adds a group's keys of both kinds.
fn add_group(
    auth: &mut Auth,
    group: raw::Group,
    at: &str,
    names: &Known<'_>,
    secrets: &mut Secrets,
    check: &mut Check<'_>,
) {
    let binding = binding(group.binding, &format!("{at}/binding"), names, check);
    for (kind, keys) in [("ws_auth_keys", &group.ws_auth_keys), ("api_keys", &group.api_keys)] {
        for (index, secret) in keys.iter().enumerate() {
            secrets.claim(&format!("{at}/{kind}/{index}"), &secret.0, check);
        }
    }
    let Some(name) = group.name.map(GroupName::from) else { return };
    let is_named = auth.static_keys.iter().any(|key| key.group == name);
    if group.ws_auth_keys.is_empty() && group.api_keys.is_empty() && !is_named {
        let advice =
            "has no key in this file; `synapse key create` and `synapse worker-key create` issue some";
        check.warn(at, advice);
    }
    auth.worker_keys.extend(group.ws_auth_keys.into_iter().map(|raw::Secret(secret)| StaticWorkerKey {
        id: derived_id(&format!("{name}-ws"), &secret),
        secret,
        group: name.clone(),
    }));
    auth.static_keys.extend(group.api_keys.into_iter().map(|raw::Secret(secret)| StaticKey {
        id: derived_id(name.as_str(), &secret),
        secret,
        group: name.clone(),
        models: vec![Glob::new("*")],
        binding: Arc::clone(&binding),
    }));
}

/// An identifier that stays with its secret wherever that moves to in the file: the beginning of its hash,
/// which is enough to tell keys apart, and far too little to find a random one.
fn derived_id(prefix: &str, secret: &SecretString) -> KeyId {
    let [a, b, c, d, ..] = *SecretHash::of(secret.expose_secret()).as_bytes();
    format!("{prefix}-{:08x}", u32::from_be_bytes([a, b, c, d])).into()
}

/// Secrets that were given, whatever for: what one opens must not depend on where it is looked up.
#[derive(Default)]
struct Secrets {
    lines: HashMap<SecretHash, usize>,
}

impl Secrets {
    /// Reports a secret at `pointer` that no static key can have, or that was given before.
    fn claim(&mut self, pointer: &str, secret: &SecretString, check: &mut Check<'_>) {
        header_safe(pointer, secret, check);
        let secret = secret.expose_secret();
        if is_issued(secret) {
            let problem =
                check.problem(pointer, "has the shape of an issued key, which only the database can hold");
            check.problems.push(
                problem.hint("leave it out if it was issued here; otherwise choose a secret of your own"),
            );
        }
        if let Some(first) = self.lines.insert(SecretHash::of(secret), check.places.of(pointer).line) {
            check.report(pointer, format!("is the same secret as in line {first}"));
        }
    }
}

/// Reports a secret that no HTTP header can carry.
pub(super) fn header_safe(pointer: &str, secret: &SecretString, check: &mut Check<'_>) {
    if !secret.expose_secret().bytes().all(|b| b.is_ascii_graphic()) {
        check.report(pointer, "must be printable ASCII without spaces, or no HTTP header can carry it");
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use crate::{
        config::{Problem, load, snapshot::Snapshot, testing::World},
        key::{ApiKey, WorkerSecret},
    };

    fn loaded(text: &str) -> Snapshot {
        load(text, &World::default().var("EMPTY", "")).unwrap_or_else(|problems| panic!("{problems:#?}"))
    }

    /// The one problem of a text.
    fn problem(text: &str) -> Problem {
        let mut problems = load(text, &World::default()).expect_err("a problem");
        assert_eq!(problems.len(), 1, "{text}: {problems:#?}");
        problems.remove(0)
    }

    /// `id group secret` of each static key, then of each worker's key.
    fn keys(snapshot: &Snapshot) -> [Vec<String>; 2] {
        let auth = &snapshot.auth;
        let callers = auth.static_keys.iter().map(|key| (&key.id, &key.group, &key.secret));
        let workers = auth.worker_keys.iter().map(|key| (&key.id, &key.group, &key.secret));
        let line = |(id, group, secret): (_, _, &secrecy::SecretString)| {
            format!("{id} {group} {}", secret.expose_secret())
        };
        [callers.map(line).collect(), workers.map(line).collect()]
    }

    #[test]
    fn what_names_no_group_is_in_the_default_one() {
        let snapshot =
            loaded("{auth: {static_keys: [{id: ci, secret: s}]}, backends: [{name: b, url: 'http://x'}]}");
        assert_eq!(keys(&snapshot)[0], ["ci default s"]);
        assert_eq!(snapshot.backends[0].groups, ["default".into()]);
    }

    #[test]
    fn a_group_has_keys_for_callers_and_for_workers() {
        let snapshot = loaded(
            "{groups: [{name: lab, ws_auth_keys: [w1, w2], api_keys: [a1]}, {name: default, ws_auth_keys: [w3]}], \
              auth: {static_keys: [{id: ci, secret: s, group: lab}]}, \
              backends: [{name: b, url: 'http://x', groups: [lab, default]}]}",
        );
        let [callers, workers] = keys(&snapshot);
        assert_eq!(callers, ["ci lab s", "lab-f55ff16f lab a1"]);
        assert_eq!(
            workers,
            ["lab-ws-60c5590f lab w1", "lab-ws-06f8faea lab w2", "default-ws-55eae50b default w3"]
        );
        assert!(snapshot.auth.static_keys[1].models[0].matches("any/model"));
        assert_eq!(snapshot.backends[0].groups, ["lab".into(), "default".into()]);
        assert!(snapshot.warnings.is_empty(), "{:?}", snapshot.warnings);
    }

    #[test]
    fn a_key_keeps_its_id_when_others_come_and_go() {
        let ids = |list: &str| {
            let mut lines =
                keys(&loaded(&format!("groups: [{{name: lab, ws_auth_keys: [{list}]}}]")))[1].clone();
            lines.sort();
            lines
        };
        assert_eq!(ids("w1, w2"), ids("w2, w1"));
        assert!(ids("w1, w2").contains(&ids("w2")[0]));
    }

    #[test]
    fn a_group_that_the_file_does_not_have_is_an_error_with_a_hint() {
        let backend = "backends: [{name: b, url: 'http://x', groups: [";
        for (text, place, hint) in [
            (
                format!("{backend}lba]}}]\ngroups: [{{name: lab}}]"),
                "backends[0].groups[0]",
                "did you mean `lab`?",
            ),
            (
                format!("{backend}default, zoo]}}]"),
                "backends[0].groups[1]",
                "add it to `groups`; its keys may all be issued ones",
            ),
            (
                "auth: {static_keys: [{id: a, secret: s, group: defualt}]}".to_owned(),
                "auth.static_keys[0].group",
                "did you mean `default`?",
            ),
        ] {
            let found = problem(&text);
            assert_eq!(found.message, "there is no group of this name");
            assert_eq!((found.place.path.as_str(), found.hint.as_deref()), (place, Some(hint)), "{text}");
        }
    }

    #[test]
    fn groups_that_cannot_be_read_are_not_missed() {
        let backend = "backends: [{name: b, url: 'http://x', groups: [lab]}]\n";
        for groups in [
            "groups: {name: lab}",
            "groups: [{nmae: lab}]",
            "groups: [{name: [lab]}]",
            "group: [{name: lab}]",
        ] {
            problem(&format!("{backend}{groups}"));
        }
    }

    #[test]
    fn a_backend_names_each_of_its_groups_once_and_has_one_at_least() {
        for (groups, message) in [
            ("default, default", "the name is taken, in line 1"),
            ("", "must not be empty"),
            ("'${EMPTY:-}'", "must not be empty"),
        ] {
            let found = problem(&format!("backends: [{{name: b, url: 'http://x', groups: [{groups}]}}]"));
            assert_eq!(
                (found.place.path.starts_with("backends[0].groups"), found.message.as_str()),
                (true, message)
            );
        }
    }

    #[test]
    fn a_group_without_any_key_deserves_a_word() {
        let keyless = loaded("groups: [{name: lab}]").warnings;
        assert_eq!(
            keyless,
            ["line 1: groups[0]: has no key in this file; \
              `synapse key create` and `synapse worker-key create` issue some"]
        );
        let named = loaded("{groups: [{name: lab}], auth: {static_keys: [{id: a, secret: s, group: lab}]}}");
        assert!(named.warnings.is_empty(), "{:?}", named.warnings);
    }

    #[test]
    fn one_secret_opens_one_thing() {
        for text in [
            "groups: [{name: a, api_keys: [x], ws_auth_keys: [x]}]",
            "groups: [{name: a, api_keys: [x]}, {name: b, api_keys: [x]}]",
            "{auth: {static_keys: [{id: i, secret: x}]}, groups: [{name: a, ws_auth_keys: [x]}]}",
        ] {
            assert_eq!(problem(text).message, "is the same secret as in line 1", "{text}");
        }
    }

    #[test]
    fn an_empty_variable_is_no_key() {
        let snapshot = loaded("groups: [{name: a, api_keys: [x], ws_auth_keys: ['${EMPTY:-}', w]}]");
        assert_eq!(keys(&snapshot).map(|keys| keys.len()), [1, 1]);
    }

    #[test]
    fn an_issued_key_cannot_be_one_of_the_file() {
        let caller = ApiKey::generate().expect("randomness");
        let worker = WorkerSecret::generate().expect("randomness");
        for secret in [caller.reveal(), worker.reveal()] {
            for text in [
                format!("auth: {{static_keys: [{{id: a, secret: {secret}}}]}}"),
                format!("groups: [{{name: a, ws_auth_keys: [{secret}]}}]"),
                format!("groups: [{{name: a, api_keys: [{secret}]}}]"),
            ] {
                let found = problem(&text);
                assert!(found.message.contains("shape of an issued key"), "{found:?}");
                assert!(!format!("{found:?}").contains(secret));
            }
        }
    }
}
