//! What every store promises of what keys and teams are bound to.

use std::sync::Arc;

use jiff::Timestamp;
use synapse_core::{
    binding::{Binding, BindingChange, LimitsChange, ParameterCaps, SystemPrompt, Unscannable},
    config::snapshot::IpNet,
    id::KeyId,
    limits::{Limits, RequestLimit},
    operation::Operation,
    store::{
        StoreError,
        keys::{KeyChange, KeyStore, NewKey},
        teams::{TeamChange, TeamStore},
    },
};

use super::{Database, binding, lab_key, new_key};

/// A change of each field by itself: what sets it, what it is then, and what clears it.
fn changes() -> Vec<(BindingChange, Binding, BindingChange)> {
    let none = Binding::default;
    let is = BindingChange::default;
    let caps = |parameters| Binding { parameters, ..Binding::default() };
    let requests = RequestLimit { count: 100, window_s: 60 };
    let network = IpNet::parse("10.0.0.0/8").expect("a network");
    vec![
        (
            BindingChange { operations: Some(Some(vec![Operation::Chat])), ..is() },
            Binding { operations: Some(vec![Operation::Chat]), ..none() },
            BindingChange { operations: Some(None), ..is() },
        ),
        (
            BindingChange { data_class: Some(Some("secret".into())), ..is() },
            Binding { data_class: Some("secret".into()), ..none() },
            BindingChange { data_class: Some(None), ..is() },
        ),
        (
            BindingChange { dlp_policy: Some(Some("strict".into())), ..is() },
            Binding { dlp_policy: Some("strict".into()), ..none() },
            BindingChange { dlp_policy: Some(None), ..is() },
        ),
        (
            BindingChange { unscannable: Some(Some(Unscannable::Block)), ..is() },
            Binding { unscannable: Unscannable::Block, ..none() },
            BindingChange { unscannable: Some(None), ..is() },
        ),
        (
            BindingChange { networks: Some(Some(vec![network])), ..is() },
            Binding { networks: vec![network], ..none() },
            BindingChange { networks: Some(None), ..is() },
        ),
        (
            BindingChange { max_tokens: Some(Some(64)), ..is() },
            caps(ParameterCaps { max_tokens: Some(64), ..ParameterCaps::default() }),
            BindingChange { max_tokens: Some(None), ..is() },
        ),
        (
            BindingChange { temperature: Some(Some((None, Some(0.5)))), ..is() },
            caps(ParameterCaps { max_temperature: Some(0.5), ..ParameterCaps::default() }),
            BindingChange { temperature: Some(None), ..is() },
        ),
        (
            BindingChange { tools: Some(Some(false)), ..is() },
            caps(ParameterCaps { tools: Some(false), ..ParameterCaps::default() }),
            BindingChange { tools: Some(None), ..is() },
        ),
        (
            BindingChange {
                limits: LimitsChange { requests: Some(Some(requests)), ..Default::default() },
                ..is()
            },
            Binding { limits: Limits { requests: Some(requests), ..Default::default() }, ..none() },
            BindingChange { limits: LimitsChange { requests: Some(None), ..Default::default() }, ..is() },
        ),
    ]
}

async fn update(
    store: &impl KeyStore,
    id: &KeyId,
    binding: BindingChange,
) -> Result<Arc<Binding>, StoreError> {
    let change = KeyChange { binding, ..KeyChange::default() };
    let updated = store.update_key(id, &change).await?;
    assert_eq!(store.get_key(id).await?, updated, "what is stored is what was told");
    Ok(updated.binding)
}

async fn set_prompt(store: &impl KeyStore, id: &KeyId, text: Option<&str>) -> Option<Arc<SystemPrompt>> {
    let change = BindingChange { system_prompt: Some(text.map(str::to_owned)), ..Default::default() };
    update(store, id, change).await.expect("the key").system_prompt.clone()
}

pub(crate) async fn every_field_of_a_binding_can_be_set_changed_and_cleared_by_itself(db: impl Database) {
    let store = db.open().await;
    let key = lab_key(&store).await;
    let id = key.id();
    assert_eq!(*store.get_key(id).await.expect("the key").binding, Binding::default());
    for (set, expected, clear) in changes() {
        assert_eq!(*update(&store, id, set.clone()).await.expect("the key"), expected);
        assert_eq!(*update(&store, id, BindingChange::default()).await.expect("the key"), expected);
        assert_eq!(*update(&store, id, clear).await.expect("the key"), Binding::default());
    }
    // All of them together, one after the other.
    for (set, ..) in changes() {
        update(&store, id, set).await.expect("the key");
    }
    let all = store.get_key(id).await.expect("the key").binding;
    assert_eq!(all.parameters.max_tokens, Some(64));
    assert!(all.operations.is_some() && all.data_class.is_some() && all.limits.requests.is_some());
}

pub(crate) async fn a_binding_that_breaks_the_rules_is_refused_and_nothing_changes(db: impl Database) {
    let store = db.open().await;
    let key = lab_key(&store).await;
    let before = store.get_key(key.id()).await.expect("the key");
    let bad = BindingChange { operations: Some(Some(Vec::new())), ..Default::default() };
    let refusal = update(&store, key.id(), bad).await.expect_err("a refusal");
    assert!(matches!(&refusal, StoreError::Invalid(rule) if rule.starts_with("operations ")), "{refusal:?}");
    assert_eq!(store.get_key(key.id()).await.expect("the key"), before);
    let new = NewKey {
        binding: Binding { data_class: Some("not a name".into()), ..Binding::default() },
        ..binding("lab")
    };
    let refusal = store.create_key(&new_key(), &new).await.expect_err("a refusal");
    assert!(matches!(refusal, StoreError::Invalid(_)), "{refusal:?}");
}

pub(crate) async fn every_version_of_a_prompt_can_be_read_up(db: impl Database) {
    let store = db.open().await;
    store.create_team(&"lab".into(), &Limits::default()).await.expect("a team");
    let key = new_key();
    let prompt = Some(Arc::new(SystemPrompt::new(9, "one")));
    let new = NewKey { binding: Binding { system_prompt: prompt, ..Binding::default() }, ..binding("lab") };
    let made = store.create_key(&key, &new).await.expect("a key");
    assert_eq!(made.binding.system_prompt.as_ref().map(|prompt| prompt.version), Some(1));
    let version = |prompt: Option<Arc<SystemPrompt>>| prompt.map(|prompt| prompt.version);
    assert_eq!(version(set_prompt(&store, key.id(), Some("two")).await), Some(2));
    assert_eq!(version(set_prompt(&store, key.id(), Some("two")).await), Some(2));
    assert_eq!(version(set_prompt(&store, key.id(), None).await), None);
    assert_eq!(version(set_prompt(&store, key.id(), Some("three")).await), Some(3));
    let kept = store.list_prompts(key.id()).await.expect("prompts");
    let kept: Vec<_> = kept.iter().map(|kept| (kept.prompt.version, kept.prompt.text.as_str())).collect();
    assert_eq!(kept, [(3, "three"), (2, "two"), (1, "one")]);
    let stranger = store.list_prompts(&"nothing".into()).await.expect_err("a refusal");
    assert!(matches!(stranger, StoreError::NotFound { .. }));
}

pub(crate) async fn the_request_path_sees_what_a_key_and_its_team_are_bound_to(db: impl Database) {
    let store = db.open().await;
    let key = lab_key(&store).await;
    for (set, ..) in changes() {
        update(&store, key.id(), set).await.expect("the key");
    }
    let limits = LimitsChange { concurrent: Some(Some(4)), ..LimitsChange::default() };
    let change = TeamChange { limits, ..TeamChange::default() };
    let team = store.update_team(&"lab".into(), &change).await.expect("the team");
    let table = store.load_key_table().await.expect("a table");
    let principal = table.authenticate(key.reveal(), Timestamp::now()).expect("the key");
    assert_eq!(principal.binding, store.get_key(key.id()).await.expect("the key").binding);
    assert_eq!((&*principal.team_limits, team.limits.concurrent), (&team.limits, Some(4)));
}

pub(crate) async fn a_teams_limits_can_be_set_changed_and_cleared(db: impl Database) {
    let store = db.open().await;
    let limits = Limits { concurrent: Some(2), tokens_per_day: Some(1000), ..Limits::default() };
    let made = store.create_team(&"lab".into(), &limits).await.expect("a team");
    assert_eq!(made.limits, limits);
    let change = |limits| TeamChange { limits, ..TeamChange::default() };
    let cleared = LimitsChange { concurrent: Some(None), ..LimitsChange::default() };
    let after = store.update_team(&"lab".into(), &change(cleared)).await.expect("the team");
    assert_eq!(after.limits, Limits { concurrent: None, ..limits });
    assert_eq!(store.get_team(&"lab".into()).await.expect("the team"), after);
    let zero = LimitsChange { tokens_per_day: Some(Some(0)), ..LimitsChange::default() };
    let refusal = store.update_team(&"lab".into(), &change(zero)).await.expect_err("a refusal");
    assert!(matches!(refusal, StoreError::Invalid(_)), "{refusal:?}");
    let ghost = store.update_team(&"zoo".into(), &TeamChange::default()).await.expect_err("a refusal");
    assert!(matches!(ghost, StoreError::NotFound { .. }), "{ghost:?}");
}
