//! The store contract on a real PostgreSQL.

use synapse_testkit::Postgres;

use super::{PostgresStore, Server};
use crate::contract::{Database, store_contract};

struct OnServer(String);

impl Database for OnServer {
    type Store = PostgresStore;

    async fn create() -> Self {
        Self(Postgres::shared().await.database().await)
    }

    async fn open(&self) -> PostgresStore {
        server(&self.0).open().await.expect("a store")
    }
}

store_contract!(OnServer);

fn server(url: &str) -> Server {
    Server::from_url(&url.to_owned().into()).expect("a URL")
}
