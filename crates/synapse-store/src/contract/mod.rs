//! What every implementation of the stores promises, as one suite of tests that runs against each of them.

mod admin_tokens;
mod alerts;
mod audit;
mod bindings;
mod changes;
mod incidents;
mod retention;
mod worker_keys;

use std::{collections::HashSet, time::Duration};

use jiff::Timestamp;
use synapse_core::{
    binding::Binding,
    glob::Glob,
    id::{GroupName, KeyId, TeamName},
    key::ApiKey,
    limits::Limits,
    principal::KeyTable,
    store::{
        StoreError,
        admin_tokens::AdminTokenStore,
        alerts::AlertStore,
        audit::AuditStore,
        incidents::IncidentStore,
        keys::{KeyChange, KeyInfo, KeyStore, NewKey},
        retention::RetentionStore,
        teams::{TeamChange, TeamStore},
        worker_keys::WorkerKeyStore,
    },
};

pub(crate) use admin_tokens::*;
pub(crate) use alerts::*;
pub(crate) use audit::*;
pub(crate) use bindings::*;
pub(crate) use changes::*;
pub(crate) use incidents::*;
pub(crate) use retention::*;
pub(crate) use worker_keys::*;

/// An empty database that can be opened more than once, as a gateway and a command line do.
pub(crate) trait Database: Sized {
    type Store: TeamStore
        + KeyStore
        + WorkerKeyStore
        + AdminTokenStore
        + IncidentStore
        + AlertStore
        + AuditStore
        + RetentionStore;
    async fn create() -> Self;
    async fn open(&self) -> Self::Store;
}

/// Runs the suite against a [`Database`].
macro_rules! store_contract {
    ($database:ty) => {
        $crate::contract::store_contract!(
            $database:
            a_new_team_is_found_by_name_and_in_the_list,
            a_taken_team_name_is_refused,
            a_team_is_switched_off_and_on_again,
            what_does_not_exist_is_not_found,
            a_name_that_breaks_the_rules_is_refused,
            any_text_is_stored_as_it_is,
            a_new_key_reads_back_as_it_was_made,
            a_key_needs_a_team_and_a_model,
            keys_are_listed_newest_first_and_by_team,
            a_change_touches_only_what_it_names,
            a_cleared_field_is_empty_again,
            a_stored_key_opens_with_its_secret_alone,
            a_disabled_team_disables_its_keys_and_no_others,
            a_rotation_overlaps_and_then_ends_the_old_secret,
            a_rotation_without_overlap_leaves_one_secret,
            a_revoked_key_stays_revoked,
            every_change_moves_the_mark_of_everyone,
            reading_leaves_the_mark_alone,
            a_change_is_seen_by_others_at_once,
            writers_on_two_connections_lose_nothing,
            what_was_stored_is_there_after_reopening,
            every_field_of_a_binding_can_be_set_changed_and_cleared_by_itself,
            a_binding_that_breaks_the_rules_is_refused_and_nothing_changes,
            every_version_of_a_prompt_can_be_read_up,
            the_request_path_sees_what_a_key_and_its_team_are_bound_to,
            a_teams_limits_can_be_set_changed_and_cleared,
            a_good_admin_token_is_in_the_table_until_it_is_revoked,
            a_wrong_admin_token_is_refused,
            a_new_worker_key_reads_back_as_it_was_made,
            a_worker_key_that_does_not_exist_is_not_found,
            a_worker_key_that_breaks_the_rules_is_refused,
            worker_keys_are_listed_newest_first_and_by_group,
            a_good_worker_key_is_in_the_table_with_its_record,
            a_revoked_worker_key_leaves_the_table_and_stays_in_the_list,
            every_change_of_worker_keys_moves_the_mark_of_everyone,
            an_incident_reads_back_as_it_was_kept,
            an_incident_kept_twice_is_one,
            incidents_are_listed_newest_first_page_by_page,
            incidents_are_found_by_what_they_are_about,
            old_incidents_are_forgotten,
            an_incident_leaves_the_mark_of_keys_alone,
            an_entry_reads_back_as_it_was_appended,
            a_place_is_taken_by_the_first_that_claims_it,
            many_that_append_the_same_leave_it_there_once,
            a_chain_is_read_in_order_across_months_and_clocks_that_go_back,
            the_heads_are_the_last_entries_of_every_chain,
            entries_are_listed_newest_first_page_by_page,
            entries_are_found_by_what_they_are_about,
            a_checkpoint_is_kept_once_and_listed_in_order,
            the_audit_log_leaves_the_mark_of_keys_alone,
            months_are_put_away_and_the_rest_stays,
            anchors_are_listed_with_the_furthest_of_each_chain_first,
            a_hold_is_in_force_until_it_is_released,
            an_alert_reads_back_as_it_was_kept,
            an_alert_kept_twice_is_one_and_owed_once,
            alerts_are_listed_newest_first_page_by_page,
            alerts_are_found_by_what_they_are_about,
            the_first_acknowledgement_of_an_alert_counts,
            what_is_muted_is_kept_and_not_told,
            due_deliveries_are_claimed_once_and_the_worst_first,
            an_attempt_decides_what_becomes_of_a_delivery,
            what_nobody_delivers_is_given_up_in_the_end,
            old_alerts_are_forgotten_with_their_deliveries,
            what_a_detector_learnt_is_kept_for_its_instance,
            an_alert_leaves_the_mark_of_keys_alone,
        );
    };
    ($database:ty: $($promise:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                $crate::contract::$promise(<$database as $crate::contract::Database>::create().await).await;
            }
        )*
    };
}
pub(crate) use store_contract;

const HOUR: Duration = Duration::from_secs(3600);

fn new_key() -> ApiKey {
    ApiKey::generate().expect("randomness")
}

fn binding(team: &str) -> NewKey {
    NewKey {
        team: team.into(),
        group: GroupName::default(),
        name: None,
        models: vec![Glob::new("*")],
        expires_at: None,
        binding: Binding::default(),
    }
}

fn switched(disabled: bool) -> TeamChange {
    TeamChange { disabled: Some(disabled), ..TeamChange::default() }
}

/// A team `lab` and a key of it.
async fn lab_key(store: &(impl TeamStore + KeyStore)) -> ApiKey {
    store.create_team(&"lab".into(), &Limits::default()).await.expect("a team");
    let key = new_key();
    store.create_key(&key, &binding("lab")).await.expect("a key");
    key
}

fn outcome(table: &KeyTable, key: &ApiKey, at: Timestamp) -> &'static str {
    table.authenticate(key.reveal(), at).map_or_else(|fault| fault.kind.code(), |_| "ok")
}

pub(crate) async fn a_new_team_is_found_by_name_and_in_the_list(db: impl Database) {
    let store = db.open().await;
    assert!(store.list_teams().await.expect("teams").is_empty());
    let before = Timestamp::now() - Duration::from_millis(1);
    let zoo = store.create_team(&"zoo".into(), &Limits::default()).await.expect("a team");
    let lab = store.create_team(&"lab".into(), &Limits::default()).await.expect("a team");
    assert!(lab.created_at > before && lab.created_at <= Timestamp::now() && !lab.disabled);
    assert_eq!(store.get_team(&lab.name).await.expect("the team"), lab);
    assert_eq!(store.list_teams().await.expect("teams"), [lab, zoo]);
}

pub(crate) async fn a_taken_team_name_is_refused(db: impl Database) {
    let store = db.open().await;
    let first = store.create_team(&"lab".into(), &Limits::default()).await.expect("a team");
    let refusal = store.create_team(&"lab".into(), &Limits::default()).await.expect_err("a refusal");
    assert_eq!(refusal.to_string(), "there is already a team named lab");
    assert_eq!(store.list_teams().await.expect("teams"), [first]);
}

pub(crate) async fn a_team_is_switched_off_and_on_again(db: impl Database) {
    let store = db.open().await;
    let lab = store.create_team(&"lab".into(), &Limits::default()).await.expect("a team");
    for disabled in [true, true, false] {
        let changed = store.update_team(&lab.name, &switched(disabled)).await.expect("the team");
        assert_eq!(changed.disabled, disabled);
        assert_eq!(store.get_team(&lab.name).await.expect("the team"), changed);
    }
}

pub(crate) async fn what_does_not_exist_is_not_found(db: impl Database) {
    let store = db.open().await;
    let (team, id, key) = (TeamName::from("nobody"), KeyId::from("nothing"), new_key());
    let refusals = [
        store.get_team(&team).await.expect_err("a refusal"),
        store.update_team(&team, &switched(true)).await.expect_err("a refusal"),
        store.get_key(&id).await.expect_err("a refusal"),
        store.update_key(&id, &KeyChange::default()).await.expect_err("a refusal"),
        store.revoke_key(&id).await.expect_err("a refusal"),
        store.rotate_key(&key, HOUR).await.expect_err("a refusal"),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, StoreError::NotFound { .. }), "{refusal:?}");
    }
    assert!(store.list_keys(Some(&team)).await.expect("keys").is_empty());
}

pub(crate) async fn a_name_that_breaks_the_rules_is_refused(db: impl Database) {
    let store = db.open().await;
    let key = lab_key(&store).await;
    let refusal = store
        .create_key(&new_key(), &NewKey { group: "lä".into(), ..binding("lab") })
        .await
        .expect_err("a refusal");
    assert!(refusal.to_string().starts_with("the name of a group has"), "{refusal}");
    for bad in ["", " lab", "a\nb", "a\0b"] {
        let change = KeyChange { name: Some(Some(bad.into())), ..KeyChange::default() };
        let refusals = [
            store.create_team(&bad.into(), &Limits::default()).await.expect_err("a refusal"),
            store.update_key(key.id(), &change).await.expect_err("a refusal"),
            store
                .create_key(&new_key(), &NewKey { name: Some(bad.into()), ..binding("lab") })
                .await
                .expect_err("a refusal"),
        ];
        for refusal in refusals {
            assert!(matches!(refusal, StoreError::Invalid(_)), "{bad:?}: {refusal:?}");
        }
    }
}

pub(crate) async fn any_text_is_stored_as_it_is(db: impl Database) {
    let store = db.open().await;
    let texts = ["'; DROP TABLE keys; --", "\" OR 1=1 --", "研究室 🧪", "ß\u{301}", "%_*?$1", "NULL", "\\"];
    for text in texts {
        let team = store.create_team(&text.into(), &Limits::default()).await.expect("a team");
        let new = NewKey { name: Some(text.into()), models: vec![Glob::new(text)], ..binding(text) };
        let made = store.create_key(&new_key(), &new).await.expect("a key");
        assert_eq!(store.get_team(&text.into()).await.expect("the team"), team);
        assert_eq!((made.name.as_deref(), made.models[0].as_str()), (Some(text), text));
        assert_eq!(store.list_keys(Some(&team.name)).await.expect("keys"), [made]);
        assert!(matches!(store.get_key(&text.into()).await, Err(StoreError::NotFound { .. })), "{text}");
        assert!(matches!(store.revoke_key(&text.into()).await, Err(StoreError::NotFound { .. })), "{text}");
    }
    assert_eq!(store.list_keys(None).await.expect("keys").len(), texts.len());
    assert!(matches!(store.get_team(&"LAB' OR 'a'='a".into()).await, Err(StoreError::NotFound { .. })));
}

pub(crate) async fn a_new_key_reads_back_as_it_was_made(db: impl Database) {
    let store = db.open().await;
    store.create_team(&"lab".into(), &Limits::default()).await.expect("a team");
    let key = new_key();
    let expires_at = Timestamp::from_microsecond(1_900_000_000_123_456).expect("a time");
    let new = NewKey {
        team: "lab".into(),
        group: "gpu owners".into(),
        name: Some("nightly batch".into()),
        models: vec![Glob::new("llama*"), Glob::new("org/qwen-*")],
        expires_at: Some(expires_at),
        binding: Binding { data_class: Some("secret".into()), ..Binding::default() },
    };
    let made = store.create_key(&key, &new).await.expect("a key");
    let expected = KeyInfo {
        id: key.id().clone(),
        team: new.team,
        group: new.group,
        name: new.name,
        models: new.models,
        created_at: made.created_at,
        expires_at: Some(expires_at),
        revoked_at: None,
        disabled: false,
        previous_secret_until: None,
        binding: new.binding.into(),
    };
    assert_eq!(made, expected);
    assert_eq!(store.get_key(key.id()).await.expect("the key"), expected);
    let table = store.load_key_table().await.expect("a table");
    let principal = table.authenticate(key.reveal(), made.created_at).expect("the key");
    assert_eq!(principal.group, expected.group);
}

pub(crate) async fn a_key_needs_a_team_and_a_model(db: impl Database) {
    let store = db.open().await;
    let key = lab_key(&store).await;
    let refusal = store.create_key(&new_key(), &binding("nobody")).await.expect_err("a refusal");
    assert_eq!(refusal.to_string(), "no such team: nobody");
    for models in [vec![], vec![Glob::new("")]] {
        let new = NewKey { models: models.clone(), ..binding("lab") };
        let refusal = store.create_key(&new_key(), &new).await.expect_err("a refusal");
        assert!(matches!(refusal, StoreError::Invalid(_)), "{refusal:?}");
        let change = KeyChange { models: Some(models), ..KeyChange::default() };
        let refusal = store.update_key(key.id(), &change).await.expect_err("a refusal");
        assert!(matches!(refusal, StoreError::Invalid(_)), "{refusal:?}");
    }
    let refusal = store.create_key(&key, &binding("lab")).await.expect_err("a refusal");
    assert!(matches!(refusal, StoreError::AlreadyExists { .. }), "{refusal:?}");
    assert_eq!(store.list_keys(None).await.expect("keys").len(), 1);
}

pub(crate) async fn keys_are_listed_newest_first_and_by_team(db: impl Database) {
    let store = db.open().await;
    let mut made = Vec::new();
    for team in ["lab", "zoo"] {
        store.create_team(&team.into(), &Limits::default()).await.expect("a team");
        for _ in 0..3 {
            made.insert(0, store.create_key(&new_key(), &binding(team)).await.expect("a key"));
        }
    }
    store.revoke_key(&made[5].id).await.expect("the key");
    made[5] = store.get_key(&made[5].id).await.expect("the key");
    assert_eq!(store.list_keys(None).await.expect("keys"), made);
    assert_eq!(store.list_keys(Some(&"lab".into())).await.expect("keys"), made[3..]);
}

pub(crate) async fn a_change_touches_only_what_it_names(db: impl Database) {
    let store = db.open().await;
    let key = lab_key(&store).await;
    let before = store.get_key(key.id()).await.expect("the key");
    assert_eq!(store.update_key(key.id(), &KeyChange::default()).await.expect("the key"), before);
    let change = KeyChange { disabled: Some(true), ..KeyChange::default() };
    let changed = store.update_key(key.id(), &change).await.expect("the key");
    assert_eq!(changed, KeyInfo { disabled: true, ..before });
    let change = KeyChange { models: Some(vec![Glob::new("qwen*")]), ..KeyChange::default() };
    let again = store.update_key(key.id(), &change).await.expect("the key");
    assert_eq!(again, KeyInfo { models: vec![Glob::new("qwen*")], ..changed });
}

pub(crate) async fn a_cleared_field_is_empty_again(db: impl Database) {
    let store = db.open().await;
    let key = lab_key(&store).await;
    let before = store.get_key(key.id()).await.expect("the key");
    let set = KeyChange {
        name: Some(Some("batch".into())),
        expires_at: Some(Some(before.created_at + HOUR)),
        ..KeyChange::default()
    };
    let changed = store.update_key(key.id(), &set).await.expect("the key");
    assert_eq!(
        (changed.name.as_deref(), changed.expires_at),
        (Some("batch"), Some(before.created_at + HOUR))
    );
    let clear = KeyChange { name: Some(None), expires_at: Some(None), ..KeyChange::default() };
    assert_eq!(store.update_key(key.id(), &clear).await.expect("the key"), before);
}

pub(crate) async fn a_stored_key_opens_with_its_secret_alone(db: impl Database) {
    let store = db.open().await;
    assert!(store.load_key_table().await.expect("a table").is_empty());
    let key = lab_key(&store).await;
    let guess = ApiKey::generate_for(key.id()).expect("randomness");
    let table = store.load_key_table().await.expect("a table");
    let now = Timestamp::now();
    assert_eq!(outcome(&table, &key, now), "ok");
    assert_eq!(outcome(&table, &guess, now), "invalid_api_key");
    let expiry = KeyChange { expires_at: Some(Some(now + HOUR)), ..KeyChange::default() };
    store.update_key(key.id(), &expiry).await.expect("the key");
    let table = store.load_key_table().await.expect("a table");
    assert_eq!(outcome(&table, &key, now), "ok");
    assert_eq!(outcome(&table, &key, now + HOUR), "key_expired");
}

pub(crate) async fn a_disabled_team_disables_its_keys_and_no_others(db: impl Database) {
    let store = db.open().await;
    let lab = lab_key(&store).await;
    store.create_team(&"zoo".into(), &Limits::default()).await.expect("a team");
    let zoo = new_key();
    store.create_key(&zoo, &binding("zoo")).await.expect("a key");
    for (disabled, expected) in [(true, "key_disabled"), (false, "ok")] {
        store.update_team(&"lab".into(), &switched(disabled)).await.expect("the team");
        let table = store.load_key_table().await.expect("a table");
        assert_eq!(outcome(&table, &lab, Timestamp::now()), expected);
        assert_eq!(outcome(&table, &zoo, Timestamp::now()), "ok");
    }
}

pub(crate) async fn a_rotation_overlaps_and_then_ends_the_old_secret(db: impl Database) {
    let store = db.open().await;
    let old = lab_key(&store).await;
    let new = ApiKey::generate_for(old.id()).expect("randomness");
    let info = store.rotate_key(&new, HOUR).await.expect("the key");
    let until = info.previous_secret_until.expect("an overlap");
    assert_eq!(store.get_key(old.id()).await.expect("the key"), info);
    let table = store.load_key_table().await.expect("a table");
    for (key, at, expected) in [
        (&old, until - Duration::from_micros(1), "ok"),
        (&old, until, "invalid_api_key"),
        (&new, until - HOUR, "ok"),
        (&new, until, "ok"),
    ] {
        assert_eq!(outcome(&table, key, at), expected, "at {at}");
    }
}

pub(crate) async fn a_rotation_without_overlap_leaves_one_secret(db: impl Database) {
    let store = db.open().await;
    let first = lab_key(&store).await;
    let second = ApiKey::generate_for(first.id()).expect("randomness");
    let third = ApiKey::generate_for(first.id()).expect("randomness");
    store.rotate_key(&second, HOUR).await.expect("the key");
    let info = store.rotate_key(&third, Duration::ZERO).await.expect("the key");
    assert_eq!(info.previous_secret_until, None);
    let table = store.load_key_table().await.expect("a table");
    let outcomes = [&first, &second, &third].map(|key| outcome(&table, key, Timestamp::now()));
    assert_eq!(outcomes, ["invalid_api_key", "invalid_api_key", "ok"]);
    let endless = store.rotate_key(&first, Duration::MAX).await.expect_err("a refusal");
    assert!(matches!(endless, StoreError::Invalid(_)), "{endless:?}");
}

pub(crate) async fn a_revoked_key_stays_revoked(db: impl Database) {
    let store = db.open().await;
    let key = lab_key(&store).await;
    let revoked = store.revoke_key(key.id()).await.expect("the key");
    assert!(revoked.revoked_at.is_some());
    assert_eq!(store.revoke_key(key.id()).await.expect("the key"), revoked, "the first time counts");
    let renewed = ApiKey::generate_for(key.id()).expect("randomness");
    let enable = KeyChange { disabled: Some(false), ..KeyChange::default() };
    for refusal in [
        store.rotate_key(&renewed, HOUR).await.expect_err("a refusal"),
        store.update_key(key.id(), &enable).await.expect_err("a refusal"),
    ] {
        assert!(matches!(refusal, StoreError::Conflict(_)), "{refusal:?}");
    }
    let table = store.load_key_table().await.expect("a table");
    assert_eq!(outcome(&table, &key, Timestamp::now()), "key_revoked");
    assert_eq!(outcome(&table, &renewed, Timestamp::now()), "invalid_api_key");
}
