//! What every store promises of workers' keys.

use std::time::Duration;

use jiff::Timestamp;
use synapse_core::{
    id::KeyId,
    key::WorkerSecret,
    store::{
        StoreError,
        keys::KeyStore,
        worker_keys::{NewWorkerKey, WorkerKeyInfo, WorkerKeyStore},
    },
    worker::WorkerKey,
};

use super::Database;

fn new_secret() -> WorkerSecret {
    WorkerSecret::generate().expect("randomness")
}

fn of_group(group: &str) -> NewWorkerKey {
    NewWorkerKey { group: group.into(), ..NewWorkerKey::default() }
}

pub(crate) async fn a_new_worker_key_reads_back_as_it_was_made(db: impl Database) {
    let store = db.open().await;
    let secret = new_secret();
    let new =
        NewWorkerKey {
            group: "lab".into(), description: Some("研究室's GPUs".into()), allows_cloud: true
        };
    let before = Timestamp::now() - Duration::from_millis(1);
    let made = store.create_worker_key(&secret, &new).await.expect("a key");
    assert!(made.created_at > before && made.created_at <= Timestamp::now());
    let expected = WorkerKeyInfo {
        id: secret.id().clone(),
        group: new.group.clone(),
        description: new.description.clone(),
        allows_cloud: true,
        created_at: made.created_at,
        revoked_at: None,
    };
    assert_eq!(made, expected);
    assert_eq!(store.get_worker_key(secret.id()).await.expect("the key"), expected);
    let refusal = store.create_worker_key(&secret, &new).await.expect_err("a refusal");
    assert!(matches!(refusal, StoreError::AlreadyExists { .. }), "{refusal:?}");
}

pub(crate) async fn a_worker_key_that_does_not_exist_is_not_found(db: impl Database) {
    let store = db.open().await;
    store.create_worker_key(&new_secret(), &of_group("lab")).await.expect("a key");
    let id = KeyId::from("' OR 'a'='a");
    for refusal in [
        store.get_worker_key(&id).await.expect_err("a refusal"),
        store.revoke_worker_key(&id).await.expect_err("a refusal"),
    ] {
        assert_eq!(refusal.to_string(), "no such worker key: ' OR 'a'='a");
    }
    assert!(store.list_worker_keys(Some(&"zoo".into())).await.expect("keys").is_empty());
}

pub(crate) async fn a_worker_key_that_breaks_the_rules_is_refused(db: impl Database) {
    let store = db.open().await;
    for bad in [
        of_group(""),
        of_group(" lab"),
        of_group("研究室"),
        NewWorkerKey { description: Some(String::new()), ..NewWorkerKey::default() },
        NewWorkerKey { description: Some("a\nb".into()), ..NewWorkerKey::default() },
    ] {
        let refusal = store.create_worker_key(&new_secret(), &bad).await.expect_err("a refusal");
        assert!(matches!(refusal, StoreError::Invalid(_)), "{bad:?}: {refusal:?}");
    }
    assert!(store.list_worker_keys(None).await.expect("keys").is_empty());
}

pub(crate) async fn worker_keys_are_listed_newest_first_and_by_group(db: impl Database) {
    let store = db.open().await;
    let mut made = Vec::new();
    for group in ["lab", "lab", "zoo"] {
        made.insert(0, store.create_worker_key(&new_secret(), &of_group(group)).await.expect("a key"));
    }
    assert_eq!(store.list_worker_keys(None).await.expect("keys"), made);
    assert_eq!(store.list_worker_keys(Some(&"lab".into())).await.expect("keys"), made[1..]);
}

pub(crate) async fn a_good_worker_key_is_in_the_table_with_its_record(db: impl Database) {
    let store = db.open().await;
    assert!(store.load_worker_key_table().await.expect("a table").is_empty());
    let secret = new_secret();
    let new = NewWorkerKey { allows_cloud: true, ..of_group("lab") };
    store.create_worker_key(&secret, &new).await.expect("a key");
    let table = store.load_worker_key_table().await.expect("a table");
    let key = WorkerKey { id: secret.id().clone(), group: "lab".into(), allows_cloud: true };
    assert_eq!(table.find(&secret.hash()).map(|found| (**found).clone()), Some(key));
    let guess = WorkerSecret::generate_for(secret.id()).expect("randomness");
    assert!(table.find(&guess.hash()).is_none());
}

pub(crate) async fn a_revoked_worker_key_leaves_the_table_and_stays_in_the_list(db: impl Database) {
    let (gateway, command_line) = (db.open().await, db.open().await);
    let (revoked, good) = (new_secret(), new_secret());
    for secret in [&revoked, &good] {
        command_line.create_worker_key(secret, &of_group("lab")).await.expect("a key");
    }
    let info = command_line.revoke_worker_key(revoked.id()).await.expect("the key");
    assert!(info.revoked_at.is_some());
    assert_eq!(
        command_line.revoke_worker_key(revoked.id()).await.expect("the key"),
        info,
        "the first time counts"
    );
    let table = gateway.load_worker_key_table().await.expect("a table");
    assert!(table.find(&revoked.hash()).is_none() && table.find(&good.hash()).is_some());
    assert!(gateway.list_worker_keys(None).await.expect("keys").contains(&info));
}

pub(crate) async fn every_change_of_worker_keys_moves_the_mark_of_everyone(db: impl Database) {
    let (writer, other) = (db.open().await, db.open().await);
    let secret = new_secret();
    let mut before =
        (writer.change_mark().await.expect("a mark"), other.change_mark().await.expect("a mark"));
    for revoke in [false, true] {
        if revoke {
            writer.revoke_worker_key(secret.id()).await.expect("the key");
        } else {
            writer.create_worker_key(&secret, &of_group("lab")).await.expect("a key");
        }
        let after = (writer.change_mark().await.expect("a mark"), other.change_mark().await.expect("a mark"));
        assert!(after.0 != before.0 && after.1 != before.1, "revoked {revoke}: {before:?} then {after:?}");
        other.load_worker_key_table().await.expect("a table");
        assert_eq!(writer.change_mark().await.expect("a mark"), after.0, "reading leaves the mark alone");
        before = after;
    }
}
