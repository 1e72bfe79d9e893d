//! Who may do what: a key as the request path sees it, and the table of all keys.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use crate::{
    binding::Binding,
    error::{Fault, FaultKind},
    glob::Glob,
    id::{GroupName, KeyId, TeamName},
    key::{ApiKey, SecretHash},
    limits::Limits,
};

/// The team of keys that nobody made a team for.
pub const DEFAULT_TEAM: &str = "default";

/// A key and what it is bound to.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The key's public identifier.
    pub key: KeyId,
    /// The team that the key belongs to.
    pub team: TeamName,
    /// The group whose backends and workers it reaches, and no others.
    pub group: GroupName,
    /// The models it may use.
    pub models: Vec<Glob>,
    /// What else it decides for its callers.
    pub binding: Arc<Binding>,
    /// What all keys of its team may spend together.
    pub team_limits: Arc<Limits>,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// Why it does not work now, apart from expiry.
    pub state: KeyState,
}

/// Whether a key works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It works.
    Active,
    /// It was revoked for good.
    Revoked,
    /// It, or its team, is switched off.
    Disabled,
}

impl Principal {
    /// A key that works without end, for all models, of a team that nobody made.
    pub fn unlimited(key: KeyId, group: GroupName, binding: Arc<Binding>) -> Self {
        Self {
            key,
            team: DEFAULT_TEAM.into(),
            group,
            models: vec![Glob::new("*")],
            binding,
            team_limits: Arc::default(),
            expires_at: None,
            state: KeyState::Active,
        }
    }

    /// Everyone, where nobody is asked for a key.
    pub fn anonymous(binding: Arc<Binding>) -> Self {
        Self::unlimited("anonymous".into(), GroupName::default(), binding)
    }

    /// Whether the key may use `model`.
    pub fn allows_model(&self, model: &str) -> bool {
        self.models.iter().any(|glob| glob.matches(model))
    }

    /// The fault for a key that does not work at `now`, if it does not.
    ///
    /// # Errors
    /// `key_revoked`, `key_disabled` or `key_expired`.
    pub fn check_usable(&self, now: Timestamp) -> Result<(), Fault> {
        let (kind, message) = match self.state {
            KeyState::Revoked => (FaultKind::KeyRevoked, "This API key was revoked. Ask for a new one."),
            KeyState::Disabled => (FaultKind::KeyDisabled, "This API key is disabled."),
            KeyState::Active if self.expires_at.is_some_and(|end| end <= now) => {
                (FaultKind::KeyExpired, "This API key has expired. Ask for a new one.")
            }
            KeyState::Active => return Ok(()),
        };
        Err(Fault::new(kind, message))
    }
}

/// Every key, for look-ups without a database. Immutable: a change makes a new table.
#[derive(Debug, Default)]
pub struct KeyTable {
    issued: HashMap<KeyId, Issued>,
    fixed: HashMap<SecretHash, Arc<Principal>>,
}

#[derive(Debug)]
struct Issued {
    principal: Arc<Principal>,
    /// Live secrets with the end of their overlap; the newest has none.
    secrets: Vec<(SecretHash, Option<Timestamp>)>,
}

impl KeyTable {
    /// Adds an issued key (`syn_…`) with the hashes of its live secrets; while a rotation overlaps,
    /// the old secret has an end.
    pub fn insert_issued(&mut self, principal: Principal, secrets: Vec<(SecretHash, Option<Timestamp>)>) {
        self.issued.insert(principal.key.clone(), Issued { principal: principal.into(), secrets });
    }

    /// Adds a key of the operator's own spelling (`--api-auth-key`, a LiteLLM master key).
    pub fn insert_fixed(&mut self, principal: Principal, secret: SecretHash) {
        self.fixed.insert(secret, principal.into());
    }

    /// Every key.
    pub fn principals(&self) -> impl Iterator<Item = &Arc<Principal>> {
        self.issued.values().map(|issued| &issued.principal).chain(self.fixed.values())
    }

    /// Whether there is any key at all.
    pub fn is_empty(&self) -> bool {
        self.issued.is_empty() && self.fixed.is_empty()
    }

    /// Finds the key that `secret` opens.
    ///
    /// # Errors
    /// `invalid_api_key` for anything unknown; what a known key lacks (time, activity) is said only
    /// to a caller who has the right secret.
    pub fn authenticate(&self, secret: &str, now: Timestamp) -> Result<Arc<Principal>, Fault> {
        let unknown = || Fault::new(FaultKind::InvalidApiKey, "Incorrect API key provided.");
        let hash = SecretHash::of(secret);
        let issued = ApiKey::parse(secret).and_then(|key| self.issued.get(key.id()));
        let principal = match issued {
            Some(entry) => {
                let live = |(known, end): &(SecretHash, Option<Timestamp>)| {
                    known.matches(&hash) && end.is_none_or(|end| now < end)
                };
                if !entry.secrets.iter().any(live) {
                    return Err(unknown());
                }
                &entry.principal
            }
            // An operator's own key may well have the shape of an issued one.
            None => self.fixed.get(&hash).ok_or_else(unknown)?,
        };
        principal.check_usable(now)?;
        Ok(Arc::clone(principal))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn principal(id: &KeyId, state: KeyState) -> Principal {
        Principal {
            key: id.clone(),
            team: "lab".into(),
            group: GroupName::default(),
            models: vec![Glob::new("llama*")],
            binding: Arc::default(),
            team_limits: Arc::default(),
            expires_at: None,
            state,
        }
    }

    fn new_key() -> ApiKey {
        ApiKey::generate().expect("randomness")
    }

    fn table_of(key: &ApiKey, principal: Principal) -> KeyTable {
        let mut table = KeyTable::default();
        table.insert_issued(principal, vec![(key.hash(), None)]);
        table
    }

    fn refusal(table: &KeyTable, secret: &str, now: Timestamp) -> &'static str {
        table.authenticate(secret, now).expect_err("a refusal").kind.code()
    }

    #[test]
    fn the_right_secret_opens_its_key() {
        let key = new_key();
        let table = table_of(&key, principal(key.id(), KeyState::Active));
        let found = table.authenticate(key.reveal(), Timestamp::now()).expect("the key");
        assert_eq!((&found.key, found.team.as_str()), (key.id(), "lab"));
        assert!(found.allows_model("llama3") && !found.allows_model("qwen3"));
    }

    #[test]
    fn an_unknown_key_is_invalid() {
        let key = new_key();
        let table = table_of(&key, principal(key.id(), KeyState::Active));
        for secret in ["", "anything", new_key().reveal(), &key.reveal().to_lowercase()] {
            assert_eq!(refusal(&table, secret, Timestamp::now()), "invalid_api_key", "{secret}");
        }
    }

    #[test]
    fn what_a_key_lacks_is_said_only_to_the_right_secret() {
        let now = Timestamp::now();
        for (state, expires_at, code) in [
            (KeyState::Revoked, None, "key_revoked"),
            (KeyState::Disabled, None, "key_disabled"),
            (KeyState::Active, Some(now), "key_expired"),
            (KeyState::Revoked, Some(now), "key_revoked"),
        ] {
            let key = new_key();
            let table = table_of(&key, Principal { expires_at, ..principal(key.id(), state) });
            let guess = ApiKey::generate_for(key.id()).expect("randomness");
            assert_eq!(refusal(&table, key.reveal(), now), code);
            assert_eq!(refusal(&table, guess.reveal(), now), "invalid_api_key");
        }
    }

    #[test]
    fn a_key_works_until_the_moment_it_expires() {
        let (key, now) = (new_key(), Timestamp::now());
        let principal = Principal { expires_at: Some(now), ..principal(key.id(), KeyState::Active) };
        let table = table_of(&key, principal);
        assert!(table.authenticate(key.reveal(), now - HOUR).is_ok());
        assert_eq!(refusal(&table, key.reveal(), now), "key_expired");
    }

    #[test]
    fn while_a_rotation_overlaps_both_secrets_work_and_then_only_the_new_one() {
        let (old, now) = (new_key(), Timestamp::now());
        let new = ApiKey::generate_for(old.id()).expect("randomness");
        let mut table = KeyTable::default();
        table.insert_issued(
            principal(old.id(), KeyState::Active),
            vec![(new.hash(), None), (old.hash(), Some(now + HOUR))],
        );
        assert!(table.authenticate(old.reveal(), now).is_ok());
        assert!(table.authenticate(new.reveal(), now).is_ok());
        assert_eq!(refusal(&table, old.reveal(), now + HOUR), "invalid_api_key");
        assert!(table.authenticate(new.reveal(), now + HOUR).is_ok());
    }

    #[test]
    fn a_fixed_key_may_be_spelled_in_any_way() {
        let shaped = new_key();
        for secret in ["sk-1234", "pass word", shaped.reveal()] {
            let mut table = KeyTable::default();
            assert!(table.is_empty());
            table.insert_fixed(principal(&"static-1".into(), KeyState::Active), SecretHash::of(secret));
            assert!(!table.is_empty());
            let found = table.authenticate(secret, Timestamp::now()).expect("the key");
            assert_eq!(found.key.as_str(), "static-1");
            assert_eq!(refusal(&table, &format!("{secret} "), Timestamp::now()), "invalid_api_key");
        }
    }
}
