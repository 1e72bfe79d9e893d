//! Callers' and workers' keys in memory, kept in step with the store: requests never wait for a database,
//! and a change there, by this process or another, is in force as soon as the store tells of it, or is looked at.

use std::sync::Arc;

use anyhow::Context;
use secrecy::ExposeSecret;
use synapse_core::{
    binding::Binding,
    config::snapshot::{StaticKey, StaticWorkerKey},
    data_class::DataClasses,
    glob::Glob,
    id::{GroupName, TeamName},
    key::{AdminToken, ApiKey, SecretHash},
    limits::Limits,
    principal::{DEFAULT_TEAM, KeyTable, Principal},
    store::keys::NewKey,
    worker::WorkerKey,
};
use synapse_gateway::{gateway::Gateway, inspect::policies::Policies};
use synapse_store::place::Stores;
use tokio::sync::Mutex;

use crate::audit::change::{self, Change};

/// Keeps the gateway's keys.
pub(crate) struct KeyKeeper {
    store: Arc<dyn Stores>,
    gateway: Arc<Gateway>,
    /// A key that lives as long as this process.
    passing: Option<ApiKey>,
    /// The store's mark of what is in force; loading holds it, so that an older reading cannot come
    /// after a newer one.
    loaded: Mutex<Option<i64>>,
}

impl KeyKeeper {
    /// A keeper; `demo` adds a key that ends with this process.
    pub(crate) fn new(store: Arc<dyn Stores>, gateway: Arc<Gateway>, demo: bool) -> anyhow::Result<Self> {
        let passing = demo.then(ApiKey::generate).transpose().context("no randomness for a key")?;
        Ok(Self { store, gateway, passing, loaded: Mutex::default() })
    }

    /// The key to show to whoever starts the gateway: the passing one, or, where there is no key at
    /// all, the first, which is made now and shown this once.
    pub(crate) async fn key_to_show(&self) -> anyhow::Result<Option<String>> {
        if let Some(key) = &self.passing {
            return Ok(Some(key.reveal().to_owned()));
        }
        let fixed = !self.gateway.live().snapshot.auth.static_keys.is_empty();
        if fixed || !self.store.list_keys(None).await?.is_empty() {
            return Ok(None);
        }
        let team = TeamName::from(DEFAULT_TEAM);
        if !self.store.list_teams().await?.iter().any(|known| known.name == team) {
            self.store.create_team(&team, &Limits::default()).await?;
            change::by_gateway(&self.gateway, &Change::of_team("team.created", &team));
        }
        let key = ApiKey::generate().context("no randomness for a key")?;
        let new = NewKey {
            team,
            group: GroupName::default(),
            name: Some("first key".to_owned()),
            models: vec![Glob::new("*")],
            expires_at: None,
            binding: Binding::default(),
        };
        let info = self.store.create_key(&key, &new).await?;
        change::by_gateway(&self.gateway, &Change::of_key("key.created", &info));
        self.load().await?;
        Ok(Some(key.reveal().to_owned()))
    }

    /// The administrator's token to show to whoever starts the gateway for the first time: made now, and
    /// shown this once.
    pub(crate) async fn admin_token_to_show(&self) -> anyhow::Result<Option<String>> {
        if !self.store.list_admin_tokens().await?.is_empty() {
            return Ok(None);
        }
        let token = AdminToken::generate().context("no randomness for a token")?;
        let info = self.store.create_admin_token(&token, Some("first token")).await?;
        change::by_gateway(&self.gateway, &Change::of("admin_token.created", &info.id));
        self.load().await?;
        Ok(Some(token.reveal().to_owned()))
    }

    /// Reads all keys and puts them in force.
    pub(crate) async fn load(&self) -> anyhow::Result<()> {
        let mut loaded = self.loaded.lock().await;
        // A change during the reading shows as another mark at the next look.
        let mark = self.store.change_mark().await?;
        self.read().await?;
        *loaded = Some(mark);
        Ok(())
    }

    /// The same, with the watcher to try again if it fails: the configuration's own keys have changed.
    pub(crate) async fn refresh(&self) {
        if let Err(error) = self.load().await {
            *self.loaded.lock().await = None;
            tracing::error!(error = format!("{error:#}"), "the keys cannot be read anew; trying again");
        }
    }

    async fn read(&self) -> anyhow::Result<()> {
        let mut table = self.store.load_key_table().await?;
        let mut workers = self.store.load_worker_key_table().await?;
        let live = self.gateway.live();
        let auth = &live.snapshot.auth;
        for key in &auth.worker_keys {
            workers.insert(SecretHash::of(key.secret.expose_secret()), worker_key_of(key));
        }
        for key in &auth.static_keys {
            table.insert_fixed(principal_of(key), SecretHash::of(key.secret.expose_secret()));
        }
        if let Some(key) = &self.passing {
            let (id, group) = (key.id().clone(), GroupName::default());
            let principal = Principal::unlimited(id, group, Arc::default());
            table.insert_issued(principal, vec![(key.hash(), None)]);
        }
        warn_of_unknown_names(&table, &live.snapshot.data_classes, &live.policies);
        self.gateway.set_admin_tokens(self.store.load_admin_tokens().await?);
        self.gateway.set_worker_keys(workers);
        self.gateway.set_keys(table);
        Ok(())
    }

    /// Looks for changes for as long as the gateway runs.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut failing = false;
        loop {
            self.store.next_look().await;
            let looked = self.look().await;
            self.gateway.set_stores_reachable(looked.is_ok());
            match looked {
                Ok(()) => failing = false,
                // Said once; the keys in memory stay in force.
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(error = format!("{error:#}"), "the key store cannot be read");
                }
                Err(_) => {}
            }
        }
    }

    async fn look(&self) -> anyhow::Result<()> {
        let mark = self.store.change_mark().await?;
        let known = *self.loaded.lock().await;
        if known == Some(mark) { Ok(()) } else { self.load().await }
    }
}

/// Keys of the database may name classes and policies that the configuration does not have; then the strictest holds.
fn warn_of_unknown_names(table: &KeyTable, classes: &DataClasses, policies: &Policies) {
    for principal in table.principals() {
        if let Some(policy) =
            principal.binding.dlp_policy.as_ref().filter(|name| !policies.knows(name.as_str()))
        {
            tracing::warn!(key = %principal.key, %policy, "the configuration has no such policy for sensitive data; `cloud` holds for the key");
        }
        if let Some(class) =
            principal.binding.data_class.as_ref().filter(|name| classes.find(name.as_str()).is_none())
        {
            let most = &classes.of(None).1.name;
            tracing::warn!(key = %principal.key, %class, "the configuration has no such data class; the key's traffic counts as `{most}`");
        }
    }
}

fn principal_of(key: &StaticKey) -> Principal {
    let (id, group, binding) = (key.id.clone(), key.group.clone(), Arc::clone(&key.binding));
    Principal { models: key.models.clone(), ..Principal::unlimited(id, group, binding) }
}

fn worker_key_of(key: &StaticWorkerKey) -> WorkerKey {
    WorkerKey { id: key.id.clone(), group: key.group.clone(), allows_cloud: false }
}
