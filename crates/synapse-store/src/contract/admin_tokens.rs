//! What every store promises of administrators' tokens.

use synapse_core::{
    id::KeyId,
    key::AdminToken,
    store::{StoreError, admin_tokens::AdminTokenStore, keys::KeyStore},
};

use super::Database;

fn new_token() -> AdminToken {
    AdminToken::generate().expect("randomness")
}

pub(crate) async fn a_good_admin_token_is_in_the_table_until_it_is_revoked(db: impl Database) {
    let (gateway, command_line) = (db.open().await, db.open().await);
    assert!(gateway.load_admin_tokens().await.expect("a table").is_empty());
    let token = new_token();
    let made = command_line.create_admin_token(&token, Some("first")).await.expect("a token");
    assert_eq!((made.id.clone(), made.description.as_deref()), (token.id().clone(), Some("first")));
    let table = gateway.load_admin_tokens().await.expect("a table");
    assert_eq!(table.get(&token.hash()), Some(token.id()));
    assert!(!table.contains_key(&AdminToken::generate_for(token.id()).expect("randomness").hash()));
    let mark = gateway.change_mark().await.expect("a mark");
    let revoked = command_line.revoke_admin_token(token.id()).await.expect("the token");
    assert_ne!(gateway.change_mark().await.expect("a mark"), mark);
    assert_eq!(
        command_line.revoke_admin_token(token.id()).await.expect("it"),
        revoked,
        "the first time counts"
    );
    assert!(gateway.load_admin_tokens().await.expect("a table").is_empty());
    assert_eq!(gateway.list_admin_tokens().await.expect("tokens"), [revoked]);
}

pub(crate) async fn a_wrong_admin_token_is_refused(db: impl Database) {
    let store = db.open().await;
    let token = new_token();
    for bad in ["", "a\nb", " a"] {
        let refusal = store.create_admin_token(&token, Some(bad)).await.expect_err("a refusal");
        assert!(matches!(refusal, StoreError::Invalid(_)), "{bad:?}: {refusal:?}");
    }
    store.create_admin_token(&token, None).await.expect("a token");
    let taken = store.create_admin_token(&token, None).await.expect_err("a refusal");
    assert!(matches!(taken, StoreError::AlreadyExists { .. }), "{taken:?}");
    let unknown = store.revoke_admin_token(&KeyId::from("none")).await.expect_err("a refusal");
    assert_eq!(unknown.to_string(), "no such administrator's token: none");
}
