//! What every store promises of changes: others see them, and none is lost.

use super::*;

pub(crate) async fn every_change_moves_the_mark_of_everyone(db: impl Database) {
    let (writer, other) = (db.open().await, db.open().await);
    let key = lab_key(&writer).await;
    let mut marks = (writer.change_mark().await.expect("a mark"), other.change_mark().await.expect("a mark"));
    let disable = KeyChange { disabled: Some(true), ..KeyChange::default() };
    let renewed = ApiKey::generate_for(key.id()).expect("randomness");
    for step in 0..5 {
        match step {
            0 => drop(writer.create_team(&"zoo".into(), &Limits::default()).await.expect("a team")),
            1 => drop(writer.update_team(&"zoo".into(), &switched(true)).await.expect("the team")),
            2 => drop(writer.update_key(key.id(), &disable).await.expect("the key")),
            3 => drop(writer.rotate_key(&renewed, HOUR).await.expect("the key")),
            _ => drop(writer.revoke_key(key.id()).await.expect("the key")),
        }
        let after = (writer.change_mark().await.expect("a mark"), other.change_mark().await.expect("a mark"));
        assert!(after.0 != marks.0 && after.1 != marks.1, "step {step}: {marks:?} then {after:?}");
        marks = after;
    }
}

pub(crate) async fn reading_leaves_the_mark_alone(db: impl Database) {
    let (store, other) = (db.open().await, db.open().await);
    let key = lab_key(&store).await;
    let mark = store.change_mark().await.expect("a mark");
    store.list_teams().await.expect("teams");
    other.get_key(key.id()).await.expect("the key");
    store.load_key_table().await.expect("a table");
    other.create_team(&"lab".into(), &Limits::default()).await.expect_err("a refusal");
    assert_eq!(store.change_mark().await.expect("a mark"), mark);
}

pub(crate) async fn a_change_is_seen_by_others_at_once(db: impl Database) {
    let (gateway, command_line) = (db.open().await, db.open().await);
    let key = lab_key(&command_line).await;
    let table = gateway.load_key_table().await.expect("a table");
    assert_eq!(outcome(&table, &key, Timestamp::now()), "ok");
    command_line.revoke_key(key.id()).await.expect("the key");
    let table = gateway.load_key_table().await.expect("a table");
    assert_eq!(outcome(&table, &key, Timestamp::now()), "key_revoked");
}

pub(crate) async fn writers_on_two_connections_lose_nothing(db: impl Database) {
    const EACH: usize = 15;
    async fn write_keys(store: &impl KeyStore) -> Vec<KeyId> {
        let mut made = Vec::new();
        for _ in 0..EACH {
            let info = store.create_key(&new_key(), &binding("lab")).await.expect("a key");
            store.revoke_key(&info.id).await.expect("the key");
            made.push(info.id);
        }
        made
    }
    let (gateway, command_line) = (db.open().await, db.open().await);
    gateway.create_team(&"lab".into(), &Limits::default()).await.expect("a team");
    let (a, b, c) = tokio::join!(write_keys(&gateway), write_keys(&gateway), write_keys(&command_line));
    let made: HashSet<KeyId> = [a, b, c].concat().into_iter().collect();
    let listed = command_line.list_keys(None).await.expect("keys");
    assert_eq!(listed.iter().map(|key| key.id.clone()).collect::<HashSet<_>>(), made);
    assert_eq!(listed.len(), 3 * EACH);
    assert!(listed.iter().all(|key| key.revoked_at.is_some()));
}

pub(crate) async fn what_was_stored_is_there_after_reopening(db: impl Database) {
    let key = lab_key(&db.open().await).await;
    let store = db.open().await;
    assert_eq!(store.list_teams().await.expect("teams").len(), 1);
    let table = store.load_key_table().await.expect("a table");
    assert_eq!(outcome(&table, &key, Timestamp::now()), "ok");
}
